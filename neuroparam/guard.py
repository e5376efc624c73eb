"""No silent failure: every attached parameter must be reached by gradients."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuroparam.attachment import (
    Attached,
    NeuronParameter,
    attached,
    is_attached,
    parts,
    refuse_non_module,
)
from neuroparam.checkpoints import refuse_unfit
from neuroparam.distributed import forget_processes, refuse_sharded, unite_processes
from neuroparam.errors import NoGradientError
from neuroparam.scope import close_interrupted, close_scope, is_open, open_scope, transform_level

__all__ = ["check_gradients", "release_forward", "watch_forward"]

_KEY = "_neuroparam_forward"

# what every module has; all else that a module keeps may be its state, private or not
_NOT_STATE = {*nn.Module().__dict__, _KEY}

_UNREACHED = (
    "The output of the forward does not depend on it: the module may copy the value when it is "
    "built, cast it to a number for a compiled kernel, or compute with another attribute."
)
_NONE_CAME = (
    "A backward pass came through the place where it is used and brought None: a custom "
    "autograd function on the way returns no gradient for it (an adjoint or a fused kernel). "
    "Choose the implementation that differentiates it."
)


class _Forward:
    """What a module given to `make_trainable` carries: its hooks, and what is yet to be shown."""

    def __init__(self, module: nn.Module):
        self.reachable = False
        self.unproven: list[NeuronParameter] = []
        self.handles: list[RemovableHandle] = [
            module.register_forward_pre_hook(_enter, prepend=True),
            # called also when the forward raises
            module.register_forward_hook(_leave, always_call=True),
            module.register_forward_hook(_verify),
            module.register_load_state_dict_pre_hook(refuse_unfit),
        ]


def watch_forward(module: nn.Module) -> None:
    """Evaluates once per forward of `module` from now on, and checks its gradients anew."""
    module = module._modules.get("_orig_mod") or module  # what torch.compile has wrapped
    if _KEY not in module.__dict__:
        module.__dict__[_KEY] = _Forward(module)
    forward: _Forward = module.__dict__[_KEY]
    forward.reachable = False
    forward.unproven = []
    forget_processes(module)


def release_forward(module: nn.Module) -> None:
    """Undoes `watch_forward` on every part of a module where nothing is attached any more."""
    for part in parts(module):
        if _KEY not in part.__dict__:
            continue
        if is_attached(part):
            watch_forward(part)  # what was fixed is not to be proven any more
        else:
            forward: _Forward = part.__dict__.pop(_KEY)
            for handle in forward.handles:
                handle.remove()


# When torch.compile is given the module itself, it leaves the hooks outside and looks at each as
# a function of its own. They keep tensors out of their local variables, so that it finds nothing.


def _enter(module: nn.Module, *_: Any) -> None:
    forward: _Forward = module.__dict__[_KEY]
    frame = None
    if not torch.compiler.is_compiling():
        frame = sys._getframe(1)
        close_interrupted()
        if forward.unproven:
            _raise_if_none_came(forward)
        if torch.is_grad_enabled():
            unite_processes(module)
            if not forward.reachable:
                for found in attached(module):
                    found.parameter.read = None  # the id of a tensor that may be gone by now
    open_scope(module, frame)


def _leave(module: nn.Module, *_: Any) -> None:
    close_scope(module)


def _raise_if_none_came(forward: _Forward) -> None:
    without = [p for p in forward.unproven if p.gradient_seen is False]
    for parameter in without:
        parameter.gradient_seen = None  # the cause may be mended now: the next backward tells
    if without:
        raise NoGradientError([p.path for p in without], _NONE_CAME)
    # not those that are None now: another thread may be in a backward pass
    forward.unproven = [p for p in forward.unproven if not p.gradient_seen]


def _verify(module: nn.Module, *args_and_output: Any) -> None:
    """At the first forward with gradients: is every raw parameter in the graph of the output?"""
    forward: _Forward = module.__dict__[_KEY]
    if forward.reachable or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    if torch._C._get_tracing_state() or transform_level():
        return  # tracing and torch.func replace tensors by stand-ins
    if is_open(module):
        return  # the module called itself, and has not finished
    everything = list(attached(module))
    if not all(isinstance(a.parameter.raw, nn.Parameter) for a in everything):
        return  # so does functional_call
    wanted = [a for a in everything if a.parameter.raw.requires_grad]
    reached = _reached([*_tensors(args_and_output[1]), *_state(module)], wanted)
    if reached is None:
        return
    missing = [a.path for a in wanted if a.path not in reached]
    if missing:
        raise NoGradientError(missing, _UNREACHED)
    # in this order: other threads look at them
    forward.unproven = [a.parameter for a in wanted if not a.parameter.gradient_seen]
    forward.reachable = True


def _reached(outputs: Iterable[Tensor], wanted: list[Attached]) -> set[str] | None:
    """The paths whose raw parameter is in the graph of the outputs; None if it cannot be told.

    Reentrant checkpointing hides what it computes from the graph.
    """
    paths = {read: a.path for a in wanted for read in (id(a.parameter.raw), a.parameter.read)}
    found: set[str] = set()
    pending = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    seen = set(pending)
    while pending and len(found) < len(wanted):
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


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in an output, however nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _tensors([getattr(value, field.name) for field in dataclasses.fields(value)])


def _state(module: nn.Module) -> Iterator[Tensor]:
    """Tensors that the modules keep for the next time step: a way on which gradients flow."""
    for part in parts(module):
        yield from (buffer for buffer in part._buffers.values() if buffer is not None)
        yield from _tensors([v for k, v in part.__dict__.items() if k not in _NOT_STATE])


def check_gradients(module: nn.Module, *inputs: Any, **keywords: Any) -> dict[str, Tensor]:
    """Runs the module once and returns the gradient that reaches each attached parameter.

    The loss is the sum of all floating-point tensors in the output. No `.grad` is touched; a
    module that keeps its state between calls has made one step more. A gradient of zero is no
    error (silent neurons have one), a missing gradient is.

    Args:
        module: a module with attached parameters.
        *inputs: what its forward takes, for example spikes of shape (T, batch, inputs).
        **keywords: further keyword arguments of its forward.

    Returns:
        Path -> gradient with respect to the raw tensor, in its shape.

    Raises:
        NoGradientError: a parameter gets no gradient, or the output has none at all.
        UnsupportedModuleError: the parameters are sharded by `fully_shard`.

    Examples:
        >>> import torch
        >>> from neuroparam import ExpScaledLog, make_trainable
        >>> class Leak(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tau = 2.0
        ...     def forward(self, x):
        ...         return x / self.tau
        >>> check_gradients(make_trainable(Leak(), "tau"), torch.ones(3))
        {'tau': tensor(-1.5000)}
    """
    refuse_non_module(module)
    refuse_sharded(module, "Call check_gradients before fully_shard.")
    wanted = [a for a in attached(module) if a.parameter.raw.requires_grad]
    if not wanted:
        return {}
    with torch.enable_grad():
        output = module(*inputs, **keywords)
        parts = [t.sum() for t in _tensors(output) if t.is_floating_point() and t.requires_grad]
        if not parts:
            raise NoGradientError([a.path for a in wanted], _UNREACHED)
        gradients = torch.autograd.grad(
            torch.stack([part.double() for part in parts]).sum(),
            [a.parameter.raw for a in wanted],
            allow_unused=True,
        )
    missing = [a.path for a, g in zip(wanted, gradients, strict=True) if g is None]
    if missing:
        raise NoGradientError(missing, f"{_UNREACHED} Or: {_NONE_CAME}")
    return {a.path: g for a, g in zip(wanted, gradients, strict=True) if g is not None}
