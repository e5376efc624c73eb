"""How a value is stored in a plain module."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Kind", "Storage"]


class Kind(enum.Enum):
    """The kind of storage of a value."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    TENSOR = "tensor attribute"
    NUMBER = "number"
    ATTACHED = "attached"


@dataclass(frozen=True)
class Storage:
    """How a value was stored before it was attached, so that it can be put back.

    Attributes:
        kind: the kind of storage; never ATTACHED.
        index: its position in the dictionary that held it.
        requires_grad: whether a Parameter was trainable.
        persistent: whether a buffer was in the state dict.
    """

    kind: Kind
    index: int
    requires_grad: bool = False
    persistent: bool = True

    @property
    def in_state_dict(self) -> bool:
        """Whether the plain module's state dict holds the value."""
        return self.kind is Kind.PARAMETER or (self.kind is Kind.BUFFER and self.persistent)
