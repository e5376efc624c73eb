"""The three maps from an unconstrained raw tensor to a valid value. Knows tensors only."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from neuroparam.errors import (
    CheckpointError,
    OutOfDomainError,
    ParametrizationError,
    describe,
)
from neuroparam.given import number

__all__ = ["BoundedSigmoid", "ExpScaledLog", "Parametrization", "Softplus"]

_SIGNIFICANT_BITS = {torch.float64: 53, torch.float32: 24, torch.bfloat16: 8, torch.float16: 11}
# exponents of two between which a number, its reciprocal and its square are normal numbers
EXPONENTS = {torch.float64: 510, torch.float32: 62, torch.bfloat16: 62, torch.float16: 14}


class Limits(NamedTuple):
    """The smallest and the largest value that a map returns in one dtype."""

    lowest: float
    highest: float


NO_ROOM = Limits(math.inf, -math.inf)


def _spacing(number: float, dtype: torch.dtype) -> float:
    """Distance from `number` to the next float of `dtype` away from zero, at least `tiny`."""
    tiny = torch.finfo(dtype).tiny
    return max(math.ldexp(1.0, math.frexp(number)[1] - _SIGNIFICANT_BITS[dtype]), tiny)


def just_above(bound: float, dtype: torch.dtype) -> float:
    """The next normal float of `dtype` above `bound` as that dtype rounds it."""
    tiny = torch.finfo(dtype).tiny
    if abs(bound) < tiny:
        return tiny
    step = _spacing(bound, dtype)
    if bound < 0 and math.frexp(bound)[0] == -0.5:
        step /= 2  # towards zero from a power of two the floats lie twice as dense
    return round(bound / step) * step + step


def just_below(bound: float, dtype: torch.dtype) -> float:
    return -just_above(-bound, dtype)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision in which maps are computed for raw tensors of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _nearly_largest(dtype: torch.dtype) -> float:
    """Somewhat below the largest number, which a rounding could exceed."""
    return torch.finfo(dtype).max * (1 - 2.0**-6)


def working(raw: Tensor) -> Tensor:
    """`raw` in the precision in which maps are computed: half precision in float32."""
    return raw.float() if raw.dtype in (torch.float16, torch.bfloat16) else raw


def _log_ratio(value: Tensor, bound: float) -> Tensor:
    """log(value / bound), accurate also where the two are close."""
    gap = value - bound  # exact between bound / 2 and 2 * bound (Sterbenz)
    close = gap.abs() < bound / 2
    # the rounding of a value to half precision can carry the ratio beyond the working one
    numbers = torch.finfo(value.dtype)
    ratio = (value / bound).clamp(numbers.tiny, numbers.max)
    return torch.where(close, torch.log1p(torch.where(close, gap / bound, 0.0)), torch.log(ratio))


def _log_least_gap(limit: float, dtype: torch.dtype) -> float:
    """Logarithm of the distance given to a value that lies right at a limit.

    An eighth of the spacing of floats there: adding it leaves the value where it is, and raw
    stays finite and, next to a bound that is not 0, keeps a gradient.
    """
    exponent = math.frexp(max(abs(limit), torch.finfo(dtype).tiny))[1]
    return (exponent - _SIGNIFICANT_BITS[dtype] - 3) * math.log(2.0)


class OpenInterval(constraints.Constraint):
    """lower < x < upper: torch has the closed and the half-open one only."""

    def __init__(self, lower: float, upper: float):
        self.lower_bound = lower
        self.upper_bound = upper
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return (self.lower_bound < value) & (value < self.upper_bound)

    def __repr__(self) -> str:
        return f"OpenInterval(lower_bound={self.lower_bound}, upper_bound={self.upper_bound})"


def constant(owner: object, name: str, value: object) -> float:
    """A constant given by the user as a finite python float."""
    found = number(value)
    if found is None or not math.isfinite(found):
        raise ParametrizationError(
            f"{type(owner).__name__}({name}=...) must be one finite number, got {describe(value)}."
        )
    return found


def _is_positive(number: object) -> bool:
    return isinstance(number, float) and 0.0 < number < math.inf


class Parametrization(nn.Module):
    """Base of the maps: elementwise, strictly monotone, any shape.

    A subclass is a torch parametrization (`forward` and `right_inverse`) that also states its
    domain. Its constants are python floats, never buffers: they follow no dtype, and code that
    walks over a module's buffers cannot change them.

    A constant that the user leaves out (None) is fitted to the first value that
    `right_inverse` sees. It travels with `state_dict` and is adopted from a checkpoint;
    constants that the user gave must agree with the checkpoint's.
    """

    _constants: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self._fitted: frozenset[str] = frozenset()
        self._limits: dict[torch.dtype, Limits] = {}

    @property
    def domain(self) -> constraints.Constraint:
        """The open set of valid values, as a `torch.distributions` constraint."""
        raise NotImplementedError

    def domain_in_words(self) -> str:
        """The domain as it stands in tables and messages."""
        raise NotImplementedError

    def _fit(self, value: Tensor) -> None:
        """Sets the constants left as None from `value` (float64, all inside the domain)."""

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        """The interval of values that the map reaches when raw has this dtype."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Precomputes what depends on the constants, for every dtype that raw can have."""
        self._limits = {}
        for dtype in _SIGNIFICANT_BITS:
            lowest, highest = self._limits_in(dtype)
            largest = torch.finfo(dtype).max
            fits = -largest <= lowest < highest <= largest
            self._limits[dtype] = Limits(lowest, highest) if fits else NO_ROOM

    def limits(self, dtype: torch.dtype) -> Limits:
        """The smallest and largest value this map returns for a raw tensor of `dtype`.

        Raises:
            ParametrizationError: a constant is still None, the dtype is not floating, or it has
                no room for the constants (bounds that round to neighbours, a reference beyond
                its largest number).
        """
        limits = self._limits.get(dtype)
        if limits is not None and limits.lowest < limits.highest:
            return limits
        unset = [name for name in self._constants if getattr(self, name) is None]
        if unset:
            problem = (
                f"{', '.join(unset)} is fitted to the first value that right_inverse sees; "
                f"attach it, or give the constant"
            )
        elif limits is None:
            problem = f"raw must be floating point, got {dtype}"
        else:
            problem = (
                f"its constants leave no room in {dtype}; give others, or use the module in "
                f"double precision"
            )
        raise ParametrizationError(f"{self!r} cannot be evaluated: {problem}.")

    def outside(self, value: Tensor) -> Tensor:
        """Which entries of `value` this map cannot represent, as a boolean tensor."""
        lowest, highest = self.limits(value.dtype)
        return ~((value >= lowest) & (value <= highest))

    def right_inverse(self, value: Tensor) -> Tensor:
        """The raw tensor whose value this is; a new tensor of the same shape and dtype.

        Args:
            value: the values, any shape, floating point, inside the domain.

        Raises:
            OutOfDomainError: some values are outside the domain, or NaN.
        """
        value = value.detach()
        if not self._limits:
            wrong = ~(self.domain.check(value) & torch.isfinite(value))
            if bool(wrong.any()):
                raise OutOfDomainError(value, wrong, self.domain_in_words())
            self._fit(value.double())
            self._prepare()
        wrong = self.outside(value)
        if bool(wrong.any()):
            raise OutOfDomainError(value, wrong, self.domain_in_words())
        return self._invert(working(value), self.limits(value.dtype)).to(value.dtype)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        raise NotImplementedError

    def get_extra_state(self) -> dict[str, Any]:
        """The constants as plain floats, safe to load with `weights_only=True`."""
        return {
            "parametrization": type(self).__name__,
            **{name: getattr(self, name) for name in self._constants},
        }

    def check_extra_state(self, state: dict[str, Any]) -> None:
        """Raises unless a checkpoint's constants can be adopted, or agree with the user's.

        Raises:
            CheckpointError: another parametrization, other constants, or a fitted constant that
                is missing or makes no sense.
        """
        mine = self.get_extra_state()
        differing = sorted(
            name
            for name in mine.keys() | state.keys()
            if (
                not _is_positive(state.get(name))
                if name in self._fitted
                else mine.get(name) != state.get(name)
            )
        )
        if differing:
            raise CheckpointError(
                f"the checkpoint was written with "
                f"{', '.join(f'{name}={state.get(name)!r}' for name in differing)}, this module "
                f"has {', '.join(f'{name}={mine.get(name)!r}' for name in differing)}. The same "
                f"raw values would mean other values: attach with the checkpoint's constants."
            )

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Adopts fitted constants from a checkpoint.

        Raises:
            CheckpointError: as `check_extra_state`.
        """
        self.check_extra_state(state)
        for name in self._fitted:
            setattr(self, name, state[name])
        if all(getattr(self, name) is not None for name in self._constants):
            self._prepare()

    def extra_repr(self) -> str:
        shown = ((name, getattr(self, name)) for name in self._constants)
        return ", ".join(
            f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in shown
        )


# log(e - 1): softplus(raw + _SHIFT) is 1 at raw = 0, so that raw = 0 means lower + scale
_ODDS = math.e - 1.0
_SHIFT = math.log(_ODDS)
# the distance, in log(value), up to which BoundedSigmoid works from the nearer bound
_NEAR = 0.5
# above this, softplus(x) = x to the last bit of float64
_LINEAR = 40.0


class Softplus(Parametrization):
    r"""Values above a lower bound that grow additively: thresholds, and long time constants.

    value = lower + scale * log(1 + (e - 1) * exp(raw)), that is lower + scale * softplus(raw +
    log(e - 1)), and raw = log(expm1(y) / (e - 1)) with y = (value - lower) / scale.

    * raw = 0 is lower + scale; the slope there is (1 - 1/e) * scale = 0.632 * scale. The slope
      tends to scale for large raw, and to value - lower for very negative raw.
    * Weight decay pulls the value to lower + scale.
    * Limits: the value stays above `lower` by at least one unit in the last place of its dtype
      (by the smallest normal number where lower = 0) and below the largest finite number, for
      every finite raw; the gradient with respect to raw is then 0 for raw below -87 (float32),
      -708 (float64). Half precision is computed in float32, but raw itself then carries 8
      (bfloat16) or 11 (float16) bits, and small updates vanish: keep raw in float32.

    Source: Dugas et al. 2001 (softplus); the stable inverse as in TensorFlow Probability's
    `Softplus` bijector. The factor e - 1 in place of a shift of raw saves two roundings.

    Args:
        lower: the bound below every value, in the unit of the value.
        scale: distance from `lower` at raw = 0, in the unit of the value, > 0. None: fitted to
            the mean distance of the initial value from `lower`, so that one learning rate
            suits every unit.

    Raises:
        ParametrizationError: a constant is not finite, or scale is not positive.

    Examples:
        >>> import torch
        >>> threshold = Softplus(lower=0.5, scale=1.0)
        >>> threshold(torch.zeros(1))
        tensor([1.5000])
        >>> threshold.right_inverse(torch.tensor([2.5]))
        tensor([1.3133])
    """

    _constants = ("lower", "scale")

    def __init__(self, lower: float = 0.0, scale: float | None = None):
        super().__init__()
        self.lower = constant(self, "lower", lower)
        self.scale: float | None = None
        if scale is None:
            self._fitted = frozenset({"scale"})
        else:
            self.scale = constant(self, "scale", scale)
            if self.scale <= 0:
                raise ParametrizationError(f"Softplus(scale=...) must be > 0, got {scale!r}.")
            self._prepare()

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.greater_than(self.lower)

    def domain_in_words(self) -> str:
        return f"({self.lower:g}, inf)"

    def _fit(self, value: Tensor) -> None:
        self.scale = (value - self.lower).mean().item()

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        assert self.scale is not None
        lowest, highest = just_above(self.lower, dtype), _nearly_largest(dtype)
        smallest = torch.finfo(working_dtype(dtype)).tiny
        if lowest > highest * (1 - 2.0**-6) or not smallest <= self.scale <= highest:
            return NO_ROOM
        # raw is nearly (value - lower) / scale, and must be a number of this dtype too
        return Limits(lowest, min(highest, lowest + self.scale * highest))

    def forward(self, raw: Tensor) -> Tensor:
        lowest, _ = self.limits(raw.dtype)
        assert self.scale is not None
        r = working(raw)
        # keeps the value finite: the raw of nearly the largest one
        largest = _nearly_largest(raw.dtype) * (1 - 2.0**-7)
        top = (largest - max(lowest, 0.0)) / self.scale
        top = top - _SHIFT if top > _LINEAR else math.log(math.expm1(top) / _ODDS)
        r = r.clamp(max=min(top, largest))
        curved = torch.log1p(_ODDS * torch.exp(r.clamp(max=_LINEAR)))
        y = torch.where(r > _LINEAR, r + _SHIFT, curved)
        # `lowest` in place of `lower`: inside by construction, so no clamp kills the gradient
        return (lowest + self.scale * y).to(raw.dtype)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        assert self.scale is not None
        least = _log_least_gap(limits.lowest, value.dtype) - math.log(self.scale)
        y = (value - limits.lowest) / self.scale
        curved = torch.log(torch.expm1(y.clamp(max=_LINEAR)) / _ODDS).clamp(min=least - _SHIFT)
        return torch.where(y > _LINEAR, y - _SHIFT, curved)


class ExpScaledLog(Parametrization):
    r"""Positive values trained on a logarithmic scale: time constants, rates, capacitances.

    value = reference * exp(scale * raw) and raw = log(value / reference) / scale.

    * raw = 0 is the reference, bit for bit; the slope there is scale * reference. A step of
      size s in raw multiplies the value by exp(scale * s), in whatever unit it is stored, so
      `scale` acts as a factor on the learning rate.
    * Weight decay pulls the value to the reference.
    * Limits: for every finite raw the value stays between 2**-62 and 2**62 (2**-510 and 2**510
      in float64, 2**-14 and 2**14 in float16), so that its square and its reciprocal, which
      neurons form, have finite gradients; beyond, its own gradient is 0. The round trip value
      -> raw -> value has a relative error of at most
      eps * (2 + 1.5 * |log(value / reference)|). Half precision is computed in float32, but raw
      itself then carries 8 (bfloat16) or 11 (float16) bits: keep raw in float32.

    Source: the logarithmic parametrization of positive scale parameters, as in LRU (Orvieto et
    al. 2023) and S4D (Gu et al. 2022).

    Args:
        scale: change of log(value) per unit of raw, > 0, no unit.
        reference: the value at raw = 0, > 0, in the unit of the value. None: fitted to the
            geometric mean of the initial value.

    Raises:
        ParametrizationError: a constant is not finite and positive.

    Examples:
        >>> import torch
        >>> rate = ExpScaledLog(reference=100.0)
        >>> rate(torch.tensor([0.0, 0.6931472]))
        tensor([100., 200.])
        >>> rate.right_inverse(torch.tensor([100.0]))
        tensor([0.])
    """

    _constants = ("scale", "reference")

    def __init__(self, scale: float = 1.0, reference: float | None = None):
        super().__init__()
        self.scale = constant(self, "scale", scale)
        if self.scale <= 0:
            raise ParametrizationError(f"ExpScaledLog(scale=...) must be > 0, got {scale!r}.")
        self.reference: float | None = None
        if reference is None:
            self._fitted = frozenset({"reference"})
        else:
            self.reference = constant(self, "reference", reference)
            if self.reference <= 0:
                raise ParametrizationError(
                    f"ExpScaledLog(reference=...) must be > 0, got {reference!r}."
                )
            self._prepare()

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.positive

    def domain_in_words(self) -> str:
        return "(0, inf)"

    def _fit(self, value: Tensor) -> None:
        lowest, highest = value.min().item(), value.max().item()
        # exp(mean(log)) of equal values would miss them by a rounding
        self.reference = lowest if lowest == highest else value.log().mean().exp().item()

    def _exponents_in(self, dtype: torch.dtype) -> tuple[float, float]:
        """Bounds of scale * raw between which value and gradient are normal, finite numbers."""
        assert self.reference is not None
        stored = torch.finfo(dtype)
        computed = torch.finfo(working_dtype(dtype))
        margin = 1e-3  # well above the rounding of an exponent of up to 709
        # not from `tiny` to `max`: neurons form 1 / value and products, with gradients of their own
        widest = EXPONENTS[dtype] * math.log(2.0)
        low = max(-widest - math.log(self.reference), math.log(computed.tiny))
        high = min(
            widest - math.log(self.reference),
            math.log(stored.max) - math.log(self.reference) - math.log(max(1.0, self.scale)),
            math.log(computed.max),
        )
        reach = self.scale * (stored.max / 2)  # raw must be a number of this dtype too
        return max(low + margin, -reach), min(high - margin, reach)

    def _prepare(self) -> None:
        self._exponents = {dtype: self._exponents_in(dtype) for dtype in EXPONENTS}
        super()._prepare()

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        assert self.reference is not None
        low, high = self._exponents[dtype]
        if not low < 0.0 < high or self.scale < torch.finfo(working_dtype(dtype)).tiny:
            return NO_ROOM  # this dtype cannot hold the reference, or the scale
        slack = 1e-4 + 2 * torch.finfo(dtype).eps  # the rounding of exp, and to half precision
        return Limits(
            max(self.reference * math.exp(low) * (1 - slack), torch.finfo(dtype).tiny),
            min(self.reference * math.exp(high) * (1 + slack), torch.finfo(dtype).max),
        )

    def forward(self, raw: Tensor) -> Tensor:
        self.limits(raw.dtype)
        assert self.reference is not None
        exponent = (self.scale * working(raw)).clamp(*self._exponents[raw.dtype])
        return (self.reference * torch.exp(exponent)).to(raw.dtype)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        assert self.reference is not None
        return _log_ratio(value, self.reference) / self.scale


class BoundedSigmoid(Parametrization):
    r"""Values between two bounds: rates of an Euler cell, decays, negative thresholds.

    With s = sigmoid(raw), in the linear spacing value = lower + (upper - lower) * s, and in the
    logarithmic one value = lower * (upper / lower) ** s. Both are computed from the nearer
    bound, as lower + ... for raw < 0 and upper - ... with sigmoid(-raw) for raw >= 0, so that
    the distance to either bound keeps its full relative precision.

    The inverse is raw = log(a) - log(b) with a = value - lower, b = upper - value (linear), or
    a = log(value / lower), b = log(upper / value) (log).

    * raw = 0 is (lower + upper) / 2 with slope (upper - lower) / 4, or sqrt(lower * upper) with
      slope value * log(upper / lower) / 4.
    * Weight decay pulls the value to that midpoint.
    * Limits: for every finite raw the value stays inside by at least one unit in the last place
      of its dtype. It sticks there from |raw| of about 17 (float32), 37 (float64) on, next to a
      bound that is not 0; the gradient lives on, as exp(-|raw|), to |raw| = 87 or 708. Half
      precision is computed in float32, but raw itself then carries 8 (bfloat16) or 11
      (float16) bits: keep raw in float32.

    Source: the two branches follow TensorFlow Probability's `Sigmoid(low, high)` bijector.

    Args:
        lower: the bound below every value, in the unit of the value.
        upper: the bound above every value.
        spacing: "linear", or "log" for positive bounds that span orders of magnitude.

    Raises:
        ParametrizationError: a bound is not finite, lower >= upper, an unknown spacing, or
            spacing="log" with a bound that is not positive.

    Examples:
        >>> import torch
        >>> rate = BoundedSigmoid(0.0, 1000.0)
        >>> rate(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([268.9414, 500.0000, 731.0585])
        >>> bool(rate(torch.tensor(1e30)) < 1000.0)
        True
        >>> BoundedSigmoid(1.0, 100.0, spacing="log")(torch.zeros(1))
        tensor([10.])
    """

    _constants = ("lower", "upper", "spacing")

    def __init__(self, lower: float, upper: float, spacing: str = "linear"):
        super().__init__()
        self.lower = constant(self, "lower", lower)
        self.upper = constant(self, "upper", upper)
        self.spacing = spacing
        if not self.lower < self.upper:
            raise ParametrizationError(
                f"BoundedSigmoid needs lower < upper, got lower={lower!r}, upper={upper!r}."
            )
        if not isinstance(spacing, str) or spacing not in ("linear", "log"):
            raise ParametrizationError(
                f'BoundedSigmoid(spacing=...) is "linear" or "log", got {describe(spacing)}.'
            )
        if spacing == "log" and self.lower <= 0:
            raise ParametrizationError(
                f'BoundedSigmoid(spacing="log") needs 0 < lower, got lower={lower!r}; use '
                f'spacing="linear".'
            )
        self._prepare()

    @property
    def domain(self) -> constraints.Constraint:
        return OpenInterval(self.lower, self.upper)

    def domain_in_words(self) -> str:
        return f"({self.lower:g}, {self.upper:g})"

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        limits = Limits(just_above(self.lower, dtype), just_below(self.upper, dtype))
        if limits.lowest < limits.highest:
            slope = self._extent(limits) * (limits.highest if self.spacing == "log" else 1.0)
            if slope <= torch.finfo(dtype).max:
                return limits
        return NO_ROOM  # the bounds are too close, or too far apart, for this dtype

    def _extent(self, limits: Limits) -> float:
        lowest, highest = limits
        return math.log(highest / lowest) if self.spacing == "log" else highest - lowest

    def forward(self, raw: Tensor) -> Tensor:
        limits = self.limits(raw.dtype)
        lowest, highest = limits
        x = working(raw)
        extent = self._extent(limits)
        # sigmoid(-|raw|) would serve both sides with one call, and freeze training: its
        # derivative at raw = 0, the midpoint, is 0
        up, down = extent * torch.sigmoid(x), extent * torch.sigmoid(-x)
        below = x < 0
        if self.spacing == "linear":
            return torch.where(below, lowest + up, highest - down).to(raw.dtype)
        # next to a bound from that bound, which keeps the distance to it; in between from the
        # middle, where rounding the exponent cannot open a gap
        from_lowest = lowest + lowest * torch.expm1(up.clamp(max=_NEAR))
        from_highest = highest + highest * torch.expm1(-down.clamp(max=_NEAR))
        middle = math.sqrt(lowest) * math.sqrt(highest) * torch.exp(extent / 2 * torch.tanh(x / 2))
        monotone = middle.clamp(
            lowest + lowest * math.expm1(_NEAR), highest + highest * math.expm1(-_NEAR)
        )
        middle = middle + (monotone - middle).detach()  # a rounding, with the gradient kept
        near_bound = torch.where(below, up, down) < _NEAR
        value = torch.where(near_bound, torch.where(below, from_lowest, from_highest), middle)
        return value.to(raw.dtype)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        lowest, highest = limits
        least_a = _log_least_gap(lowest, value.dtype)
        least_b = _log_least_gap(highest, value.dtype)
        if self.spacing == "linear":
            a, b = value - lowest, highest - value
        else:
            a, b = _log_ratio(value, lowest), -_log_ratio(value, highest)
            least_a, least_b = least_a - math.log(lowest), least_b - math.log(highest)
        return torch.log(a).clamp(min=least_a) - torch.log(b).clamp(min=least_b)
