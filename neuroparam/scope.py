"""Once per forward: within a scope each parametrization is evaluated once, in each thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from neuroparam.callers import callers

__all__ = [
    "Evaluated",
    "Scope",
    "cached",
    "close_interrupted",
    "close_scope",
    "evaluate",
    "is_open",
    "open_scope",
    "transform_level",
]


# looked up once: both are asked at every read of a value
_current_level = torch._C._functorch.maybe_current_level
_is_compiling = torch.compiler.is_compiling


class Evaluated(Protocol):
    """What is evaluated: a callable that reads one raw tensor."""

    def __call__(self) -> Tensor: ...

    def received(self, gradient: Tensor | None) -> None:
        """Called when a backward pass reaches the value."""


class _Steps:
    """Which step was the last one of all optimizers."""

    last = object()

    def __call__(self, *_: object) -> None:
        self.last = object()  # never one of before, as a number counted by two threads may be


_steps = _Steps()
# for good: torch must not find its hooks changed while it calls them, by this or another thread
register_optimizer_step_post_hook(_steps)


class _Entry:
    """A value, and what tells whether it is still good."""

    __slots__ = (
        "__weakref__",
        "memory",
        "quick",
        "raw",
        "step",
        "used_up",
        "value",
        "version",
    )

    def __init__(self, raw: Tensor, value: Tensor):
        self.raw = raw
        self.value = value
        self.version = _version(raw)
        self.memory = _memory(raw)
        self.step = _steps.last
        # whether `evaluate` can tell by itself that the value is good: with a graph it serves
        # in every gradient mode
        self.quick = value.requires_grad and self.memory[-1] != 0 and not raw.is_inference()
        # set by a backward pass: the graph behind the value is gone then
        self.used_up = False

    def valid_in_forward(self, raw: Tensor) -> bool:
        """Whether evaluating anew would give the same value, and a graph if one is wanted."""
        if self.raw is not raw or self.used_up or self.version != _version(raw):
            return False
        value = self.value
        if value.requires_grad:
            return True  # also under no_grad: a Parameter requires a gradient there too
        if torch.is_grad_enabled():
            # made under no_grad, or in inference mode, where it can have no history
            return not (raw.requires_grad or value.is_inference())
        return torch.is_inference_mode_enabled() or not value.is_inference()

    def valid(self, raw: Tensor) -> bool:
        """The same, for the time of a `cached()` block, in which more can happen."""
        # fused optimizers change parameters without raising their version counter
        unstepped = self.step is _steps.last
        return unstepped and self.valid_in_forward(raw) and self.memory == _memory(raw)


def _version(raw: Tensor) -> int:
    """Changes with every in-place change of a tensor."""
    try:
        return raw._version
    except RuntimeError:  # an inference tensor has none
        return 0


def _memory(raw: Tensor) -> tuple[object, ...]:
    """Changes when a tensor is moved, converted, or given other memory (`raw.data = ...`)."""
    try:
        pointer = raw.data_ptr()
    except RuntimeError:  # a tensor without memory of its own, such as a meta or fake tensor
        pointer = 0
    return raw.dtype, raw.device, pointer


class _Backward:
    """A hook on a value: a backward pass has come through."""

    def __init__(self, entry: _Entry, parameter: Evaluated):
        # not the entry, which holds the value that holds this hook
        self._entry = weakref.ref(entry)
        self._parameter = parameter

    def __call__(self, gradient: Tensor | None) -> None:
        entry = self._entry()
        if entry is not None:
            entry.used_up = True
            entry.quick = False
        self._parameter.received(gradient)


def transform_level() -> int:
    """How many `torch.func` transforms are in progress: a value must not leave the one it is in."""
    return 0 if torch.compiler.is_compiling() else _current_level() or 0


def _exporting() -> bool:
    """Whether torch really runs the code while it compiles: `torch.export(..., strict=False)`."""
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


class Scope:
    """The values evaluated so far within one forward, or one `cached()` block."""

    def __init__(self, root: nn.Module | None, around: Scope | None = None):
        self.root = root
        self.grad_enabled = torch.is_grad_enabled()
        self.level = transform_level()
        self.values: dict[Evaluated, _Entry] = {}
        self.exporting = _exporting()
        self.traced: dict[Evaluated, Tensor] = {}
        self.exported: dict[Evaluated, Tensor] = {}
        self.frame: FrameType | None = None
        self.lasting = root is None
        if around is not None:
            if not self.exporting:  # else the values are numbers to the graph that is made
                self.values = around.values
            self.lasting = around.lasting
            self.grad_enabled = self.grad_enabled or around.grad_enabled
            if not self.lasting:
                self.traced = around.traced
                self.exported = around.exported

    def evaluate(self, parameter: Evaluated, raw: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            # compiled code cannot ask whether a value is still good: it need not within one
            # forward, where nothing changes a parameter, but a `cached()` block is longer
            if self.root is None:
                return parameter()
            # torch.compile also really reads the attributes that its guards are about, and
            # `traced`, which guards are about too, must not change then
            known = self.exported if _exporting() else self.traced
            if parameter not in known:
                known[parameter] = parameter()
            return known[parameter]
        if self.level != (_current_level() or 0):
            return parameter()
        entry = self.values.get(parameter)
        if entry is not None and (
            entry.valid(raw) if self.lasting else entry.valid_in_forward(raw)
        ):
            return entry.value
        # with the gradient mode of the forward, though the first read may be under no_grad
        with torch.set_grad_enabled(self.grad_enabled or torch.is_grad_enabled()):
            value = parameter()
        entry = self.values[parameter] = _Entry(raw, value)
        if value.requires_grad:
            value.register_hook(_Backward(entry, parameter))
        return value


class _Active(threading.local):
    """The scopes open in this thread, innermost last."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []


