"""States that a module keeps from an earlier forward, with the graph of that forward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from neuroparam._ground.torch_state import OF_EVERY_MODULE, all_modules
from neuroparam._value.injected import without_history
from neuroparam._value.running import tensors_in

__all__ = ["detach_states"]


def detach_states(module: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Detaches the states through which no backward pass can go any more.

    Their graph has been used up by a backward pass, or holds Parameters which are about to change.

    Args:
        module: where to look for states.
        parameters: the Parameters whose memory is about to become that of a raw tensor.
    """
    changing = {id(parameter) for parameter in parameters}
    for part in all_modules(module):
        for store in (part._buffers, part.__dict__):
            for name, value in list(store.items()):
                if name not in OF_EVERY_MODULE and _is_past(value, changing):
                    store[name] = without_history(value)


def _is_past(state: object, changing: set[int]) -> bool:
    """Whether a state has a graph that is used up, or that holds one of some Parameters."""
    pending = [tensor.grad_fn for tensor in tensors_in(state)]
    seen = set(pending)
    while pending:
        node = pending.pop()
        if node is None:
            continue
        if id(getattr(node, "variable", None)) in changing or _is_used_up(node):
            return True
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        pending += new
    return False


def _is_used_up(node: Any) -> bool:
    try:
        for name in dir(node):
            if name.startswith("_saved_"):
                getattr(node, name)
    except RuntimeError:  # A backward pass has freed what the node had saved.
        return True
    return False
