"""How a library writes a time constant: exact maps from seconds. Knows tensors only."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from neuroparam.errors import ParametrizationError
from neuroparam.parametrizations import (
    EXPONENTS,
    NO_ROOM,
    Limits,
    OpenInterval,
    Parametrization,
    constant,
    just_above,
    just_below,
    working,
    working_dtype,
)

__all__ = ["Above", "Bitshift", "Decay", "Rate", "Steps", "UnitMap", "WithStep", "bounds_of"]


def bounds_of(maps: Iterable[nn.Module]) -> tuple[float, float]:
    """The open interval of the values that a chain of maps reaches.

    >>> from neuroparam import BoundedSigmoid
    >>> bounds_of([BoundedSigmoid(0.01, 0.1), Rate()])
    (10.0, 100.0)
    """
    bounds = -math.inf, math.inf
    for link in maps:
        if isinstance(link, Link):
            # a map of the user's own states no domain, and what is below 0 it may not give
            bounds = link.image(max(bounds[0], 0.0), bounds[1])
        else:
            domain = link.domain if isinstance(link, Parametrization) else constraints.real
            bounds = (
                float(getattr(domain, "lower_bound", -math.inf)),
                float(getattr(domain, "upper_bound", math.inf)),
            )
    return bounds


class Link(Parametrization):
    """Base of the strictly monotone maps that go behind a parametrization, in torch's chain."""

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        """The interval of values for time constants between two bounds."""
        raise NotImplementedError

    def _formula(self, tau: Tensor) -> Tensor:
        """The formula, without guards."""
        raise NotImplementedError

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        """The time constants between which the formula and its gradient are finite."""
        raise NotImplementedError

    @property
    def domain(self) -> constraints.Constraint:
        return OpenInterval(*self.image(0.0, math.inf))

    def domain_in_words(self) -> str:
        low, high = self.image(0.0, math.inf)
        return f"({low:g}, {high:g})"

    def forward(self, tau: Tensor) -> Tensor:
        limits = self.limits(tau.dtype)
        t = working(tau)
        value = self._formula(t.clamp(*self._reach(limits, t.dtype)))
        inside = value.clamp(*limits)
        # a rounding onto a bound: moved off it, with the gradient kept
        return (value + (inside - value).detach()).to(tau.dtype)


class UnitMap(Link):
    """Base of the maps from a time constant in seconds to the number that a library stores.

    Behind a parametrization they make a time constant in seconds what is trained:
    `{"beta": [ExpScaledLog(), Decay(dt=1e-3)]}`. The parametrization's fitted constants, bounds
    and weight decay then speak of seconds.
    """


def _powers(dtype: torch.dtype) -> Limits:
    return Limits(2.0 ** -EXPONENTS[dtype], 2.0 ** EXPONENTS[dtype])


class Rate(UnitMap):
    r"""A rate, in 1/s: Norse's `tau_mem_inv`.

    rate = 1 / tau, and tau = 1 / rate; strictly decreasing.

    Limits: rates between 2**-62 and 2**62 in float32 (2**-510 to 2**510 in float64, 2**-14 to
    255 in float16); a time constant beyond counts as that limit, with a gradient of 0.

    Examples:
        >>> import torch
        >>> Rate()(torch.tensor([0.01, 0.02]))
        tensor([100.,  50.])
        >>> Rate().right_inverse(torch.tensor([100.0]))
        tensor([0.0100])
    """

    def __init__(self) -> None:
        super().__init__()
        self._prepare()

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        return 1 / upper, 1 / lower if lower > 0 else math.inf

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        powers = _powers(dtype)
        # the gradient is the square of the rate, which float16 holds to 255 only
        return Limits(powers.lowest, min(powers.highest, math.isqrt(int(torch.finfo(dtype).max))))

    def _formula(self, tau: Tensor) -> Tensor:
        return 1 / tau

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return 1 / limits.highest, 1 / limits.lowest

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return 1 / value


class WithStep(UnitMap):
    """A unit map that depends on the time step.

    Args:
        dt: the duration of one step of the simulation, in seconds, > 0.
    """

    _constants = ("dt",)

    def __init__(self, dt: float):
        super().__init__()
        self.dt = constant(self, "dt", dt)
        if self.dt <= 0:
            raise ParametrizationError(f"{type(self).__name__}(dt=...) must be > 0, got {dt!r}.")
        self._prepare()

    def _prepare(self) -> None:
        super()._prepare()
        for dtype in self._limits:
            least, most = _powers(working_dtype(dtype))
            if not least <= self.dt <= most:
                self._limits[dtype] = NO_ROOM


