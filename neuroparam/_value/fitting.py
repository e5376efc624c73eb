"""A value whose shape does not fit what its layer computes, as the first forward shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from neuroparam._ground.errors import MisuseWarning, ShapeError
from neuroparam._ground.messages import warn
from neuroparam._value.parameter import NeuronParameter

__all__ = ["refuse_if_shapes_clash", "warn_if_sizes_coincide"]

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
        inputs = _shape_of_input(given)
        shapes = {value.path_in_network(): tuple(value.raw.shape) for value in clashing}
        raise ShapeError(shapes, inputs, str(error)) from error


def warn_if_sizes_coincide(values: Iterable[NeuronParameter], given: Iterable[Any]) -> None:
    """Warns of one value per channel, given as a row, that acts along the width instead.

    Where there are as many channels as columns, no size clashes.

    Args:
        values: those of a module.
        given: the arguments of its forward.
    """
    inputs = _shape_of_input(given)
    if inputs is None or len(inputs) < 4 or inputs[-1] != inputs[-3] or inputs[-1] == 1:
        return
    for value in values:
        shape = tuple(value.raw.shape)
        if shape == inputs[-1:] and value.evidence.is_news("sizes coincide"):
            (size,) = shape
            warn(
                f"{value.path_in_network()!r} has shape {shape}, and its layer got an input of "
                f"shape {inputs}: sizes are compared from the last one on, so that there is one "
                f"value per column. For one value per channel give make_trainable "
                f'shape=({size}, 1, 1), or shape="channel" with example=inputs; for one per '
                f"column, shape=(1, 1, {size}).",
                MisuseWarning,
            )


def _shape_of_input(given: Iterable[Any]) -> tuple[int, ...] | None:
    """The shape of the first tensor among the arguments of a forward."""
    return next((tuple(each.shape) for each in given if isinstance(each, Tensor)), None)
