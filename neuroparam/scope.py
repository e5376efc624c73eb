"""Once per forward: within a scope each parametrization is evaluated once, in each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["Evaluated", "Scope", "cached", "close_scope", "evaluate", "is_open", "open_scope"]


class Evaluated(Protocol):
    """What is evaluated: a callable that reads one tensor, `original`."""

    @property
    def original(self) -> Tensor: ...

    def __call__(self) -> Tensor: ...

    def received(self, gradient: Tensor | None) -> None:
        """Called when a backward pass reaches the value."""


class _Backward:
    """Notes that a backward pass went through a value.

    After it the graph behind the value is gone, so the value must not be used again.
    """

    def __init__(self, parameter: Evaluated):
        self.passed = False
        self._parameter = parameter

    def __call__(self, gradient: Tensor | None) -> None:
        self.passed = True
        self._parameter.received(gradient)


class _Entry:
    __slots__ = ("backward", "device", "dtype", "original", "pointer", "value", "version")

    def __init__(self, original: Tensor, value: Tensor, backward: _Backward):
        self.original = original
        self.value = value
        self.backward = backward
        self.dtype = original.dtype
        self.device = original.device
        self.version, self.pointer = _state(original)

    def valid_for(self, original: Tensor) -> bool:
        """Whether the value is still what evaluating `original` anew would give."""
        if (
            self.original is not original
            or self.backward.passed
            or self.dtype is not original.dtype
            or self.device != original.device
            or (self.version, self.pointer) != _state(original)
        ):
            return False
        if torch.is_inference_mode_enabled():
            return True
        if self.value.is_inference():
            return False
        # a value made under no_grad has no history; one with history serves both modes
        return self.value.requires_grad or not (torch.is_grad_enabled() and original.requires_grad)


def _state(original: Tensor) -> tuple[int, int]:
    """Changes with every in-place change of a tensor, and when its memory is exchanged."""
    if original.is_inference():
        return 0, 0
    try:
        return original._version, original.data_ptr()
    except RuntimeError:  # a tensor without memory of its own, such as a meta or fake tensor
        return original._version, 0


def _transform_level() -> int:
    """How many `torch.func` transforms are in progress: a value must not leave the one it is in."""
    if torch.compiler.is_compiling():
        return 0
    return torch._C._functorch.maybe_current_level() or 0


class Scope:
    """The values evaluated so far within one forward, or one `cached()` block."""

    def __init__(self, root: nn.Module | None, around: Scope | None = None):
        self.root = root
        self.grad_enabled = torch.is_grad_enabled()
        self.level = _transform_level()
        self.values: dict[Evaluated, _Entry] = {}
        self.traced: dict[Evaluated, Tensor] = {}
        if around is not None:
            self.values = around.values
            self.grad_enabled = self.grad_enabled or around.grad_enabled
            if around.root is not None:
                self.traced = around.traced

    def evaluate(self, parameter: Evaluated) -> Tensor:
        if torch.compiler.is_compiling():
            # compiled code cannot ask whether a value is still good: it need not within one
            # forward, where nothing changes a parameter, but a `cached()` block is longer
            if self.root is None:
                return parameter()
            if parameter not in self.traced:
                self.traced[parameter] = parameter()
            return self.traced[parameter]
        if self.level != _transform_level():
            return parameter()
        original = parameter.original
        entry = self.values.get(parameter)
        if entry is not None and entry.valid_for(original):
            return entry.value
        # with the gradient mode of the forward, though the first read may be under no_grad
        with torch.set_grad_enabled(self.grad_enabled or torch.is_grad_enabled()):
            value = parameter()
        backward = _Backward(parameter)
        if value.requires_grad:
            value.register_hook(backward)
        self.values[parameter] = _Entry(original, value, backward)
        return value


class _Active(threading.local):
    """The scopes open in this thread, innermost last."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []


_active = _Active()


def evaluate(parameter: Evaluated) -> Tensor:
    """The value of a parameter: from the scope of this thread, or computed now."""
    scopes = _active.scopes
    return scopes[-1].evaluate(parameter) if scopes else parameter()


def open_scope(root: nn.Module) -> None:
    """Opens the scope of a forward of `root`; inside another scope it joins that one."""
    scopes = _active.scopes
    # An interrupt (KeyboardInterrupt) can leave a scope open; a forward of the same module
    # must not live on its values, nor may a recursive one be taken for it.
    if scopes and not is_open(root) and scopes[-1].level == _transform_level():
        scopes.append(Scope(root, around=scopes[-1]))
    else:
        scopes.append(Scope(root))


def close_scope(root: nn.Module) -> None:
    """Closes the innermost scope of `root` and whatever was left open inside it."""
    scopes = _active.scopes
    for index in range(len(scopes) - 1, -1, -1):
        if scopes[index].root is root:
            del scopes[index:]
            return


def is_open(root: nn.Module) -> bool:
    """Whether a forward of `root` is in progress in this thread."""
    return any(scope.root is root for scope in _active.scopes)


@contextmanager
def cached() -> Iterator[None]:
    """Evaluates each parametrization once for a time loop of your own.

    The forward of the module given to `make_trainable` does this by itself. Use this around a
    loop that calls single-step cells one by one:

        >>> import torch
        >>> from neuroparam import Softplus, cached, make_trainable
        >>> class Cell(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.decay_rate = 0.1
        ...     def forward(self, x, v):
        ...         return v + self.decay_rate * (x - v)
        >>> cell = make_trainable(Cell(), {"decay_rate": Softplus()})
        >>> v = torch.zeros(4)
        >>> with cached():
        ...     for step in range(100):
        ...         v = cell(torch.ones(4), v)

    A value is computed anew when its parameter changes (an optimizer step, an assignment, a
    checkpoint, a move), when a backward pass has used up its graph, and when it is first needed
    with gradients. Threads do not share values. Under `torch.func` transforms and in compiled
    code that start inside the block, values are computed each time.
    Writing through `parameter.data` is the one change that cannot be seen.
    """
    scope = Scope(None)
    # fused optimizers change parameters without raising their version counter
    handle = register_optimizer_step_post_hook(lambda *_: scope.values.clear())
    _active.scopes.append(scope)
    try:
        yield
    finally:
        handle.remove()
        if scope in _active.scopes:
            del _active.scopes[_active.scopes.index(scope) :]
