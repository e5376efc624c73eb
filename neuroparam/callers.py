"""Who is calling: for the few places where torch tells its hooks too little."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType

__all__ = ["callers"]


def callers() -> Iterator[FrameType]:
    """The calls in progress in this thread, innermost first, from the caller's own on."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
