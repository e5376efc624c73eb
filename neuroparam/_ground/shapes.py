"""Shapes: whether a tensor of one can fill a tensor of another."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["broadcasts_to"]


def broadcasts_to(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a tensor of a shape can be expanded to another.

    >>> broadcasts_to((3, 1), (2, 3, 4)), broadcasts_to((2, 3, 4), (3, 4))
    (True, False)
    """
    # `torch.broadcast_shapes` would import a second's worth of modules.
    sizes = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(size in (1, most) for size, most in sizes)
