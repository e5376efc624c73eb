"""How a library writes a quantity: exact maps from its unit to the number that is stored."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from neuroparam._ground.errors import ParametrizationError
from neuroparam._maps.base import Limits, finite_constant
from neuroparam._maps.floats import EXPONENTS, just_below, onto_limits, working_dtype
from neuroparam._maps.limited import NO_ROOM
from neuroparam._maps.slopes import Pullback, numbers_of
from neuroparam._maps.time_constants import UnitMap, WithStep, powers_of_two

__all__ = [
    "Bitshift",
    "Decay",
    "Leak",
    "LogRate",
    "Logarithm",
    "Rate",
    "SigmoidRate",
    "Steps",
]


class Rate(UnitMap):
    r"""A rate, in 1/s: Norse's `tau_mem_inv`.

    rate = 1 / tau, and tau = 1 / rate; strictly decreasing.

    Limits: rates between `2**-62` and `2**62` in float32 (`2**-510` to `2**510` in float64,
    `2**-14` to 255 in float16); a time constant beyond counts as that limit, with a gradient
    of 0.

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

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return 1 / upper, 1 / lower if lower > 0 else math.inf

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        powers = powers_of_two(dtype)
        # The gradient is the square of the rate, and float16 holds squares up to 255 ** 2 only.
        return Limits(powers.lowest, min(powers.highest, math.isqrt(int(torch.finfo(dtype).max))))

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self._with_reach(1.0, dtype)

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        one, low, high, lowest, highest = numbers
        return onto_limits(one / raw.clamp(low, high), lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        rate = tau.reciprocal_()
        return rate, lambda gradient: (gradient * rate).mul_(rate).neg_()

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return 1 / limits.highest, 1 / limits.lowest

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return 1 / value


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

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return math.exp(-self.dt / lower) if lower > 0 else 0.0, math.exp(-self.dt / upper)

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        return Limits(torch.finfo(dtype).tiny, just_below(1.0, dtype))

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        dt, low, high, lowest, highest = numbers
        return onto_limits((-dt / raw.clamp(low, high)).exp(), lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        numbers = numbers_of(self, tau.dtype)
        per_step = numbers[1 / self.dt]
        exponent = tau.reciprocal_().mul_(numbers[-self.dt])
        decay = exponent.exp()

        def pullback(gradient: Tensor) -> Tensor:
            # In this order no product underflows before the gradient does.
            return (gradient * decay).mul_(exponent).mul_(per_step).mul_(exponent)

        return decay, pullback

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

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return lower / self.dt, upper / self.dt

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        return powers_of_two(dtype)

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        dt, low, high, lowest, highest = numbers
        return onto_limits(raw.clamp(low, high) / dt, lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        dt = numbers_of(self, tau.dtype)[self.dt]
        return tau.div_(dt), lambda gradient: gradient / dt

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

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return self._of(lower), self._of(upper)

    def _of(self, tau: float) -> float:
        if tau == 0.0 or math.isinf(tau):
            return tau
        return -math.log2(-math.expm1(-self.dt / tau))

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        # The library forms 1 - 2**-dash, which would be rounded to 0 or 1 beyond these limits.
        return Limits(*(self._of(self.dt * steps) for steps in self._range(dtype)))

    def _range(self, dtype: torch.dtype) -> tuple[float, float]:
        eps = torch.finfo(dtype).eps
        return -1 / math.log(2 * eps), 1 / (2 * eps)

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        dt, low, high, lowest, highest = numbers
        return onto_limits(-(-(-dt / raw.clamp(low, high)).expm1()).log2(), lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        numbers = numbers_of(self, tau.dtype)
        per_step = numbers[1 / self.dt / math.log(2.0)]
        exponent = tau.reciprocal_().mul_(numbers[-self.dt])
        lost = exponent.expm1().neg_()  # What a step takes away: 1 - decay.

        def pullback(gradient: Tensor) -> Tensor:
            slope = exponent.exp().mul_(exponent).mul_(per_step).div_(lost).mul_(exponent)
            return gradient * slope

        return lost.log2().neg_(), pullback

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        low, high = self._range(dtype)
        return low * self.dt, high * self.dt

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return -self.dt / torch.log1p(-torch.exp2(-value))


class Leak(WithStep):
    r"""The share of the membrane that is lost per time step: lava-dl's `voltage_decay`.

    leak = scale * (1 - exp(-dt / tau)), and tau = -dt / log(1 - leak / scale); strictly
    decreasing.

    Limits: a leak stays above 0 and below `scale` by at least half the spacing of floats there;
    below tau = dt / 87 (float32) or dt / 700 (float64) the gradient is 0. In float16 there is no
    room for it where scale / dt exceeds 65504.

    Args:
        dt: the duration of one time step, in seconds, > 0.
        scale: what is stored for the whole membrane, > 0: 4096 where a library stores 12 bits.

    Raises:
        ParametrizationError: a constant is not finite and positive.

    Examples:
        >>> import torch
        >>> Leak(dt=1e-3)(torch.tensor([0.01, 0.02]))
        tensor([0.0952, 0.0488])
        >>> Leak(dt=1e-3, scale=4096).right_inverse(torch.tensor([1024.0]))
        tensor([0.0035])
    """

    constant_names: ClassVar[tuple[str, ...]] = ("dt", "scale")
    scale: float = 1.0

    def __init__(self, dt: float, scale: float = 1.0):
        super().__init__(dt)
        self.scale = finite_constant(self, "scale", scale)
        if self.scale <= 0:
            raise ParametrizationError(f"Leak(scale=...) must be > 0, got {scale!r}.")
        self._prepare()

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return self._of(upper), self._of(lower)

    def _of(self, tau: float) -> float:
        return -self.scale * math.expm1(-self.dt / tau) if tau > 0.0 else self.scale

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        if self.scale / self.dt > torch.finfo(dtype).max:  # The slope is up to 0.54 of it.
            return NO_ROOM
        slowest = self.scale * self.dt / self._longest(working_dtype(dtype))
        return Limits(max(torch.finfo(dtype).tiny, slowest), just_below(self.scale, dtype))

    def _longest(self, dtype: torch.dtype) -> float:
        return math.sqrt(torch.finfo(dtype).max)

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self.scale, *self._with_reach(self.dt, dtype)

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        scale, dt, low, high, lowest, highest = numbers
        return onto_limits(scale * _lost(-dt / raw.clamp(low, high)), lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        numbers = numbers_of(self, tau.dtype)
        minus_per_step = numbers[-self.scale / self.dt]
        exponent = tau.reciprocal_().mul_(numbers[-self.dt])

        def pullback(gradient: Tensor) -> Tensor:
            # In this order no product underflows before the gradient does.
            slope = exponent.exp().mul_(exponent)
            return (gradient * slope).mul_(minus_per_step).mul_(exponent)

        return _lost(exponent).mul_(numbers[self.scale]), pullback

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return self.dt / -math.log(torch.finfo(dtype).tiny), self._longest(dtype)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return -self.dt / torch.log1p(-value / self.scale)


class Logarithm(UnitMap):
    r"""The natural logarithm: a threshold that a module reads as exp(a), as MPBN nodes do.

    stored = log(quantity), and quantity = exp(stored); strictly increasing.

    Limits: logarithms of numbers between `2**-62` and `2**62` in float32 (`2**-510` to `2**510`
    in float64, `2**-14` to `2**14` in float16); beyond, the gradient is 0.

    Examples:
        >>> import torch
        >>> Logarithm()(torch.tensor([1.0, 2.0]))
        tensor([0.0000, 0.6931])
        >>> Logarithm().right_inverse(torch.tensor([0.0]))
        tensor([1.])
    """

    def __init__(self) -> None:
        super().__init__()
        self._prepare()

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return _log(lower), _log(upper)

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        return Limits(*map(math.log, powers_of_two(dtype)))

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self._with_reach(1.0, dtype)[1:]

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        low, high, lowest, highest = numbers
        return onto_limits(raw.clamp(low, high).log(), lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        return tau.log(), lambda gradient: gradient / tau

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return math.exp(limits.lowest), math.exp(limits.highest)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return value.exp()


class LogRate(WithStep):
    r"""The logarithm of a rate per time step, for decay = exp(-exp(stored)), as in SiLIF.

    stored = log(dt / tau), and tau = dt * exp(-stored); strictly decreasing.

    Limits: time constants between `2**-62` and `2**62` steps in float32 (`2**-510` and `2**510`
    in float64), and in float16 not below the reciprocal of its largest number; beyond, the
    gradient is 0.

    Args:
        dt: the duration of one time step, in seconds, > 0.

    Raises:
        ParametrizationError: dt is not finite and positive.

    Examples:
        >>> import torch
        >>> LogRate(dt=1e-3)(torch.tensor([0.01, 0.02]))
        tensor([-2.3026, -2.9957])
        >>> LogRate(dt=1e-3).right_inverse(torch.tensor([-3.0]))
        tensor([0.0201])
    """

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return -_log(upper / self.dt), -_log(lower / self.dt)

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        largest = EXPONENTS[working_dtype(dtype)] * math.log(2.0)
        return Limits(-largest, min(largest, _steepest(self.dt, dtype)))

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        dt, low, high, lowest, highest = numbers
        return onto_limits(-(raw.clamp(low, high) / dt).log(), lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        steps = tau / numbers_of(self, tau.dtype)[self.dt]
        return steps.log_().neg_(), lambda gradient: (gradient / tau).neg_()

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return self.dt * math.exp(-limits.highest), self.dt * math.exp(-limits.lowest)

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return self.dt * torch.exp(-value)


class SigmoidRate(WithStep):
    r"""What a sigmoid makes a rate per time step: `w` of PLIF neurons, with dt / tau = sigmoid(w).

    stored = -log(tau / dt - 1), and tau = dt * (1 + exp(-stored)); strictly decreasing. Such
    neurons integrate by forward Euler, and a time constant is longer than the step.

    Limits: time constants from a few spacings of floats above the step up to `2**62` steps in
    float32 (`2**510` in float64); beyond, the gradient is 0.

    Args:
        dt: the duration of one time step, in seconds, > 0.

    Raises:
        ParametrizationError: dt is not finite and positive.

    Examples:
        >>> import torch
        >>> SigmoidRate(dt=1e-3)(torch.tensor([0.002, 0.02]))
        tensor([ 0.0000, -2.9444])
        >>> SigmoidRate(dt=1e-3).right_inverse(torch.tensor([0.0]))
        tensor([0.0020])
    """

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return -_log(upper / self.dt - 1), -_log(lower / self.dt - 1)

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        precision = working_dtype(dtype)
        nearest = -math.log(4 * torch.finfo(precision).eps)
        longest = EXPONENTS[precision] * math.log(2.0)
        return Limits(-longest, min(nearest, _steepest(self.dt, dtype)))

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        dt, low, high, lowest, highest = numbers
        return onto_limits(-((raw.clamp(low, high) - dt) / dt).log(), lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        dt = numbers_of(self, tau.dtype)[self.dt]
        excess = tau.sub_(dt)  # It is exact where the two are close.
        return (excess / dt).log_().neg_(), lambda gradient: (gradient / excess).neg_()

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        low, high = (self.dt * (1 + math.exp(-limit)) for limit in reversed(limits))
        return low, high

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        return self.dt * (1 + torch.exp(-value))


def _lost(exponent: Tensor) -> Tensor:
    """1 - exp(exponent), for exponents below 0."""
    # Where little is left, the gradient that torch gives to `expm1` has few digits.
    return (1 - exponent.exp()).where(exponent < -1.0, -exponent.expm1())


def _log(number: float) -> float:
    """The logarithm, minus infinity where there is none."""
    return math.log(number) if number > 0 else -math.inf


def _steepest(dt: float, dtype: torch.dtype) -> float:
    """Up to which value of log(dt / x) the gradient 1 / x is a number of the dtype."""
    return math.log(dt) + math.log(torch.finfo(dtype).max) - math.log(2.0)
