"""Bounds given as tensors: one for each entry of a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import ParametrizationError
from neuroparam._ground.messages import describe
from neuroparam._ground.real import as_real
from neuroparam._ground.shapes import broadcasts_to
from neuroparam._maps.floats import log_least_gap, working_dtype

__all__ = ["Bounds", "has_entries", "least_gaps", "name_constants"]


def has_entries(bound: object) -> bool:
    """Whether a bound is a tensor or an array, and no single number."""
    return bool(getattr(bound, "shape", ())) and as_real(bound) is None


class Bounds:
    """One bound for each entry of a value, and the float of each dtype next to it.

    Args:
        name: of the map and its argument, for messages.
        bound: what the user gave: a number, tensor or array.
        next_float: gives the float next to a bound, on the side of the values.
        other: the bound on the other side, if there is one; both get one shape.

    Raises:
        ParametrizationError: it holds something else than finite numbers, or the shapes differ.
    """

    def __init__(
        self,
        name: str,
        bound: Any,
        next_float: Callable[[float, torch.dtype], float],
        other: Any = 0.0,
    ):
        wanted = f"{name} must be finite numbers, of a shape that fits the other bound"
        try:
            given, beside = torch.as_tensor(bound), torch.as_tensor(other)
            exact = given.detach().to("cpu", torch.float64) + torch.zeros(beside.shape)
        except Exception as error:  # An array of another library may raise anything.
            raise ParametrizationError(f"{wanted}; got {describe(bound)}.") from error
        if given.dtype == torch.bool or exact.numel() == 0 or not bool(exact.isfinite().all()):
            raise ParametrizationError(f"{wanted}; got {describe(bound)}.")
        self.exact: Tensor = exact
        self._next_float = next_float
        self._kept: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, value: Tensor) -> Tensor:
        """The floats next to the bounds, in the precision in which a map computes the value."""
        key = value.dtype, value.device
        if key not in self._kept:
            found = _for_each(self.exact, lambda bound: self._next_float(bound, value.dtype))
            self._kept[key] = found.to(value.device, working_dtype(value.dtype))
        return self._kept[key]

    def refuse_other_shape(self, value: Tensor, owner: nn.Module) -> None:
        """Raises unless there is a bound for each entry of a value.

        Raises:
            ParametrizationError: the shapes differ.
        """
        mine, theirs = tuple(self.exact.shape), tuple(value.shape)
        if not broadcasts_to(mine, theirs):
            raise ParametrizationError(
                f"{owner!r} has bounds of shape {mine}, and the value has shape {theirs}; give "
                f"make_trainable shape={mine}, or bounds of the shape of the value."
            )

    def __repr__(self) -> str:
        low, high = self.exact.min().item(), self.exact.max().item()
        return f"[{low:.6g} to {high:.6g}, shape {tuple(self.exact.shape)}]"


def name_constants(owner: nn.Module, *others: str, **bounds: Bounds) -> None:
    """Gives a map an attribute for each bound, such as `lower[0]`, and names it as a constant.

    Args:
        owner: the map.
        *others: the names of its other constants.
        **bounds: the bounds, by the names of their arguments.
    """
    entries = {
        f"{name}[{index}]": number
        for name, each in bounds.items()
        for index, number in enumerate(each.exact.flatten().tolist())
    }
    owner.__dict__.update(entries, constant_names=(*entries, *others))


def least_gaps(limits: Tensor, dtype: torch.dtype) -> Tensor:
    """`log_least_gap` of each limit."""
    return _for_each(limits, lambda limit: log_least_gap(limit, dtype)).to(limits)


def _for_each(numbers: Tensor, function: Callable[[float], float]) -> Tensor:
    """A function of each number, called once for equal ones; in double precision on the CPU."""
    unique, places = numbers.double().cpu().unique(return_inverse=True)
    return torch.tensor([function(each) for each in unique.tolist()], dtype=torch.float64)[places]
