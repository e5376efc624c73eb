"""Whether code has written in place into a value that was computed for it.

A write in place, such as `module.tau.data.clamp_(...)`, changes the result of one computation. The
raw tensor does not know of it, and the next read gives the old value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuroparam._ground.torch_state import is_traced

__all__ = ["Copy", "copy_of"]


class Copy:
    """A value, and what it was when it was computed."""

    def __init__(self, value: Tensor):
        self.value = value
        self._original = value.detach().clone()

    def differs(self) -> bool:
        """Whether the value is another one now, as far as that can be looked at."""
        # While torch traces, a look at numbers would become a part of what is traced.
        return not is_traced() and self.differs_now()

    def differs_now(self) -> bool:
        """Whether the value is another one now; torch must not be tracing."""
        value, original = self.value, self._original
        try:
            if torch.equal(value, original):
                return False
        except RuntimeError:
            return True  # It has been given another dtype, or moved.
        if value.shape != original.shape:
            return True
        value = value.detach()
        # NaN differs from itself.
        return not bool(((value == original) | (value.isnan() & original.isnan())).all())


def copy_of(value: Tensor) -> Copy | None:
    """A copy to compare with later; None where a look at the numbers would disturb."""
    if type(value) not in (Tensor, nn.Parameter) or value.is_meta:
        return None
    if is_traced() or (value.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None
    return Copy(value)
