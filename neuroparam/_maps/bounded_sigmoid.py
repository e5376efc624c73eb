"""BoundedSigmoid: values between two bounds."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from neuroparam._ground.errors import ParametrizationError
from neuroparam._ground.messages import describe
from neuroparam._maps.base import Limits, OpenInterval, finite_constant
from neuroparam._maps.floats import (
    just_above,
    just_below,
    log_least_gap,
    log_ratio,
    onto_limits,
    working,
)
from neuroparam._maps.limited import NO_ROOM, LimitedMap
from neuroparam._maps.per_entry import Bounds, has_entries, least_gaps, name_constants
from neuroparam._maps.slopes import Pullback, numbers_of, through_sigmoid

__all__ = ["BoundedSigmoid"]

# The distance, in log(value), up to which the value is computed from the nearer bound.
_NEAR = 0.5


class BoundedSigmoid(LimitedMap):
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
      bound that is not 0; the gradient lives on, as exp(-|raw|), to |raw| = 87 or 708. The
      logarithmic spacing is computed in float64, and half precision otherwise in float32, but
      raw itself then carries 8 (bfloat16) or 11 (float16) bits: keep raw in float32.

    Source: the two branches follow TensorFlow Probability's `Sigmoid(low, high)` bijector.

    Args:
        lower: the bound below every value, in the unit of the value; or a tensor of them, one for
            each entry of the value.
        upper: the bound above every value; or a tensor of them.
        spacing: "linear", or "log" for positive bounds that span orders of magnitude.

    Raises:
        ParametrizationError: a bound is not finite, lower >= upper, an unknown spacing,
            spacing="log" with a bound that is not positive, or tensors of other shapes.

    Examples:
        >>> import torch
        >>> rate = BoundedSigmoid(0.0, 1000.0)
        >>> rate(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([268.9414, 500.0000, 731.0585])
        >>> bool(rate(torch.tensor(1e30)) < 1000.0)
        True
        >>> BoundedSigmoid(1.0, 100.0, spacing="log")(torch.zeros(1))
        tensor([10.])
        >>> BoundedSigmoid(torch.tensor([0.0, 0.5]), 1.0)(torch.zeros(2))
        tensor([0.5000, 0.7500])
    """

    constant_names: ClassVar[tuple[str, ...]] = ("lower", "upper", "spacing")

    def __new__(cls, lower: Any = None, upper: Any = None, *_: Any, **__: Any) -> BoundedSigmoid:
        per_entry = cls is BoundedSigmoid and (has_entries(lower) or has_entries(upper))
        return super().__new__(_BoundedPerEntry if per_entry else cls)

    def __init__(self, lower: float | Tensor, upper: float | Tensor, spacing: str = "linear"):
        super().__init__()
        self.lower: float = finite_constant(self, "lower", lower)
        self.upper: float = finite_constant(self, "upper", upper)
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
        self.domain: constraints.Constraint = OpenInterval(self.lower, self.upper)
        self._prepare()

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        limits = Limits(just_above(self.lower, dtype), just_below(self.upper, dtype))
        if limits.lowest < limits.highest:
            slope = self._extent(limits) * (limits.highest if self.spacing == "log" else 1.0)
            if slope <= torch.finfo(dtype).max:
                return limits
        return NO_ROOM  # The bounds are too close, or too far apart, for this dtype.

    def _extent(self, limits: Limits) -> float:
        lowest, highest = limits
        if self.spacing == "linear":
            return highest - lowest
        ratio = highest / lowest  # It keeps the digits of close bounds; of far ones it is infinite.
        return math.log(ratio) if ratio < math.inf else math.log(highest) - math.log(lowest)

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        if self.spacing == "log":
            return ()  # Its `forward` is another.
        limits = self._limits[dtype]
        return *limits, self._extent(limits)

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        lowest, highest, extent = numbers
        # One call of sigmoid(-|raw|) could serve both sides, but its derivative is 0 at raw = 0,
        # so that training would never leave the midpoint.
        up, down = extent * raw.sigmoid(), extent * (-raw).sigmoid()
        return (lowest + up).where(raw < 0, highest - down)

    def forward(self, raw: Tensor) -> Tensor:
        if self.spacing == "linear":
            return super().forward(raw)
        limits = self.limits(raw.dtype)
        lowest, highest = limits
        x = raw.double()  # A logarithm of up to 200 leaves too few digits to single precision.
        extent = self._extent(limits)
        up, down = extent * torch.sigmoid(x), extent * torch.sigmoid(-x)
        below = x < 0
        # Near a bound the value is computed from that bound, which keeps the distance to it.
        # Between them it is computed from the middle, where the rounding of the exponent leaves
        # no gap between neighbouring values.
        from_lowest = lowest + lowest * torch.expm1(up.clamp(max=_NEAR))
        from_highest = highest + highest * torch.expm1(-down.clamp(max=_NEAR))
        middle = math.sqrt(lowest) * math.sqrt(highest) * torch.exp(extent / 2 * torch.tanh(x / 2))
        monotone = middle.clamp(
            lowest + lowest * math.expm1(_NEAR), highest + highest * math.expm1(-_NEAR)
        )
        # The clamp corrects roundings only, and its gradient is left out.
        middle = middle + (monotone - middle).detach()
        near_bound = torch.where(below, up, down) < _NEAR
        value = torch.where(near_bound, torch.where(below, from_lowest, from_highest), middle)
        return value.to(raw.dtype)

    def with_pullback(self, raw: Tensor) -> tuple[Tensor, Pullback]:
        return self._linear(raw) if self.spacing == "linear" else self._logarithmic(raw)

    def _linear(self, raw: Tensor) -> tuple[Tensor, Pullback]:
        limits = self.limits(raw.dtype)
        numbers = numbers_of(self, raw.dtype)
        extent = numbers[self._extent(limits)]
        # The distance to the nearer bound; here its derivative is not asked for.
        share = raw.abs().neg_().sigmoid_()
        distance = share * extent
        from_highest = numbers[limits.highest] - distance
        from_lowest = distance.add_(numbers[limits.lowest])
        value = torch.where(raw < numbers[0.0], from_lowest, from_highest)

        def pullback(gradient: Tensor) -> Tensor:
            return through_sigmoid(gradient, share).mul_(extent)

        return value, pullback

    def _logarithmic(self, raw: Tensor) -> tuple[Tensor, Pullback]:
        limits = self.limits(raw.dtype)
        numbers = numbers_of(self, torch.float64)
        extent = self._extent(limits)
        if raw.dtype == torch.float64:
            x, value = raw, self.forward(raw)
            exact = value.clone()
        else:
            # The formula for the middle has digits to spare, and single precision rounds them off.
            x = raw.double()
            middle = math.sqrt(limits.lowest) * math.sqrt(limits.highest)
            exponent = (x * numbers[0.5]).tanh_().mul_(numbers[extent / 2])
            exact = exponent.exp_().mul_(numbers[middle])
            value = exact.to(raw.dtype)

        def pullback(gradient: Tensor) -> Tensor:
            share = x.abs().neg_().sigmoid_()
            return gradient * through_sigmoid(exact, share).mul_(numbers[extent]).to(gradient.dtype)

        return value, pullback

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        lowest, highest = limits
        least_a = log_least_gap(lowest, value.dtype)
        least_b = log_least_gap(highest, value.dtype)
        if self.spacing == "linear":
            a, b = value - lowest, highest - value
        else:
            a, b = log_ratio(value.double(), lowest), -log_ratio(value.double(), highest)
            least_a, least_b = least_a - math.log(lowest), least_b - math.log(highest)
        return torch.log(a).clamp(min=least_a) - torch.log(b).clamp(min=least_b)


