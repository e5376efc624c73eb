"""Floating-point numbers: the neighbours of a bound, and logarithms that keep their digits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "EXPONENTS",
    "FLOATS",
    "just_above",
    "just_below",
    "log_least_gap",
    "log_ratio",
    "nearly_largest",
    "onto_limits",
    "working",
    "working_dtype",
]

_SIGNIFICANT_BITS = {torch.float64: 53, torch.float32: 24, torch.bfloat16: 8, torch.float16: 11}
FLOATS = tuple(_SIGNIFICANT_BITS)
# Between two to the minus and to the plus of this exponent, a number, its reciprocal and its
# square are normal numbers of the dtype.
EXPONENTS = {torch.float64: 510, torch.float32: 62, torch.bfloat16: 62, torch.float16: 14}


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
    bound = round(bound / step) * step
    step = _spacing(bound, dtype)  # Rounding to a power of two can double the distance.
    if bound < 0 and math.frexp(bound)[0] == -0.5:
        # From a power of two towards zero the floats lie twice as dense.
        step = max(step / 2, tiny)
    return bound + step


def just_below(bound: float, dtype: torch.dtype) -> float:
    """The next normal float of `dtype` below `bound` as that dtype rounds it."""
    return -just_above(-bound, dtype)


def nearly_largest(dtype: torch.dtype) -> float:
    """A number so far below the largest one that no rounding exceeds it."""
    return torch.finfo(dtype).max * (1 - 2.0**-6)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision in which maps are computed for raw tensors of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def working(raw: Tensor) -> Tensor:
    """`raw` in the precision in which maps are computed: half precision in float32."""
    return raw.float() if raw.dtype in (torch.float16, torch.bfloat16) else raw


def log_ratio(value: Tensor, bound: float | Tensor) -> Tensor:
    """log(value / bound), which is also accurate where the two are close."""
    # The difference is exact between bound / 2 and 2 * bound (Sterbenz).
    gap = value - bound
    close = gap.abs() < bound / 2
    # Far apart, the ratio may be beyond every float of the dtype, and the difference has digits.
    ratio = value / bound
    numbers = torch.finfo(value.dtype)
    fits = (ratio >= numbers.tiny) & (ratio <= numbers.max)
    apart = torch.where(fits, torch.log(ratio), torch.log(value) - _log(bound))
    return torch.where(close, torch.log1p(torch.where(close, gap / bound, 0.0)), apart)


def _log(bound: float | Tensor) -> float | Tensor:
    return bound.log() if isinstance(bound, Tensor) else math.log(bound)


def log_least_gap(limit: float, dtype: torch.dtype) -> float:
    """Logarithm of the distance given to a value that lies right at a limit.

    The distance is an eighth of the spacing of floats there: adding it leaves the value where it
    is, and raw stays finite and, next to a bound that is not 0, keeps a gradient.
    """
    exponent = math.frexp(max(abs(limit), torch.finfo(dtype).tiny))[1]
    return (exponent - _SIGNIFICANT_BITS[dtype] - 3) * math.log(2.0)


def onto_limits(value: Tensor, lowest: Any, highest: Any) -> Tensor:
    """Moves a value that was rounded onto a bound off it. The gradient is that of the value.

    Args:
        value: the value.
        lowest: the smallest that it may be; a number or a tensor.
        highest: the largest.
    """
    return value + (value.clamp(lowest, highest) - value).detach()
