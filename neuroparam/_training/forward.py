"""What happens in a forward of the module given to `make_trainable`.

Its hooks open and close the scope in which each value is evaluated once, compare processes, and
check that every value is in the graph of the first output.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuroparam._ground.errors import NoGradientError
from neuroparam._ground.torch_state import all_modules, is_compiling, transform_level
from neuroparam._training.processes import share_constants, share_constants_again
from neuroparam._value.once import close_interrupted, close_scope, is_open, open_scope
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.place import Place, attached, is_attached

__all__ = [
    "NONE_CAME",
    "UNREACHED",
    "raise_if_none_came",
    "stop_watching",
    "tensors_in",
    "verify",
    "watch_forward",
    "watched",
]

_KEY = "_neuroparam_forward"

# Every module has these attributes. All others may be a module's state, private or not.
_NOT_STATE = {*nn.Module().__dict__, _KEY}

UNREACHED = (
    "The output of the forward does not depend on it: the module may copy the value when it is "
    "built, cast it to a number for a compiled kernel, or compute with another attribute."
)
NONE_CAME = (
    "A backward pass came through the place where it is used and brought None: a custom "
    "autograd function on the way returns no gradient for it (an adjoint or a fused kernel). "
    "Choose the implementation that differentiates it."
)


class _Watched:
    """What a module given to `make_trainable` carries.

    Attributes:
        reachable: whether every value has been seen in the graph of an output.
        unproven: the values to which no backward pass has brought a gradient yet.
        handles: of its hooks.
    """

    def __init__(self, module: nn.Module):
        self.reachable = False
        self.unproven: list[NeuronParameter] = []
        self.handles: list[RemovableHandle] = [
            module.register_forward_pre_hook(_enter, prepend=True),
            # The scope is closed also when the forward raises.
            module.register_forward_hook(_leave, always_call=True),
            module.register_forward_hook(verify),
        ]


def watched(module: nn.Module) -> _Watched:
    """What a watched module carries."""
    found: _Watched = module.__dict__[_KEY]
    return found


def watch_forward(module: nn.Module) -> None:
    """Evaluates once per forward of `module` from now on, and checks its gradients anew."""
    module = module._modules.get("_orig_mod") or module  # torch.compile has wrapped it.
    if _KEY not in module.__dict__:
        module.__dict__[_KEY] = _Watched(module)
    state = watched(module)
    state.reachable = False
    state.unproven = []
    share_constants_again(module)


def stop_watching(module: nn.Module) -> None:
    """Undoes `watch_forward` on every part of a module where nothing is attached any more."""
    for part in all_modules(module):
        if _KEY not in part.__dict__:
            continue
        if is_attached(part):
            watch_forward(part)  # The check leaves out what has been fixed.
        else:
            state: _Watched = part.__dict__.pop(_KEY)
            for handle in state.handles:
                handle.remove()


# torch.compile(module) compiles each hook as a frame of its own, and passes over frames without
# tensors among their local variables. So the hooks keep tensors out of local variables.


def _enter(module: nn.Module, *_: Any) -> None:
    state = watched(module)
    frame = None
    if not is_compiling():
        frame = sys._getframe(1)
        close_interrupted()
        if state.unproven:
            raise_if_none_came(state)
        if torch.is_grad_enabled():
            share_constants(module)
            if not state.reachable:
                for place in attached(module):
                    # Python may have given an id of an earlier forward to another tensor.
                    place.parameter.raw_seen = None
    open_scope(module, frame)


def _leave(module: nn.Module, *_: Any) -> None:
    close_scope(module)


def raise_if_none_came(state: _Watched) -> None:
    """Raises if a backward pass has come through a value without bringing a gradient.

    Raises:
        NoGradientError: naming each of them.
    """
    without = [p for p in state.unproven if p.gradient_seen is False]
    for parameter in without:
        # The user may mend the cause now, and the next backward pass shows it.
        parameter.gradient_seen = None
    if without:
        raise NoGradientError([p.path for p in without], NONE_CAME)
    # Ask for a gradient that came, not for one that is still None: a backward pass in another
    # thread may just have brought None.
    state.unproven = [p for p in state.unproven if not p.gradient_seen]


def verify(module: nn.Module, *args_and_output: Any) -> None:
    """At the first forward with gradients: is every raw parameter in the graph of the output?

    Raises:
        NoGradientError: naming those that are not.
    """
    state = watched(module)
    if state.reachable or is_compiling() or not torch.is_grad_enabled():
        return
    if torch._C._get_tracing_state() or transform_level():
        return  # Tracing and torch.func replace tensors by stand-ins.
    if is_open(module):
        return  # The module has called itself, and is not finished.
    everything = list(attached(module))
    if not all(isinstance(place.parameter.raw, nn.Parameter) for place in everything):
        return  # functional_call has replaced the raw tensors.
    trained = [place for place in everything if place.parameter.raw.requires_grad]
    reached = _reached([*tensors_in(args_and_output[1]), *_state_of(module)], trained)
    if reached is None:
        return
    missing = [place.path for place in trained if place.path not in reached]
    if missing:
        raise NoGradientError(missing, UNREACHED)
    # `unproven` is set first, because other threads look at it once `reachable` is set.
    state.unproven = [p.parameter for p in trained if not p.parameter.gradient_seen]
    state.reachable = True


def _reached(outputs: Iterable[Tensor], trained: list[Place]) -> set[str] | None:
    """The paths whose raw parameter is in the graph of the outputs; None if it cannot be told.

    Reentrant checkpointing hides what it computes from the graph.
    """
    paths = {
        key: place.path
        for place in trained
        for key in (id(place.parameter.raw), place.parameter.raw_seen)
    }
    found: set[str] = set()
    pending = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    seen = set(pending)
    while pending and len(found) < len(trained):
        node = pending.pop()
        if node.name().startswith("CheckpointFunction"):
            return None
        path = paths.get(id(getattr(node, "variable", None)))
        if path is not None:
            found.add(path)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                pending.append(following)
    return found


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


def _state_of(module: nn.Module) -> Iterator[Tensor]:
    """Tensors that the modules keep for the next time step: gradients flow through them too."""
    for part in all_modules(module):
        yield from (buffer for buffer in part._buffers.values() if buffer is not None)
        yield from tensors_in([v for k, v in part.__dict__.items() if k not in _NOT_STATE])