class _BoundedPerEntry(BoundedSigmoid):
    """A BoundedSigmoid with bounds of its own for each entry."""

    def __init__(self, lower: float | Tensor, upper: float | Tensor, spacing: str = "linear"):
        LimitedMap.__init__(self)
        self._lower = Bounds("BoundedSigmoid(lower=...)", lower, just_above, upper)
        self._upper = Bounds("BoundedSigmoid(upper=...)", upper, just_below, lower)
        low, high = self._lower.exact, self._upper.exact
        for pair in set(zip(low.flatten().tolist(), high.flatten().tolist(), strict=True)):
            BoundedSigmoid(*pair, spacing)  # It checks them.
        self.spacing = spacing
        self.domain = OpenInterval(low.min().item(), high.max().item())
        name_constants(self, "spacing", lower=self._lower, upper=self._upper)
        self._prepare()

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        lowest, highest = self._limits_like(torch.empty(0, dtype=dtype))
        if bool((lowest >= highest).any()):
            return NO_ROOM
        return Limits(lowest.min().item(), highest.max().item())

    def _limits_like(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return self._lower.like(value), self._upper.like(value)

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return ()  # Its `forward` is another.

    def forward(self, raw: Tensor) -> Tensor:
        self._lower.refuse_other_shape(raw, self)
        self.limits(raw.dtype)
        lowest, highest = self._limits_like(raw)
        if self.spacing == "linear":
            numbers: Any = lowest, highest, highest - lowest
            return self.formula(working(raw), *numbers).to(raw.dtype)
        x, low, high = raw.double(), lowest.double(), highest.double()
        extent, middle, below = (high / low).log(), low.sqrt() * high.sqrt(), x < 0
        up, down = low * (extent * x.sigmoid()).exp(), high * (-extent * (-x).sigmoid()).exp()
        value = torch.where(below, up, down)
        ends = torch.where(below, low, middle), torch.where(below, middle, high)
        return onto_limits(value, *ends).to(raw.dtype)

    def outside_domain(self, value: Tensor) -> Tensor:
        self._lower.refuse_other_shape(value, self)
        lower, upper = (each.exact.to(value.device) for each in (self._lower, self._upper))
        return ~((lower < value) & (value < upper))

    def outside(self, value: Tensor) -> Tensor:
        self._lower.refuse_other_shape(value, self)
        self.limits(value.dtype)
        lowest, highest = self._limits_like(value)
        return ~((value >= lowest) & (value <= highest))

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        lowest, highest = self._limits_like(value)
        least_a, least_b = (least_gaps(limit, value.dtype) for limit in (lowest, highest))
        if self.spacing == "linear":
            a, b = value - lowest, highest - value
        else:
            a = log_ratio(value.double(), lowest.double())
            b = -log_ratio(value.double(), highest.double())
            least_a, least_b = least_a - lowest.log(), least_b - highest.log()
        return a.log().clamp(min=least_a) - b.log().clamp(min=least_b)

    def _get_name(self) -> str:
        return BoundedSigmoid.__name__

    def extra_repr(self) -> str:
        return f"lower={self._lower!r}, upper={self._upper!r}, spacing={self.spacing!r}"
