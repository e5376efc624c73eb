"""What is asked of the nodes of a graph."""

from __future__ import annotations

from torch.fx import Node

__all__ = ["is_of_a_map"]


def is_of_a_map(node: Node) -> bool:
    """Whether an operation comes from a parametrization, by its module or by its code."""
    module, code = str(node.meta.get("nn_module_stack")), str(node.meta.get("stack_trace"))
    return "parametrizations" in module or "neuroparam/_maps/" in code
