"""Shapes by word: one value per neuron, per channel or per layer, as a dry run tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import InvalidArgumentError, UnsupportedModuleError, placed
from neuroparam._value.copying import as_before, copy_of_network
from neuroparam._value.place import Place
from neuroparam._value.running import tensors_in

__all__ = ["shapes_in_numbers"]

_WORDS = ("neuron", "channel", "layer")
# The sizes of an example that may be those of time and batch.
_LEADING = (0, 1)


def shapes_in_numbers(
    module: nn.Module, places: Sequence[Place], shapes: Sequence[Any], example: Any
) -> list[Any]:
    """The shapes that are asked for, with words replaced by numbers.

    Args:
        module: the network; it stays as it is.
        places: where values are.
        shapes: what is asked for at each place.
        example: what the network takes: a tensor, or a tuple of arguments; None if none is given.

    Raises:
        InvalidArgumentError: a word is none of those known, or needs an example; the example
            does not run, or does not tell; or numbers do not fit what it tells.
    """
    words = [shape for shape in shapes if isinstance(shape, str)]
    for word in words:
        if word not in _WORDS:
            raise InvalidArgumentError(
                "shape",
                word,
                f"must be positive integers, or one of {', '.join(map(repr, _WORDS))}",
            )
    if example is None:
        if any(word != "layer" for word in words):
            raise InvalidArgumentError(
                "shape",
                words[0],
                "must come with example=..., an input of the network for one dry run",
            )
        return [() if shape == "layer" else shape for shape in shapes]
    found = _LayerShapes(module, example)
    return [_in_numbers(found, place, s) for place, s in zip(places, shapes, strict=True)]


def _in_numbers(found: _LayerShapes, place: Place, shape: Any) -> Any:
    if shape is None or shape == "layer":
        return None if shape is None else ()
    with placed(place.path):
        sizes = found.of(place.neuron)
        channels = (*sizes[:1], *(1 for _ in sizes[1:]))
        if shape == "neuron":
            return sizes
        if shape == "channel":
            return channels
        given = (shape,) if isinstance(shape, int) else tuple(shape)
        pairs = zip(reversed(given), reversed(sizes), strict=False)
        fits = len(given) == len(sizes) or all(size == 1 for size in given)
        if not fits or any(size not in (1, wanted) for size, wanted in pairs):
            raise InvalidArgumentError(
                "shape",
                shape,
                f"does not fit its layer, whose neurons have shape {sizes}; one value per neuron "
                f"is {sizes}, and one per channel {channels}",
            )
        return shape


class _LayerShapes:
    """The shapes of the neurons of each layer, without time and batch.

    Which sizes are those of time and batch is seen by runs with twice as much of each.
    """

    def __init__(self, module: nn.Module, example: Any):
        self._module = module
        self._example = example if isinstance(example, tuple) else (example,)
        if not self._example or not isinstance(self._example[0], Tensor):
            raise InvalidArgumentError(
                "example", example, "must be an input of the network: a tensor, or a tuple of them"
            )
        self._names = {id(part): name for name, part in nn.Module.named_modules(module)}
        try:
            self._once = self._run(self._example)
        except UnsupportedModuleError:  # It cannot be copied.
            raise
        except Exception as error:  # It is the user's code, and may raise anything.
            raise InvalidArgumentError(
                "example", example, f"the network does not run with it ({error})"
            ) from error
        self._more = list(filter(None, map(self._with_more, _LEADING)))

    def of(self, neuron: nn.Module) -> tuple[int, ...]:
        """The shape of the neurons of a layer.

        Raises:
            InvalidArgumentError: the layer does not run, or its shape cannot be told.
        """
        name = self._names[id(neuron)]
        if name not in self._once:
            raise InvalidArgumentError(
                "example", self._example[0], "its forward does not run this layer; give shape=(...)"
            )
        calls, shape = self._once[name]
        varying: set[int] = set()
        is_seen = False
        for run in self._more:
            more_calls, other = run.get(name, (0, shape))
            is_seen = is_seen or more_calls != calls
            if len(other) == len(shape):
                varying |= {i for i, size in enumerate(shape) if size != other[i]}
        if not (varying or is_seen):
            raise InvalidArgumentError(
                "example",
                self._example[0],
                f"no size of the layer's output, {tuple(shape)}, changes with a larger batch, so "
                f"that its neurons cannot be told; reset the states of the network, or give "
                f"shape=(...)",
            )
        return tuple(size for index, size in enumerate(shape) if index not in varying)

    def _with_more(self, dim: int) -> dict[str, tuple[int, torch.Size]] | None:
        """The shapes with twice as many entries along one size of the example, if it runs."""
        first, *others = self._example
        if first.ndim < dim + 2:  # What is left would be no neuron.
            return None
        try:
            return self._run((torch.cat([first, first], dim), *others))
        except Exception:  # It is the user's code, and may raise anything: it is another size.
            return None

    def _run(self, arguments: tuple[Any, ...]) -> dict[str, tuple[int, torch.Size]]:
        """Path -> how often a layer is called, and the shape of what it gives."""
        tried = copy_of_network(self._module)
        found: dict[str, tuple[int, torch.Size]] = {}

        def note(name: str, output: Any) -> None:
            tensor = next(tensors_in(output), None)
            if tensor is not None:
                calls, shape = found.get(name, (0, tensor.shape))
                found[name] = calls + 1, shape

        for name, part in nn.Module.named_modules(tried):
            # A layer may have weights of its own, so that its input does not tell.
            part.register_forward_hook(lambda *call, name=name: note(name, call[-1]))
        with as_before(), torch.no_grad():
            tried(*arguments)
        return found
