"""Modules that are told when somebody begins to listen to their calls."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

__all__ = ["Heard"]


class Heard(nn.Module):
    """A module on which hooks can be registered, and which is told before."""

    def is_heard(self) -> None:
        """Called before a hook is registered."""
        raise NotImplementedError

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.is_heard()
        return super().register_forward_hook(*args, **kwargs)

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.is_heard()
        return super().register_forward_pre_hook(*args, **kwargs)

    def register_full_backward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.is_heard()
        return super().register_full_backward_hook(*args, **kwargs)

    def register_full_backward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.is_heard()
        return super().register_full_backward_pre_hook(*args, **kwargs)

    def register_backward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.is_heard()
        return super().register_backward_hook(*args, **kwargs)
