"""One evaluated value, what tells whether it is still good, and what a thread keeps of it.

Within a forward little can change, and few signs are looked at. From one forward to the next
anything can. Then a copy of the raw tensor tells what no sign does, such as a write through
`raw.data` or a NumPy array.
"""

from __future__ import annotations

import weakref
from typing import Protocol

import torch
from torch import Tensor

from neuroparam._ground.torch_state import current_level
from neuroparam._value.evidence import Evidence
from neuroparam._value.writes import Copy, copy_of

__all__ = ["Backward", "Entry", "Evaluated", "Kept", "LastStep", "keep", "last_step"]


class Evaluated(Protocol):
    """What is evaluated: a callable that reads one raw tensor."""

    evidence: Evidence

    def __call__(self) -> Tensor: ...

    def evaluated(self) -> Tensor:
        """The same as a call, in eager code outside of `torch.func` transforms."""

    def refuse_written(self, copy: Copy) -> None:
        """Called when a forward has written into the value."""

    def warn_of_write(self, copy: Copy) -> None:
        """Called when other code has written into the value."""

    def depends_on_raw_alone(self) -> bool:
        """Whether equal raw numbers give the value that was computed last."""


# Larger values are computed anew in each forward: comparing them would take as long.
_SMALL = 10_000


class LastStep:
    """Which step was the last one of all optimizers."""

    token = object()


def last_step() -> object:
    """Another object after each step of any optimizer."""
    return LastStep.token


class Entry:
    """A value, and what tells whether it is still good."""

    __slots__ = (
        "__weakref__",
        "graph_freed",
        "memory",
        "only_version",
        "raw",
        "step",
        "value",
        "version",
    )

    def __init__(self, raw: Tensor, value: Tensor):
        self.raw = raw
        self.value = value
        self.version = _version(raw)
        self.memory = _memory(raw)
        self.step = LastStep.token
        # The raw tensor, if nothing but its version need be asked within a forward. A value with a
        # graph serves in every gradient mode.
        simple = value.requires_grad and self.memory[-1] != 0 and not raw.is_inference()
        self.only_version = raw if simple and not current_level() else None
        # A backward pass sets this, because it frees the graph behind the value.
        self.graph_freed = False

    def valid_in_forward(self, raw: Tensor) -> bool:
        """Whether evaluating anew would give the same value, and a graph if one is wanted."""
        if self.raw is not raw or self.graph_freed or self.version != _version(raw):
            return False
        value = self.value
        if value.requires_grad:
            return True  # It serves under no_grad too, where a Parameter requires a gradient.
        if torch.is_grad_enabled():
            # The value was made under no_grad or in inference mode, and has no history.
            return not (raw.requires_grad or value.is_inference())
        return torch.is_inference_mode_enabled() or not value.is_inference()

    def valid(self, raw: Tensor) -> bool:
        """The same, for the time of a `cached()` block, in which more can happen."""
        # Fused optimizers change parameters without raising their version counter.
        unstepped = self.step is LastStep.token
        # An inference tensor has no version, so that a change of it could not be seen.
        counted = not raw.is_inference()
        same = unstepped and counted and self.memory == _memory(raw)
        return same and self.valid_in_forward(raw)


def _version(raw: Tensor) -> int:
    """Changes with every in-place change of a tensor."""
    try:
        return raw._version
    except RuntimeError:  # An inference tensor has no version.
        return 0


def _memory(raw: Tensor) -> tuple[object, ...]:
    """Changes when a tensor is moved, converted, or given other memory (`raw.data = ...`)."""
    try:
        pointer = raw.data_ptr()
    except RuntimeError:  # A meta or fake tensor has no memory of its own.
        pointer = 0
    return raw.dtype, raw.device, pointer


class Backward:
    """A hook on a value, called when a backward pass comes through."""

    def __init__(self, entry: Entry, evidence: Evidence):
        # A strong reference would close a circle: the entry holds the value, the value this hook.
        self._entry = weakref.ref(entry)
        self._evidence = evidence

    def __call__(self, gradient: Tensor | None) -> None:
        entry = self._entry()
        if entry is not None:
            entry.graph_freed = True
            entry.only_version = None
        self._evidence.gradient_came(gradient)


class Kept:
    """An entry that outlives the forward that computed it, in one thread.

    Attributes:
        entry: the entry.
        raw: a copy of the numbers of the raw tensor, to compare them with; None if there is none.
        value: the value, and what it was, copied at the same time.
        served: whether a later forward has used it.
    """

    __slots__ = ("entry", "raw", "served", "value")

    def __init__(self, entry: Entry, raw: Tensor | None = None, value: Copy | None = None):
        self.entry = entry
        self.raw = raw
        self.value = value
        self.served = False

    def seems_good(self, raw: Tensor) -> bool:
        """Whether no sign says that evaluating anew would give another value."""
        entry = self.entry
        # A value with a graph would train a raw tensor that has been frozen since.
        return entry.valid(raw) and (raw.requires_grad or not entry.value.requires_grad)

    def is_good(self, raw: Tensor) -> bool:
        """Whether evaluating anew would give the same value: the raw numbers are the same."""
        copy, entry = self.raw, self.entry
        if copy is None:
            return False
        if entry.only_version is raw and raw.requires_grad:  # This nearly always holds.
            unchanged = entry.version == raw._version
        else:
            has_graph = entry.value.requires_grad
            unchanged = entry.valid_in_forward(raw) and (raw.requires_grad or not has_graph)
        return unchanged and raw.dtype is copy.dtype and raw.is_cpu and torch.equal(copy, raw)


def keep(parameter: Evaluated, entry: Entry, earlier: Kept | None) -> Kept | None:
    """What is kept of a value that a forward has just computed; None if nothing is.

    A copy of the raw numbers is made where forwards have followed each other without a change. A
    training loop changes them after each forward, and pays for no copy.

    Args:
        parameter: what was evaluated.
        entry: what was computed.
        earlier: what was kept of an earlier forward.
    """
    raw, value = entry.raw, entry.value
    if raw.numel() > _SMALL or not raw.is_cpu:
        return None
    if earlier is None or not (earlier.served or earlier.seems_good(raw)):
        return Kept(entry)
    if raw.is_inference() or value.is_inference() or not parameter.depends_on_raw_alone():
        return None
    copy = copy_of(value)
    return None if copy is None else Kept(entry, raw.detach().clone(), copy)
