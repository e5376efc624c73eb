"""Where a library's own code must run: what the adjoint does not compute."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from neuroparam._ground.torch_state import is_compiling, is_replaced

__all__ = ["library_must_run"]


def library_must_run(inputs: Tensor) -> bool:
    """Whether the library's own steps must run, because the adjoint computes something else.

    That is so while torch compiles, exports, traces or transforms code, in forward mode, under
    autocast, for sparse tensors and stand-ins of tensors, and where no gradient is wanted.

    Args:
        inputs: the input of the layer.
    """
    return bool(
        # Dynamo must not look further, because what follows is no part of a compiled graph.
        is_compiling()
        or is_replaced()
        or not torch.is_grad_enabled()
        or type(inputs) not in (Tensor, nn.Parameter)
        or inputs.layout is not torch.strided
        or torch.is_autocast_enabled(inputs.device.type)
        or forward_ad._current_level >= 0
    )
