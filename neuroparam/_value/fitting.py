"""A value whose shape does not fit what its layer computes: the error of the first forward."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from neuroparam._ground.errors import ShapeError
from neuroparam._value.parameter import NeuronParameter

__all__ = ["refuse_if_shapes_clash"]

_SIZES = re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)")


def refuse_if_shapes_clash(
    error: RuntimeError, values: Iterable[NeuronParameter], given: Iterable[Any]
) -> None:
    """Raises in the place of torch's error, if a value of the module has one of its sizes.

    Args:
        error: what the forward of a neuron module has raised.
        values: those of the module.
        given: the arguments of its forward.

    Raises:
        ShapeError: naming the values, their shapes, and what the layer got.
    """
    sizes = _SIZES.search(str(error))
    if sizes is None:
        return
    clashing = [
        value
        for value in values
        if any(size > 1 and str(size) in sizes.groups() for size in value.raw.shape)
    ]
    if clashing:
        inputs = next((tuple(each.shape) for each in given if isinstance(each, Tensor)), None)
        shapes = {value.path_in_network(): tuple(value.raw.shape) for value in clashing}
        raise ShapeError(shapes, inputs, str(error)) from error
