"""Modules that are told before somebody listens to their calls."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

__all__ = ["NotesHooks"]


class NotesHooks(nn.Module):
    """A module on which hooks can be registered, and which is told before."""

    def note_hook(self) -> None:
        """Called before a hook is registered."""
        raise NotImplementedError

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.note_hook()
        return super().register_forward_hook(*args, **kwargs)

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.note_hook()
        return super().register_forward_pre_hook(*args, **kwargs)

    def register_full_backward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.note_hook()
        return super().register_full_backward_hook(*args, **kwargs)

    def register_full_backward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.note_hook()
        return super().register_full_backward_pre_hook(*args, **kwargs)

    def register_backward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.note_hook()
        return super().register_backward_hook(*args, **kwargs)
