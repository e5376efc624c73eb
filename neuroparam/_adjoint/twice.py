"""Second derivatives, which the adjoint does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuroparam._ground.errors import AdjointError

__all__ = ["refusing_a_second_backward"]


class _Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient.view_as(gradient) for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise AdjointError("second derivatives (create_graph=True, gradient penalties, Hessians)")


def refusing_a_second_backward(gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients that were computed without a graph, as a backward with `create_graph` gives them.

    Whoever differentiates them gets an error, and no gradient of zero.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    anchor = torch.empty(0, requires_grad=True)
    refusing = iter(_Refusing.apply(anchor, *present))
    return [None if gradient is None else next(refusing) for gradient in gradients]
