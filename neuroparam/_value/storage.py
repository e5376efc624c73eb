"""How a value is stored in a plain module."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["MEMORIES", "Kind", "Storage", "memories_of", "reset_values_of"]

# Where modules of SpikingJelly keep memories, and what these become when the module is reset.
MEMORIES = ("_memories", "_memories_rv")


class Kind(enum.Enum):
    """The kind of storage of a value."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    TENSOR = "tensor attribute"
    NUMBER = "number"
    MEMORY = "memory"
    ATTACHED = "attached"


@dataclass(frozen=True)
class Storage:
    """How a value was stored before it was attached, so that it can be put back.

    Attributes:
        kind: the kind of storage; never ATTACHED.
        index: its position in the dictionary that held it.
        requires_grad: whether a Parameter was trainable.
        persistent: whether a buffer was in the state dict.
        plain: the Parameter of a value that is tied to others; their raw tensor is another one.
    """

    kind: Kind
    index: int
    requires_grad: bool = False
    persistent: bool = True
    plain: nn.Parameter | None = None

    @property
    def in_state_dict(self) -> bool:
        """Whether the plain module's state dict holds the value."""
        return self.kind is Kind.PARAMETER or (self.kind is Kind.BUFFER and self.persistent)

    @property
    def is_number(self) -> bool:
        """Whether the plain module holds a single value as a number."""
        return self.kind in (Kind.NUMBER, Kind.MEMORY)


def memories_of(module: nn.Module) -> dict[str, Any]:
    """What modules of SpikingJelly keep in a dictionary of their own, by name.

    In `spikingjelly.clock_driven` thresholds are there, beside the states.
    """
    return _dictionary_of(module, MEMORIES[0])


def reset_values_of(module: nn.Module) -> dict[str, Any]:
    """What the memories become when the module is reset."""
    return _dictionary_of(module, MEMORIES[1])


def _dictionary_of(module: nn.Module, name: str) -> dict[str, Any]:
    found = module.__dict__.get(name)
    return found if isinstance(found, dict) and hasattr(module, "register_memory") else {}
