"""How a library writes a time constant: exact maps from seconds to the number that it stores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuroparam._maps.base import Limits
from neuroparam._maps.floats import just_below
from neuroparam._maps.slopes import Pullback, numbers_of
from neuroparam._maps.time_constants import UnitMap, WithStep, onto_limits, powers_of_two

__all__ = ["Bitshift", "Decay", "Rate", "Steps"]


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

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self._with_reach(self.dt, dtype)

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

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self._with_reach(self.dt, dtype)

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

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self._with_reach(self.dt, dtype)

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
