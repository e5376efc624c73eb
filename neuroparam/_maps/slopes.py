"""What slopes in closed form are made of: constants as tensors, and the gradient of a clamp."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = [
    "Numbers",
    "Pullback",
    "between",
    "forget_numbers",
    "numbers_of",
    "through_sigmoid",
]

# From the gradient with respect to a value to the one with respect to what it was computed from.
# It changes no tensor but those it makes, because autograd may hand one gradient to several.
Pullback: TypeAlias = Callable[[Tensor], Tensor]

_hardtanh_backward = torch.ops.aten.hardtanh_backward.default
_sigmoid_backward = torch.ops.aten.sigmoid_backward.default


class Numbers(dict[float, Tensor]):
    """Numbers of one dtype as tensors without dimensions, each made when it is first asked for.

    torch makes such a tensor of each number at every operation, which takes as long as the rest
    of it. They are on the CPU, from where operations on every device take them as numbers.
    """

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self._dtype = dtype

    def __missing__(self, number: float) -> Tensor:
        with torch.inference_mode(False):  # It is kept, and serves where gradients are wanted.
            tensor = torch.tensor(number, dtype=self._dtype, device="cpu")
        self[number] = tensor
        return tensor


# They are kept beside the maps, so that no copy, pickle or walk over attributes finds them.
_numbers: WeakKeyDictionary[nn.Module, dict[torch.dtype, Numbers]] = WeakKeyDictionary()


def numbers_of(owner: nn.Module, dtype: torch.dtype) -> Numbers:
    """The numbers that a map computes with, as tensors."""
    kept = _numbers.get(owner)
    if kept is None:
        kept = _numbers[owner] = {}
    numbers = kept.get(dtype)
    if numbers is None:
        numbers = kept[dtype] = Numbers(dtype)
    return numbers


def forget_numbers(owner: nn.Module) -> None:
    """Drops them, because the map gets other constants."""
    _numbers.pop(owner, None)


def through_sigmoid(gradient: Tensor, share: Tensor) -> Tensor:
    """The gradient times share * (1 - share), which is the slope of a sigmoid at that value."""
    pulled: Tensor = _sigmoid_backward(gradient, share)
    return pulled


def between(gradient: Tensor, x: Tensor, lower: float, upper: float) -> Tensor:
    """The gradient where lower < x < upper, and 0 elsewhere: that of `x.clamp(lower, upper)`."""
    masked: Tensor = _hardtanh_backward(gradient, x, lower, upper)  # one operation
    return masked