_active = _Active()


def _open_scopes() -> list[Scope]:
    """The scopes open in this thread, without one that a failed export left: it calls no hooks."""
    scopes = _active.scopes
    while scopes and scopes[-1].exporting and not torch.compiler.is_compiling():
        scopes.pop()
    return scopes


def evaluate(parameter: Evaluated, raw: Tensor) -> Tensor:
    """The value of a parameter: from the scope of this thread, or computed now.

    Args:
        parameter: what is evaluated.
        raw: the tensor that it reads at present.
    """
    # This runs at every read, in every time step. What nearly always holds is asked here, in one
    # function and at about the cost of reading an nn.Parameter; `Scope.evaluate` knows the rest.
    if not _is_compiling():
        scopes = _active.scopes
        if not scopes:
            return parameter()
        scope = scopes[-1]
        entry = scope.values.get(parameter)
        if (
            entry is not None
            and entry.quick
            and entry.raw is raw
            and entry.version == raw._version
            and scope.level == (_current_level() or 0)
            and not (
                scope.lasting
                and (entry.step is not _steps.last or entry.memory[-1] != raw.data_ptr())
            )
        ):
            return entry.value
    scopes = _open_scopes()
    return scopes[-1].evaluate(parameter, raw) if scopes else parameter()


def open_scope(root: nn.Module, frame: FrameType | None = None) -> None:
    """Opens the scope of a forward of `root`; inside another scope it joins that one.

    Args:
        root: the module given to `make_trainable`.
        frame: the call that runs its forward, for `close_interrupted`.
    """
    scopes = _open_scopes()
    # a recursive forward is not taken for the one that it is in
    if scopes and not is_open(root) and scopes[-1].level == transform_level():
        scopes.append(Scope(root, around=scopes[-1]))
    else:
        scopes.append(Scope(root))
    scopes[-1].frame = frame


def close_interrupted() -> None:
    """Closes what an interrupt (KeyboardInterrupt) has left open: torch runs no hook then.

    Else all later forwards in this thread would join that scope, and live on its values.
    """
    scopes = _active.scopes
    while scopes and scopes[-1].frame is not None:
        if any(frame is scopes[-1].frame for frame in callers()):
            break
        scopes.pop()


def close_scope(root: nn.Module) -> None:
    """Closes the innermost scope of `root` and whatever was left open inside it."""
    scopes = _active.scopes
    if is_open(root):
        while scopes.pop().root is not root:
            pass


def is_open(root: nn.Module) -> bool:
    """Whether a forward of `root` is in progress in this thread."""
    return root in [scope.root for scope in _active.scopes]  # modules compare by identity


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
    _active.scopes.append(scope)
    try:
        yield
    finally:
        if scope in _active.scopes:
            del _active.scopes[_active.scopes.index(scope) :]
