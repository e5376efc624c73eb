"""What happens in a forward of the modules above a neuron, up to the one that was given.

Hooks open and close the scope in which each value is evaluated once. A neuron module itself does
so in its forward (`_value/running.py`), for wherever a network is entered below these modules.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from neuroparam._ground.torch_state import (
    all_modules,
    is_compiling,
    is_replaced,
    put_first,
    transform_level,
    uncompiled,
)
from neuroparam._training.processes import share_constants, share_constants_again
from neuroparam._value.once import active, close_interrupted, close_scope, is_open, open_scope
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.place import is_attached, with_holders
from neuroparam._value.running import GIVEN, has_forward, has_own_scope, watch_output

__all__ = ["stop_watching", "watch_forward"]

# torch.compile compares the keys of hooks. Those that torch itself gives differ from module to
# module, and each would be compiled anew.
_KEY = "_neuroparam_forward"


class _Watched:
    """What a module above a neuron carries.

    Attributes:
        is_given: whether it was given to `make_trainable`.
        values: those of modules without a forward, which this module reads in its own.
    """

    def __init__(self, module: nn.Module):
        self.is_given = False
        self.values: list[NeuronParameter] = []
        before, after, always = _hooks_of(module)
        put_first(before, _KEY, _enter)
        after[_KEY] = _leave
        always[_KEY] = True  # The scope is closed also when the forward raises.

    def remove(self, module: nn.Module) -> None:
        for hooks in _hooks_of(module):
            hooks.pop(_KEY, None)


class _GivenNeuron:
    """What a neuron module carries that was given to `make_trainable`.

    Its own forward opens and closes the scope. Hooks would take as long as all that they do.
    """

    def begin(self, module: nn.Module) -> None:
        if is_compiling():  # Without Dynamo, which asks for no beginning: torch.export.
            return
        if active.scopes:
            close_interrupted()
        if torch.is_grad_enabled():
            share_constants(module)


def _hooks_of(module: nn.Module) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]:
    return (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._forward_hooks_always_called,
    )


def watch_forward(module: nn.Module) -> None:
    """Evaluates once per forward of `module`, and of what is between it and its neurons."""
    module = module._modules.get("_orig_mod") or module  # torch.compile has wrapped it.
    for reader, values in _readers(module).items():
        if has_own_scope(reader) and not values:
            if reader is module:
                reader.__dict__[GIVEN] = _GivenNeuron()
            continue
        if _KEY not in reader.__dict__:
            reader.__dict__[_KEY] = _Watched(reader)
        state: _Watched = reader.__dict__[_KEY]
        state.is_given = state.is_given or reader is module
        state.values = values
    share_constants_again(module)


def _readers(module: nn.Module) -> dict[nn.Module, list[NeuronParameter]]:
    """The modules from the given one down to its neurons, without these.

    A neuron module that has no forward, such as a container of constants, is read by the module
    above it: the values of such modules come with the first one above that has a forward.
    """
    found: dict[nn.Module, list[NeuronParameter]] = {module: []}
    for place, holders in with_holders(module):
        unread = None if has_forward(type(place.neuron)) else place.parameter
        for reader in holders:
            # Records are parts of the neuron, and have no forward.
            if reader is place.neuron or not has_forward(type(reader)):
                continue
            values = found.setdefault(reader, [])
            if unread is not None and unread not in values:
                values.append(unread)
            unread = None
    return found


def stop_watching(module: nn.Module) -> None:
    """Undoes `watch_forward` on every part of a module where nothing is attached any more."""
    for part in all_modules(module):
        if GIVEN in part.__dict__ and not is_attached(part):
            del part.__dict__[GIVEN]
        state: _Watched | None = part.__dict__.get(_KEY)
        if state is None:
            continue
        if not is_attached(part):
            state.remove(part)
            del part.__dict__[_KEY]
        elif state.is_given:
            watch_forward(part)  # It no longer reads what has been fixed.


# torch.compile(module) would compile each hook as a frame of its own. Before `uncompiled` can keep
# it from that, in torch 2.6, it passes over frames without tensors among their local variables. So
# the hooks keep tensors out of local variables.


@uncompiled
def _enter(module: nn.Module, *_: Any) -> None:
    frame = None
    if not is_compiling():
        state: _Watched = module.__dict__[_KEY]
        scopes = active.scopes
        is_inside = bool(scopes) and scopes[-1].level == transform_level()
        if is_inside and not state.is_given and not is_open(module):
            return
        frame = sys._getframe(1)
        if scopes:
            close_interrupted()
        if state.is_given and torch.is_grad_enabled():
            share_constants(module)
    open_scope(module, frame)


@uncompiled
def _leave(module: nn.Module, *args_and_output: Any) -> None:
    if not is_compiling():
        state: _Watched = module.__dict__[_KEY]
        has_output = len(args_and_output) == 2  # torch gives none where the forward has raised.
        if state.values and has_output and torch.is_grad_enabled() and not is_replaced():
            watch_output(args_and_output[1], state.values)
    close_scope(module)