class Decay(WithStep):
    r"""A decay factor per time step, between 0 and 1: snnTorch's `beta`, Sinabs' `alpha_mem`.

    decay = exp(-dt / tau), and tau = -dt / log(decay); strictly increasing.

    Limits: a decay stays below 1 by at least half the spacing of floats there (6e-8 in float32)
    and above 0; below tau = dt / 87 (float32) or dt / 700 (float64) the gradient is 0. The
    stored decay carries a time constant to a relative precision of 6e-8 * tau / dt in float32.

    Args:
        dt: the duration of one time step, in seconds, > 0.

    Raises:
        ParametrizationError: dt is not finite and positive.

    Examples:
        >>> import torch
        >>> Decay(dt=1e-3)(torch.tensor([0.01, 0.02]))
        tensor([0.9048, 0.9512])
        >>> Decay(dt=1e-3).right_inverse(torch.tensor([0.9512294]))
        tensor([0.0200])
    """

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        return math.exp(-self.dt / lower) if lower > 0 else 0.0, math.exp(-self.dt / upper)

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        return Limits(torch.finfo(dtype).tiny, just_below(1.0, dtype))

    def _formula(self, tau: Tensor) -> Tensor:
        return torch.exp(-self.dt / tau)

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return self.dt / -math.log(limits.lowest), math.sqrt(torch.finfo(dtype).max)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return -self.dt / torch.log(value)


class Steps(WithStep):
    r"""A number of time steps: SpikingJelly's and Sinabs' `tau`.

    steps = tau / dt, and tau = steps * dt.

    Args:
        dt: the duration of one time step, in seconds, > 0.

    Raises:
        ParametrizationError: dt is not finite and positive.

    Examples:
        >>> import torch
        >>> Steps(dt=0.5)(torch.tensor([10.0, 20.0]))
        tensor([20., 40.])
        >>> Steps(dt=1e-3).right_inverse(torch.tensor([20.0]))
        tensor([0.0200])
    """

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        return lower / self.dt, upper / self.dt

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        return _powers(dtype)

    def _formula(self, tau: Tensor) -> Tensor:
        return tau / self.dt

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return limits.lowest * self.dt, limits.highest * self.dt

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return value * self.dt


class Bitshift(WithStep):
    r"""A bitshift decay: Rockpool's `dash_mem`, with decay = 1 - 2**-dash per time step.

    dash = -log2(1 - exp(-dt / tau)), and tau = -dt / log(1 - 2**-dash); strictly increasing.

    Limits: as `Decay`.

    Args:
        dt: the duration of one time step, in seconds, > 0.

    Raises:
        ParametrizationError: dt is not finite and positive.

    Examples:
        >>> import torch
        >>> Bitshift(dt=1e-3)(torch.tensor([0.0160]))
        tensor([4.0448])
    """

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        return self._of(lower), self._of(upper)

    def _of(self, tau: float) -> float:
        if tau == 0.0 or math.isinf(tau):
            return tau
        return -math.log2(-math.expm1(-self.dt / tau))

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        # the library forms 1 - 2**-dash: beyond these it would be 0 or 1
        return Limits(*(self._of(self.dt * steps) for steps in self._range(dtype)))

    def _range(self, dtype: torch.dtype) -> tuple[float, float]:
        eps = torch.finfo(dtype).eps
        return -1 / math.log(2 * eps), 1 / (2 * eps)

    def _formula(self, tau: Tensor) -> Tensor:
        return -torch.log2(-torch.expm1(-self.dt / tau))

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        low, high = self._range(dtype)
        return low * self.dt, high * self.dt

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return -self.dt / torch.log1p(-torch.exp2(-value))


class Above(Link):
    r"""Keeps a time constant above the time step, for libraries that integrate by forward Euler.

    tau = lower + excess: with a positive map before it, what is trained is by how much the time
    constant exceeds `lower`. `make_trainable` puts it in by itself where a `Quantity` of an
    Euler cell is given a map that reaches down to 0.

    Args:
        lower: the bound below every time constant, in seconds, >= 0.

    Raises:
        ParametrizationError: lower is not finite, or negative.

    Examples:
        >>> import torch
        >>> Above(1e-3)(torch.tensor([0.0, 0.019]))
        tensor([0.0010, 0.0200])
    """

    _constants = ("lower",)

    def __init__(self, lower: float):
        super().__init__()
        self.lower = constant(self, "lower", lower)
        if self.lower < 0:
            raise ParametrizationError(f"Above(lower=...) must be >= 0, got {lower!r}.")
        self._prepare()

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        return self.lower + lower, self.lower + upper

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        return Limits(just_above(self.lower, dtype), torch.finfo(dtype).max * (1 - 2.0**-6))

    def _formula(self, tau: Tensor) -> Tensor:
        return tau + self.lower

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return 0.0, limits.highest - self.lower

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        # at the bound itself the excess is what no addition would show
        return (value - self.lower).clamp(min=limits.lowest * torch.finfo(value.dtype).eps / 8)
