"""What maps of a time constant in seconds have in common, and the one that stays in seconds."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from neuroparam._ground.errors import ParametrizationError
from neuroparam._maps.base import Limits, OpenInterval, finite_constant
from neuroparam._maps.floats import (
    EXPONENTS,
    just_above,
    nearly_largest,
    onto_limits,
    working_dtype,
)
from neuroparam._maps.limited import NO_ROOM, LimitedMap
from neuroparam._maps.slopes import Pullback, between, numbers_of

__all__ = ["Above", "TimeConstantMap", "UnitMap", "WithStep", "powers_of_two"]


class TimeConstantMap(LimitedMap):
    """Base of the maps that take a time constant in seconds, behind a map that yields one.

    A subclass gives the formula, also with its slope, and its inverse, the image of an interval,
    its limits, and the time constants between which the formula and its gradient are finite. Its
    formula takes the numbers of `_with_reach`.
    """

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        """The interval of values for time constants between two bounds, none below 0."""
        raise NotImplementedError

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        """The formula with its slope in closed form; `tau` may be overwritten."""
        raise NotImplementedError

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        """The time constants between which the formula and its gradient are finite."""
        raise NotImplementedError

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        # A user's map may state no domain. Time constants are positive, whatever it says.
        return self._image(max(lower, 0.0), upper)

    def _prepare(self) -> None:
        self.domain: constraints.Constraint = OpenInterval(*self._image(0.0, math.inf))
        super()._prepare()

    def _with_reach(self, number: float, dtype: torch.dtype) -> tuple[float, ...]:
        """A number, between which time constants the formula is finite, and the limits."""
        limits = self._limits[dtype]
        return number, *self._reach(limits, working_dtype(dtype)), *limits

    def with_pullback(self, raw: Tensor) -> tuple[Tensor, Pullback]:
        limits = self.limits(raw.dtype)
        reach = self._reach(limits, raw.dtype)
        value, pullback = self._formula_with_pullback(raw.clamp(*reach))
        # The clamp makes a new tensor, because the slope may need the one before.
        return value.clamp(*limits), lambda gradient: between(pullback(gradient), raw, *reach)


class UnitMap(TimeConstantMap):
    """Base of the maps from a time constant in seconds to the number that a library stores.

    Behind a parametrization they make a time constant in seconds what is trained:
    `{"beta": [ExpScaledLog(), Decay(dt=1e-3)]}`. The parametrization's fitted constants, bounds
    and weight decay then speak of seconds.
    """


def powers_of_two(dtype: torch.dtype) -> Limits:
    """Limits between which a number, its reciprocal and its square are normal numbers."""
    return Limits(2.0 ** -EXPONENTS[dtype], 2.0 ** EXPONENTS[dtype])


class WithStep(UnitMap):
    """A unit map that depends on the time step.

    Args:
        dt: the duration of one step of the simulation, in seconds, > 0.
    """

    constant_names: ClassVar[tuple[str, ...]] = ("dt",)

    def __init__(self, dt: float):
        super().__init__()
        self.dt: float = finite_constant(self, "dt", dt)
        if self.dt <= 0:
            raise ParametrizationError(f"{type(self).__name__}(dt=...) must be > 0, got {dt!r}.")
        self._prepare()

    def _refine(self) -> None:
        for dtype in self._limits:
            least, most = powers_of_two(working_dtype(dtype))
            if not least <= self.dt <= most:
                self._limits[dtype] = NO_ROOM

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self._with_reach(self.dt, dtype)


class Above(TimeConstantMap):
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

    constant_names: ClassVar[tuple[str, ...]] = ("lower",)

    def __init__(self, lower: float):
        super().__init__()
        self.lower: float = finite_constant(self, "lower", lower)
        if self.lower < 0:
            raise ParametrizationError(f"Above(lower=...) must be >= 0, got {lower!r}.")
        self._prepare()

    def _image(self, lower: float, upper: float) -> tuple[float, float]:
        return self.lower + lower, self.lower + upper

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        return Limits(just_above(self.lower, dtype), nearly_largest(dtype))

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return self._with_reach(self.lower, dtype)

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        lower, low, high, lowest, highest = numbers
        return onto_limits(raw.clamp(low, high) + lower, lowest, highest)

    def _formula_with_pullback(self, tau: Tensor) -> tuple[Tensor, Pullback]:
        lower = numbers_of(self, tau.dtype)[self.lower]
        return tau.add_(lower), lambda gradient: gradient

    def _reach(self, limits: Limits, dtype: torch.dtype) -> tuple[float, float]:
        return 0.0, limits.highest - self.lower

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        # At the bound itself, the excess is one that an addition would not show.
        return (value - self.lower).clamp(min=limits.lowest * torch.finfo(value.dtype).eps / 8)
