"""Once per forward: within a scope each value is evaluated once, in each thread.

A scope is the time of one forward, or of one `cached()` block. `evaluate` is called at every read
of a value. It returns the value that the scope of this thread keeps, if that is still good, and
has the parameter compute it otherwise.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from neuroparam._ground.torch_state import (
    callers,
    current_level,
    is_compiling,
    is_dynamo_compiling,
    is_traced,
    transform_level,
)
from neuroparam._maps.fused import tell
from neuroparam._value.entry import Backward, Entry, Evaluated, Kept, LastStep, keep
from neuroparam._value.writes import Copy, copy_of

__all__ = [
    "Evaluated",
    "Scope",
    "active",
    "cached",
    "close_interrupted",
    "close_scope",
    "enter",
    "evaluate",
    "forget",
    "is_open",
    "note_optimizer_step",
    "open_scope",
    "warn_of_writes",
]


def note_optimizer_step() -> None:
    """An optimizer has made a step: what `cached()` blocks keep is too old.

    Fused optimizers change Parameters unseen, so that no scope may be open that belongs to a
    forward which has been interrupted.
    """
    # A fresh object cannot repeat. A counter that two threads raise could.
    LastStep.token = object()
    if active.scopes:
        close_interrupted()
    if active.direct:
        warn_of_writes()


def _no_forward_mode() -> bool:
    """Whether no derivatives are computed in forward mode."""
    return forward_ad._current_level < 0


def _exporting() -> bool:
    """Whether torch runs the code itself while it compiles: `torch.export(..., strict=False)`."""
    return is_compiling() and not torch.compiler.is_dynamo_compiling()


class Scope:
    """The values evaluated so far within one forward, or one `cached()` block."""

    def __init__(self, root: nn.Module | None, around: Scope | None = None):
        compiling = is_compiling()
        self.root = root
        self.grad_enabled = torch.is_grad_enabled()
        self.level = 0 if compiling else current_level() or 0
        self.values: dict[Evaluated, Entry] = {}
        self.exporting = compiling and not is_dynamo_compiling()
        # What compiled code has computed. In a `cached()` block it computes each value anew.
        self.traced: dict[Evaluated, Tensor] | None = None if root is None else {}
        self.exported: dict[Evaluated, Tensor] = {}
        self.frame: FrameType | None = None
        self.lasting = root is None
        self.copies: list[tuple[Evaluated, Copy]] = []
        if around is not None:
            if not self.exporting:  # To an exported graph, values from outside are constants.
                self.values = around.values
                self.copies = around.copies
            self.lasting = around.lasting
            self.grad_enabled = self.grad_enabled or around.grad_enabled
            if not self.lasting:
                self.traced = around.traced
                self.exported = around.exported
        # In a `cached()` block more can happen than in a forward, and more has to be asked.
        self.of_forward: dict[Evaluated, Entry] = {} if self.lasting else self.values

    def evaluate_compiling(self, parameter: Evaluated, raw: Tensor) -> Tensor:
        # Compiled code cannot ask whether a value is still good. Within one forward it need
        # not, because nothing changes a parameter there; a `cached()` block is longer.
        if self.traced is None:
            return parameter()
        # While Dynamo builds guards, it runs our properties for real. Such a read must not
        # write to `traced`, because a guard watches that dictionary.
        known = self.exported if _exporting() else self.traced
        if parameter in known:
            return known[parameter]
        value = parameter()
        if value.requires_grad or not raw.requires_grad:  # Under no_grad it is of no use later.
            known[parameter] = value
        return value

    def evaluate(self, parameter: Evaluated, raw: Tensor) -> Tensor:
        if self.level != (current_level() or 0):
            return parameter()
        entry = self.values.get(parameter)
        if entry is not None and (
            entry.valid(raw) if self.lasting else entry.valid_in_forward(raw)
        ):
            return entry.value
        if not self.lasting and not is_traced() and not self.level and _no_forward_mode():
            return self._evaluate_for_later(parameter, raw)
        return self._evaluate(parameter, raw)

    def _evaluate(self, parameter: Evaluated, raw: Tensor) -> Tensor:
        """The value, computed now, for this scope."""
        compute = parameter if self.level else parameter.evaluated
        # The first read may be under no_grad, and later reads in this forward need the graph.
        if self.grad_enabled and not torch.is_grad_enabled():
            with torch.enable_grad():
                value = compute()
        else:
            value = compute()
        if not isinstance(value, Tensor):  # torch.fx traces, and has a node of its graph here.
            return value
        entry = self.values[parameter] = Entry(raw, value)
        evidence = parameter.evidence
        if value.requires_grad:
            tell(value, Backward(entry, evidence))
            evidence.read = True
        if evidence.is_due() and not self.level and (copy := copy_of(value)) is not None:
            self.copies.append((parameter, copy))
        return value

    def _evaluate_for_later(self, parameter: Evaluated, raw: Tensor) -> Tensor:
        """The value, from an earlier forward of this thread or computed now."""
        kept = active.kept.get(parameter)
        if kept is not None and kept.is_good(raw) and parameter.depends_on_raw_alone():
            assert kept.value is not None
            if kept.value.differs_now():
                del active.kept[parameter]
                parameter.refuse_written(kept.value)
            kept.served = True
            entry = self.values[parameter] = kept.entry
            evidence = parameter.evidence
            evidence.read = evidence.read or entry.value.requires_grad
            return entry.value
        value = self._evaluate(parameter, raw)
        made = self.values.get(parameter)
        new = None if made is None else keep(parameter, made, kept)
        if new is not None:
            active.kept[parameter] = new
        elif kept is not None:
            active.kept.pop(parameter, None)
        return value

    def refuse_writes(self) -> None:
        """Raises where code has written into a value of this scope."""
        for parameter, copy in self.copies:
            if copy.differs():
                parameter.refuse_written(copy)


class Active(threading.local):
    """What is in progress in this thread.

    Attributes:
        scopes: those that are open, innermost last.
        direct: the values that were last read outside of every scope.
        kept: what forwards have computed, for those that follow.
        traced: what compiled code has computed in the forwards of neurons that it runs outside of
            every scope, innermost last.
    """

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.direct: weakref.WeakKeyDictionary[Evaluated, Copy] = weakref.WeakKeyDictionary()
        self.traced: list[dict[Evaluated, Tensor]] = []
        self.kept: weakref.WeakKeyDictionary[Evaluated, Kept] = weakref.WeakKeyDictionary()


active = Active()


def _open_scopes() -> list[Scope]:
    """The scopes open in this thread.

    A failed export calls no hooks, and leaves a scope open; it is closed here.
    """
    scopes = active.scopes
    while scopes and scopes[-1].exporting and not is_compiling():
        scopes.pop()
    return scopes


def evaluate(parameter: Evaluated, raw: Tensor) -> Tensor:
    """The value of a parameter: from the scope of this thread, or computed now.

    Args:
        parameter: what is evaluated.
        raw: the tensor that it reads at present.
    """
    # Reads that the property of a value (`_value/injected.py`) cannot serve come here.
    if is_compiling():
        scopes = _open_scopes()
        return scopes[-1].evaluate_compiling(parameter, raw) if scopes else parameter()
    scopes = active.scopes
    if not scopes:
        return _evaluate_directly(parameter)
    scope = scopes[-1]
    if scope.exporting:
        scopes = _open_scopes()
        return scopes[-1].evaluate(parameter, raw) if scopes else parameter()
    if scope.lasting:
        entry = scope.values.get(parameter)
        if (
            entry is not None
            and entry.only_version is raw
            and entry.version == raw._version
            and entry.step is LastStep.token
            and entry.memory[-1] == raw.data_ptr()
            and scope.level == (current_level() or 0)
        ):
            return entry.value
    return scope.evaluate(parameter, raw)


def _evaluate_directly(parameter: Evaluated) -> Tensor:
    """The value outside of every scope, computed for this one read.

    What other code writes into it is lost, and warned about at the next read, forward or step.
    """
    if parameter in active.direct:
        _warn_if_written(parameter)
    value = parameter()
    if not isinstance(value, Tensor):  # torch.fx traces, and has a node of its graph here.
        return value
    if not (current_level() or 0) and (value.device.type == "cpu" or parameter.evidence.is_due()):
        copy = copy_of(value)
        if copy is not None:
            active.direct[parameter] = copy
    return value


def _warn_if_written(parameter: Evaluated) -> None:
    copy = active.direct.pop(parameter, None)
    if copy is not None and copy.differs():
        parameter.warn_of_write(copy)


def warn_of_writes() -> None:
    """Warns where code has written into a value that it read outside of every scope."""
    for reference in active.direct.keyrefs():
        parameter = reference()
        if parameter is not None:
            _warn_if_written(parameter)


def forget(parameter: Evaluated) -> None:
    """Drops what the open scopes of this thread keep of a parameter, which has been converted."""
    for scope in active.scopes:
        scope.values.pop(parameter, None)
    active.kept.pop(parameter, None)


def enter(neuron: nn.Module) -> bool:
    """Opens the scope of a forward of one neuron module, unless one is open that will do."""
    scopes = active.scopes
    if (
        scopes
        and scopes[-1].level == transform_level()
        and (not scopes[-1].exporting or is_compiling())
    ):
        return False
    scopes.append(Scope(neuron))
    if active.direct and not is_compiling():
        warn_of_writes()
    return True


def open_scope(root: nn.Module, frame: FrameType | None = None) -> None:
    """Opens the scope of a forward of `root`; inside another scope it joins that one.

    Args:
        root: a module above a neuron, or the one given to `make_trainable`.
        frame: the call that runs its forward, for `close_interrupted`.
    """
    scopes = _open_scopes()
    # A module that calls itself opens a scope of its own: the outer forward is not finished.
    if scopes and not is_open(root) and scopes[-1].level == transform_level():
        scopes.append(Scope(root, around=scopes[-1]))
    else:
        scopes.append(Scope(root))
    scopes[-1].frame = frame
    if not is_compiling() and active.direct:
        warn_of_writes()


def close_interrupted() -> None:
    """Closes the scopes that a KeyboardInterrupt has left open, because torch runs no hook then.

    All later forwards in this thread would otherwise join such a scope, and read its old values.
    """
    scopes = active.scopes
    while scopes and scopes[-1].frame is not None:
        if any(frame is scopes[-1].frame for frame in callers()):
            break
        scopes.pop()


def close_scope(root: nn.Module) -> None:
    """Closes the innermost scope of `root` and whatever was left open inside it."""
    scopes = active.scopes
    if is_open(root):
        closed = scopes.pop()
        while closed.root is not root:
            closed = scopes.pop()
        if closed.copies and not scopes and not is_compiling() and sys.exc_info()[0] is None:
            closed.refuse_writes()


def is_open(root: nn.Module) -> bool:
    """Whether a forward of `root` is in progress in this thread."""
    scopes = active.scopes
    if scopes and scopes[-1].root is root:  # This nearly always holds.
        return True
    return root in [scope.root for scope in scopes]


@contextmanager
def cached() -> Iterator[None]:
    """Evaluates each parametrization once for a time loop of your own.

    Each forward of a module with attached values, and of the modules between it and the module
    given to `make_trainable`, does this by itself. A loop that calls single-step cells one by one
    does too, for values of at most 10,000 numbers on the CPU. Use this around such a loop for
    larger values, on a GPU, and for parametrizations of your own:

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
    active.scopes.append(scope)
    try:
        yield
    finally:
        if scope in active.scopes:
            del active.scopes[active.scopes.index(scope) :]
    scope.refuse_writes()
