"""ExpScaledLog: positive values trained on a logarithmic scale."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from neuroparam._ground.errors import ParametrizationError
from neuroparam._maps.base import Limits, finite_constant
from neuroparam._maps.floats import EXPONENTS, log_ratio, working_dtype
from neuroparam._maps.limited import NO_ROOM, LimitedMap
from neuroparam._maps.slopes import Pullback, between, numbers_of

__all__ = ["ExpScaledLog"]


class ExpScaledLog(LimitedMap):
    r"""Positive values trained on a logarithmic scale: time constants, rates, capacitances.

    value = reference * exp(scale * raw) and raw = log(value / reference) / scale.

    * raw = 0 is the reference, bit for bit; the slope there is scale * reference. A step of
      size s in raw multiplies the value by exp(scale * s), in whatever unit it is stored, so
      `scale` acts as a factor on the learning rate.
    * Weight decay pulls the value to the reference.
    * Limits: for every finite raw the value stays between `2**-62` and `2**62` (`2**-510` and
      `2**510` in float64, `2**-14` and `2**14` in float16), so that its square and its
      reciprocal, which neurons form, have finite gradients; beyond, its own gradient is 0. The
      round trip value -> raw -> value has a relative error of at most
      `eps * (2 + 1.5 * |log(value / reference)|)`. Half precision is computed in float32, but raw
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

    constant_names: ClassVar[tuple[str, ...]] = ("scale", "reference")

    def __init__(self, scale: float = 1.0, reference: float | None = None):
        super().__init__()
        self.domain: constraints.Constraint = constraints.positive
        self.scale: float = finite_constant(self, "scale", scale)
        if self.scale <= 0:
            raise ParametrizationError(f"ExpScaledLog(scale=...) must be > 0, got {scale!r}.")
        self.reference: float | None = None
        if reference is None:
            self._fitted = frozenset({"reference"})
        else:
            self.reference = finite_constant(self, "reference", reference)
            if self.reference <= 0:
                raise ParametrizationError(
                    f"ExpScaledLog(reference=...) must be > 0, got {reference!r}."
                )
            self._prepare()

    def _fit(self, value: Tensor) -> None:
        lowest, highest = value.min().item(), value.max().item()
        # For equal values, exp(mean(log)) would differ from them by a rounding.
        self.reference = lowest if lowest == highest else value.log().mean().exp().item()

    def _exponents_in(self, dtype: torch.dtype) -> tuple[float, float]:
        """Bounds of scale * raw between which value and gradient are normal, finite numbers."""
        assert self.reference is not None
        stored = torch.finfo(dtype)
        computed = torch.finfo(working_dtype(dtype))
        margin = 1e-3  # This is well above the rounding of an exponent of up to 709.
        # The range is narrower than from `tiny` to `max`, because neurons form 1 / value and
        # products, whose gradients must be finite too.
        widest = EXPONENTS[dtype] * math.log(2.0)
        low = max(-widest - math.log(self.reference), math.log(computed.tiny))
        high = min(
            widest - math.log(self.reference),
            math.log(stored.max) - math.log(self.reference) - math.log(max(1.0, self.scale)),
            math.log(computed.max),
        )
        reach = self.scale * (stored.max / 2)  # Raw must be a number of this dtype too.
        return max(low + margin, -reach), min(high - margin, reach)

    def _prepare(self) -> None:
        self._exponents = {dtype: self._exponents_in(dtype) for dtype in EXPONENTS}
        super()._prepare()

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        assert self.reference is not None
        low, high = self._exponents[dtype]
        if not low < 0.0 < high or self.scale < torch.finfo(working_dtype(dtype)).tiny:
            return NO_ROOM  # This dtype cannot hold the reference, or the scale.
        # exp is rounded, and so is its result where it is stored in half precision.
        slack = 1e-4 + 2 * torch.finfo(dtype).eps
        return Limits(
            max(self.reference * math.exp(low) * (1 - slack), torch.finfo(dtype).tiny),
            min(self.reference * math.exp(high) * (1 + slack), torch.finfo(dtype).max),
        )

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        assert self.reference is not None
        return self.scale, *self._exponents[dtype], self.reference

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        scale, low, high, reference = numbers
        return reference * (scale * raw).clamp(low, high).exp()

    def with_pullback(self, raw: Tensor) -> tuple[Tensor, Pullback]:
        dtype = raw.dtype
        self.limits(dtype)
        assert self.reference is not None
        low, high = self._exponents[dtype]
        numbers = numbers_of(self, dtype)
        least, most = low / self.scale, high / self.scale
        slope_at_zero = numbers[self.scale * self.reference]
        exponent = raw if self.scale == 1.0 else raw * numbers[self.scale]
        power = exponent.clamp(low, high).exp_()

        def pullback(gradient: Tensor) -> Tensor:
            return between(gradient * power, raw, least, most).mul_(slope_at_zero)

        return power * numbers[self.reference], pullback

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        assert self.reference is not None
        return log_ratio(value, self.reference) / self.scale
