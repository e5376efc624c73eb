"""Distributions of initial values, by what people call their parameters."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Gamma,
    LogNormal,
    TransformedDistribution,
    Uniform,
    constraints,
)
from torch.distributions.transforms import ExpTransform
from torch.types import _size

from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._ground.real import as_real

__all__ = ["Clamped", "LogUniform", "gamma", "log_normal", "log_uniform"]


class ByMedian(LogNormal):
    """A log-normal distribution that was asked for by its median."""


def log_normal(
    median: float, spread: float, *, lower: float = 0.0, upper: float = math.inf
) -> Distribution:
    """A log-normal distribution, by its median and the spread of the logarithm.

    Two thirds of the values lie between median / exp(spread) and median * exp(spread).

    Args:
        median: in the unit of the value: seconds for a `Quantity`.
        spread: the standard deviation of the logarithm, > 0; 0.5 is a factor of 1.65.
        lower: values below become this one. A library that integrates by forward Euler (Norse,
            SpikingJelly) needs time constants above its time step: `lower=2e-3`.
        upper: values above become this one.

    Raises:
        InvalidArgumentError: one of them is no positive finite number, or the bounds do not rise.

    Examples:
        >>> from neuroparam.initial import log_normal
        >>> round(log_normal(20e-3, 0.5).sample((100_001,)).median().item(), 3)
        0.02
    """
    drawn = ByMedian(math.log(_positive("median", median)), _positive("spread", spread))
    return _within(drawn, lower, upper)


def gamma(
    mean: float, shape: float = 3.0, *, lower: float = 0.0, upper: float = math.inf
) -> Distribution:
    """A gamma distribution, by its mean and its shape.

    Perez-Nieves et al. 2021 draw membrane time constants from one of shape 3 and mean 20 ms
    (Neural heterogeneity promotes robust learning, Nature Communications 12).

    Args:
        mean: in the unit of the value: seconds for a `Quantity`.
        shape: of the distribution, > 0. The standard deviation is mean / sqrt(shape).
        lower: as for `log_normal`.
        upper: as for `log_normal`.

    Raises:
        InvalidArgumentError: as `log_normal`.

    Examples:
        >>> from neuroparam.initial import gamma
        >>> round(gamma(20e-3).mean.item(), 6), round(gamma(20e-3, 4.0).stddev.item(), 6)
        (0.02, 0.01)
    """
    concentration = _positive("shape", shape)
    return _within(Gamma(concentration, concentration / _positive("mean", mean)), lower, upper)


class Clamped(Distribution):
    """A distribution of positive numbers, of which those beyond two bounds become the bounds."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, drawn: Distribution, lower: float, upper: float):
        super().__init__(validate_args=False)
        self.drawn = drawn
        self.lower = lower
        self.upper = upper

    @property
    def support(self) -> constraints.Constraint:
        return constraints.interval(self.lower, self.upper)

    @property
    def mean(self) -> Tensor:
        """That of the distribution without bounds."""
        return self.drawn.mean

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008 - as in torch
        return self.drawn.sample(sample_shape).clamp(self.lower, self.upper)


def _within(drawn: Distribution, lower: float, upper: float) -> Distribution:
    low, high = as_real(lower), as_real(upper)
    if low is None or high is None or not 0 <= low < high:
        raise InvalidArgumentError("lower", lower, f"must be at least 0, and below upper={upper}")
    return drawn if (low, high) == (0.0, math.inf) else Clamped(drawn, low, high)


class LogUniform(TransformedDistribution):
    """A distribution whose logarithm is uniform between two bounds."""

    def __init__(self, lower: float, upper: float):
        self.lower = lower
        self.upper = upper
        base = Uniform(math.log(lower), math.log(upper))
        super().__init__(base, [ExpTransform()])

    @property
    def support(self) -> constraints.Constraint:
        return constraints.interval(self.lower, self.upper)

    @property
    def mean(self) -> Tensor:
        return torch.tensor((self.upper - self.lower) / math.log(self.upper / self.lower))


def log_uniform(lower: float, upper: float) -> LogUniform:
    """A distribution whose logarithm is uniform: each factor of two is equally likely.

    Args:
        lower: the smallest value, > 0, in the unit of the value: seconds for a `Quantity`.
        upper: the largest value.

    Raises:
        InvalidArgumentError: a bound is no positive finite number, or they do not rise.

    Examples:
        >>> from neuroparam.initial import log_uniform
        >>> drawn = log_uniform(5e-3, 100e-3).sample((1000,))
        >>> bool(drawn.min() > 5e-3), bool(drawn.max() < 100e-3)
        (True, True)
    """
    low, high = _positive("lower", lower), _positive("upper", upper)
    if not low < high:
        raise InvalidArgumentError("upper", upper, f"must be above lower={low:g}")
    return LogUniform(low, high)


def _positive(argument: str, given: object) -> float:
    found = as_real(given)
    if found is None or not 0 < found < math.inf:
        raise InvalidArgumentError(argument, given, "must be a positive finite number")
    return found
