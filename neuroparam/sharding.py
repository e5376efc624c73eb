"""Tensors that `fully_shard` has spread over processes (DTensors): in each call, all take part."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["sharded_like", "whole"]


def whole(value: Tensor) -> Tensor:
    """The tensor itself, or, where each process has a part of it, all of it in each."""
    gather: Any = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


def sharded_like(raw: Any, value: Tensor) -> Tensor:
    """A whole tensor, spread over the processes as `raw` is; where it differs, that of the first.

    Args:
        raw: a tensor, sharded or not.
        value: a tensor of the same shape; one that is sharded already is left as it is.
    """
    if not hasattr(raw, "device_mesh") or hasattr(value, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, raw.device_mesh, raw.placements)
