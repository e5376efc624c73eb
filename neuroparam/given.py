"""What a user may give: one real number, or a tensor of real numbers. Knows torch only."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

__all__ = ["number", "why_unfit"]


def number(value: Any) -> float | None:
    """A number as a python float, None if it is none.

    Args:
        value: a real number of python or numpy, or a tensor with one element. An integer beyond
            every float counts as infinite.

    >>> number(2), number(10**400), number("2"), number(True)
    (2.0, inf, None, None)
    """
    if isinstance(value, Tensor):
        if why_unfit(value) is not None or value.is_meta or value.numel() != 1:
            return None
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def why_unfit(tensor: Tensor) -> tuple[str, str] | None:
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
