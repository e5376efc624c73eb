"""The forward of a module with attached values: each is evaluated once, and its use is watched."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._catalogue.entries import PLAIN_CLASS
from neuroparam._ground.torch_state import is_compiling, is_dynamo_compiling, is_replaced
from neuroparam._value.entry import last_step
from neuroparam._value.evidence import Evidence, judge_without_optimizer
from neuroparam._value.fitting import refuse_if_shapes_clash, warn_if_sizes_coincide
from neuroparam._value.once import active, close_scope, enter
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.uses import warn_if_bounded_again

__all__ = [
    "GIVEN",
    "PROVEN",
    "has_forward",
    "has_own_scope",
    "running",
    "tensors_in",
    "watch_output",
]

# Set on a module once a gradient has come to each of its values: nothing is left to watch.
PROVEN = "_neuroparam_proven"
# Set on a neuron module that was given to `make_trainable`: an object whose method `begin` is
# called with the module at the beginning of its forward, but not in compiled code.
GIVEN = "_neuroparam_given"


def has_forward(plain: type) -> bool:
    """Whether modules of a class can be called."""
    return getattr(plain, "forward", None) is not nn.Module.forward


def has_own_scope(module: nn.Module) -> bool:
    """Whether the forward of a module is the one that `running` has made."""
    return hasattr(type(module), PLAIN_CLASS) and has_forward(type(module))


def running(
    plain: Any, values_of: Callable[[nn.Module], Iterable[NeuronParameter]]
) -> Callable[..., Any]:
    """The forward of modules of a class that have attached values.

    Args:
        plain: the class.
        values_of: gives the values of a module, or of its records.
    """

    # Attributes of the function are marks for others, such as for torch.compile to go around it.
    @functools.wraps(plain.forward, updated=())
    def forward(self: nn.Module, *args: Any, **keywords: Any) -> Any:
        # This runs in each time step, and what nearly always holds is asked first.
        if is_dynamo_compiling():
            if active.scopes or active.traced:
                return plain.forward(self, *args, **keywords)
            active.traced.append({})
            try:
                return plain.forward(self, *args, **keywords)
            finally:
                active.traced.pop()
        own = self.__dict__
        if GIVEN in own:
            own[GIVEN].begin(self)
        elif active.scopes and PROVEN in own:
            return plain.forward(self, *args, **keywords)
        opened = enter(self)
        try:
            watched = PROVEN not in own and torch.is_grad_enabled()
            if watched and (is_replaced() or is_compiling()):
                return plain.forward(self, *args, **keywords)
            values = [v for v in values_of(self) if not v.evidence.proven] if watched else []
            if watched and not values:
                own[PROVEN] = True
            # Activation checkpointing runs a forward again within a backward pass.
            if values and torch._C._current_graph_task_id() == -1:
                around = functools.partial(_parameters_around, self)
                judge_without_optimizer(values, around, last_step())
            try:
                output = plain.forward(self, *args, **keywords)
            except RuntimeError as error:
                refuse_if_shapes_clash(error, values_of(self), args)
                raise
            if values:
                warn_if_sizes_coincide(values, args)
                watch_output(output, values)
            return output
        finally:
            if opened:
                close_scope(self)

    return forward


def _parameters_around(neuron: nn.Module) -> Iterator[nn.Parameter]:
    """The Parameters of the network that runs, as far as it is known."""
    root = next((scope.root for scope in active.scopes if scope.root is not None), neuron)
    return nn.Module.parameters(root)


class _Wanted:
    """A hook on an output: the loss depends on it."""

    __torch_unserializable__ = True  # torch.save leaves it out without a warning.

    def __init__(self, evidences: list[Evidence]):
        self._evidences = evidences

    def __call__(self, _: Tensor) -> None:
        for evidence in self._evidences:
            evidence.wanted = True


def watch_output(output: Any, values: Iterable[NeuronParameter]) -> None:
    """Notes whether a module gives an output with a graph, and whether a gradient comes to it.

    Args:
        output: what the forward of the module has given, with gradients enabled.
        values: those of the module. What is proven or frozen needs no watching.
    """
    # Compiled code calls no hook of a value. What a backward pass brings, its raw tensor is told.
    compiled = active.scopes[-1].traced or () if active.scopes else ()
    values = [v for v in values if not v.evidence.proven and v.raw.requires_grad]
    values = [v for v in values if v not in compiled]
    if not values:
        return
    evidences = [value.evidence for value in values]
    wanted = _Wanted(evidences)
    with_graph: list[Tensor] = []
    without_graph = False
    for tensor in tensors_in(output):
        if tensor.grad_fn is not None:
            tensor.register_hook(wanted)
            with_graph.append(tensor)
        elif tensor.is_floating_point():
            without_graph = True
    for evidence in evidences:
        evidence.ran = evidence.ran or bool(with_graph)
        evidence.ran_without_graph = evidence.ran_without_graph or without_graph
    _look_at_uses(values, with_graph)


def _look_at_uses(values: list[NeuronParameter], outputs: list[Tensor]) -> None:
    """Looks once, at the first forward that reads a value, at what is done with it."""
    if not (active.scopes and outputs):
        return
    read = active.scopes[-1].values
    new = [value for value in values if value in read and not value.evidence.looked_at]
    if new:
        warn_if_bounded_again({value: read[value].value for value in new}, outputs)
        for value in new:
            value.evidence.looked_at = True


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in an output, however nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, torch.distributions.Distribution):
        yield from tensors_in(list(vars(value).values()))
    elif not isinstance(value, (type, nn.Module)) and hasattr(value, "__dict__"):
        # A class of the user's: not deeper, because its objects may refer to each other.
        yield from (each for each in vars(value).values() if isinstance(each, Tensor))
