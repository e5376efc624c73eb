"""Softplus: values above a lower bound that grow additively."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from neuroparam._ground.errors import ParametrizationError
from neuroparam._maps.base import Limits, finite_constant
from neuroparam._maps.floats import (
    just_above,
    log_least_gap,
    nearly_largest,
    working,
    working_dtype,
)
from neuroparam._maps.limited import NO_ROOM, LimitedMap
from neuroparam._maps.per_entry import Bounds, has_entries, least_gaps, name_constants
from neuroparam._maps.slopes import Pullback, between, numbers_of

__all__ = ["Softplus"]

# softplus(raw + log(e - 1)) is 1 at raw = 0, so that raw = 0 means lower + scale.
_ODDS = math.e - 1.0
_SHIFT = math.log(_ODDS)
# Above this, softplus(x) = x to the last bit of float64.
_LINEAR = 40.0


class Softplus(LimitedMap):
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
        lower: the bound below every value, in the unit of the value; or a tensor of them, one for
            each entry of the value.
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

    constant_names: ClassVar[tuple[str, ...]] = ("lower", "scale")

    def __new__(cls, lower: Any = None, *_: Any, **__: Any) -> Softplus:
        per_entry = cls is Softplus and has_entries(lower)
        return super().__new__(_SoftplusPerEntry if per_entry else cls)

    def __init__(self, lower: float | Tensor = 0.0, scale: float | None = None):
        super().__init__()
        self.lower: float = finite_constant(self, "lower", lower)
        self.domain: constraints.Constraint = constraints.greater_than(self.lower)
        self._set_scale(scale)

    def _set_scale(self, scale: float | None) -> None:
        self.scale: float | None = None
        if scale is None:
            self._fitted = frozenset({"scale"})
        else:
            self.scale = finite_constant(self, "scale", scale)
            if self.scale <= 0:
                raise ParametrizationError(f"Softplus(scale=...) must be > 0, got {scale!r}.")
            self._prepare()

    def _fit(self, value: Tensor) -> None:
        self.scale = (value - self.lower).mean().item()

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        assert self.scale is not None
        lowest, highest = just_above(self.lower, dtype), nearly_largest(dtype)
        smallest = torch.finfo(working_dtype(dtype)).tiny
        if lowest > highest * (1 - 2.0**-6) or not smallest <= self.scale <= highest:
            return NO_ROOM
        # Raw is nearly (value - lower) / scale, and must be a number of this dtype too.
        return Limits(lowest, min(highest, lowest + self.scale * highest))

    def _refine(self) -> None:
        self._tops = {
            dtype: self._top_in(dtype, limits)
            for dtype, limits in self._limits.items()
            if limits is not NO_ROOM
        }

    def _top_in(self, dtype: torch.dtype, limits: Limits) -> float:
        """The raw number whose value is nearly the largest of a dtype; raw is kept below it."""
        assert self.scale is not None
        largest = nearly_largest(dtype) * (1 - 2.0**-7)
        top = (largest - max(limits.lowest, 0.0)) / self.scale
        top = top - _SHIFT if top > _LINEAR else math.log(math.expm1(top) / _ODDS)
        return min(top, largest)

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        lowest, _ = self._limits[dtype]
        assert self.scale is not None
        return lowest, self.scale, self._tops[dtype], _ODDS, _SHIFT, _LINEAR

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        lowest, scale, top, odds, shift, linear = numbers
        r = raw.clamp(max=top)
        curved = (odds * r.clamp(max=linear).exp()).log1p()
        # The clamp has no gradient at `linear` itself.
        y = (r + shift).where(r >= linear, curved)
        # Starting at `lowest` instead of `lower` keeps the value inside without a clamp, which
        # would stop the gradient.
        return lowest + scale * y

    def with_pullback(self, raw: Tensor) -> tuple[Tensor, Pullback]:
        dtype = raw.dtype
        lowest, _ = self.limits(dtype)
        assert self.scale is not None
        numbers = numbers_of(self, dtype)
        top = self._tops[dtype]
        r = raw.clamp(max=top)
        curved = r.clamp(max=_LINEAR).exp_().mul_(numbers[_ODDS]).log1p_()
        # The straight line lies below the curve, and joins it where r is large.
        y = torch.maximum(curved, r.add_(numbers[_SHIFT]))
        value = y.mul_(numbers[self.scale]).add_(numbers[lowest])
        minus_scale = numbers[-self.scale]

        def pullback(gradient: Tensor) -> Tensor:
            # sigmoid(raw + log(e - 1)) is 1 - exp(-y), without the rounding of that sum.
            minus_slope = curved.neg().expm1_()
            return between(gradient, raw, -math.inf, top).mul_(minus_slope).mul_(minus_scale)

        return value, pullback

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        assert self.scale is not None
        least = log_least_gap(limits.lowest, value.dtype) - math.log(self.scale)
        return self._raw_of((value - limits.lowest) / self.scale, least - _SHIFT)

    def _raw_of(self, y: Tensor, least: Any) -> Tensor:
        """The raw tensor for softplus(raw + log(e - 1)) = y."""
        curved = torch.log(torch.expm1(y.clamp(max=_LINEAR)) / _ODDS).clamp(min=least)
        return torch.where(y > _LINEAR, y - _SHIFT, curved)


class _SoftplusPerEntry(Softplus):
    """A Softplus with a lower bound of its own for each entry."""

    def __init__(self, lower: float | Tensor = 0.0, scale: float | None = None):
        LimitedMap.__init__(self)
        self._lower = Bounds("Softplus(lower=...)", lower, just_above)
        self.domain = constraints.greater_than(self._lower.exact.min().item())
        self.lower = self._lower.exact.max().item()  # It has the least room.
        name_constants(self, "scale", lower=self._lower)
        self._set_scale(scale)

    def _fit(self, value: Tensor) -> None:
        self.scale = (value - self._lower.exact.to(value.device)).mean().item()

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        limits = super()._limits_in(dtype)
        lowest = self._lower.like(torch.empty(0, dtype=dtype)).min().item()
        return limits if limits is NO_ROOM else Limits(lowest, limits.highest)

    def _top_in(self, dtype: torch.dtype, limits: Limits) -> float:
        lowest = self._lower.like(torch.empty(0, dtype=dtype)).max().item()
        return super()._top_in(dtype, Limits(lowest, limits.highest))

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        return super()._numbers_in(dtype)[1:]

    def forward(self, raw: Tensor) -> Tensor:
        self._lower.refuse_other_shape(raw, self)
        self.limits(raw.dtype)
        lowest: Any = self._lower.like(raw)
        return self.formula(working(raw), lowest, *self._numbers_in(raw.dtype)).to(raw.dtype)

    def outside_domain(self, value: Tensor) -> Tensor:
        self._lower.refuse_other_shape(value, self)
        return ~((self._lower.exact.to(value.device) < value) & value.isfinite())

    def outside(self, value: Tensor) -> Tensor:
        self._lower.refuse_other_shape(value, self)
        _, highest = self.limits(value.dtype)
        return ~((value >= self._lower.like(value)) & (value <= highest))

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        assert self.scale is not None
        lowest = self._lower.like(value)
        least = least_gaps(lowest, value.dtype) - math.log(self.scale)
        return self._raw_of((value - lowest) / self.scale, least - _SHIFT)

    def _get_name(self) -> str:
        return Softplus.__name__

    def extra_repr(self) -> str:
        return f"lower={self._lower!r}, scale={self.scale}"
