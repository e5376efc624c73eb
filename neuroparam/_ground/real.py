"""Real numbers: what a user may give as one, and which tensors can hold trainable ones."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

__all__ = ["as_real", "why_not_real"]


def as_real(value: Any) -> float | None:
    """A real number as a python float, or None if the value is not one.

    Args:
        value: a real number of python or numpy, or a tensor with one element. An integer beyond
            every float counts as infinite.

    >>> as_real(2), as_real(10**400), as_real("2"), as_real(True)
    (2.0, inf, None, None)
    """
    if isinstance(value, Tensor):
        if why_not_real(value) is not None or value.is_meta or value.numel() != 1:
            return None
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def why_not_real(tensor: Tensor) -> tuple[str, str] | None:
    """Why a tensor cannot hold trainable values, and what to do; None if it can."""
    if is_lazy(tensor):
        return "it is not initialised yet", "run the module once first"
    if tensor.is_nested:
        return "it is a nested tensor", "give one dense tensor"
    if tensor.is_complex() or tensor.dtype == torch.bool:
        return f"its dtype is {tensor.dtype}", "parametrizations map real numbers"
    if tensor.numel() == 0:
        return "it is empty", "give it at least one value first"
    if tensor.is_quantized:
        return "it is quantised", "give tensor.dequantize()"
    if tensor.layout != torch.strided:
        return f"its layout is {tensor.layout}", "give a dense tensor, such as tensor.to_dense()"
    return None
