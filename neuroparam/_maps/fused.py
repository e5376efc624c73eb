"""A chain of this library's maps as one autograd function, in eager code.

Composed of torch's operations, a chain makes up to thirty nodes, each of which saves tensors. Here
every map computes its value in few operations, in place, and knows its slope in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from neuroparam._ground.torch_state import is_extended, is_traced
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.limited import LimitedMap
from neuroparam._maps.slopes import Pullback
from neuroparam._maps.softplus import Softplus
from neuroparam._maps.time_constants import Above
from neuroparam._maps.units import (
    Bitshift,
    Decay,
    Leak,
    Logarithm,
    LogRate,
    Rate,
    SigmoidRate,
    Steps,
)

__all__ = ["FUSED", "MODIFIED", "fused", "is_fused", "tell"]

MODIFIED = (
    "a tensor that a parametrization needs for its gradient was modified by an inplace operation "
    "(an optimizer step or an assignment between forward and backward is one)"
)
# Subclasses of them may compute something else.
FUSED = frozenset(
    {
        *(Above, BoundedSigmoid, ExpScaledLog, Softplus),
        *(Bitshift, Decay, Leak, Logarithm, LogRate, SigmoidRate, Rate, Steps),
    }
)
_PRECISIONS = frozenset({torch.float32, torch.float64})


def fused(maps: Sequence[nn.Module], raw: Tensor) -> Tensor | None:
    """The value of a chain, with one autograd node; None where the maps must run themselves.

    They must run where somebody else's code is among them or listens to them, for half precision
    and stand-ins of tensors, where torch traces operations, and in forward mode. It must not be
    called in compiled code and under `torch.func`.

    Args:
        maps: the chain, from the map that takes the raw tensor to the one that gives the value.
        raw: the raw tensor.
    """
    if (
        type(raw) not in (Tensor, nn.Parameter)
        or raw.dtype not in _PRECISIONS
        or not (raw.is_cpu or raw.is_cuda)
        or raw.is_inference()  # It has no version, so that no change of it would be seen.
        or is_traced()
        or forward_ad._current_level >= 0
    ):
        return None
    if not is_fused(maps):
        return None
    value: Tensor = _apply(raw, maps)
    return value


def is_fused(maps: Iterable[nn.Module]) -> bool:
    """Whether a chain has maps of this library alone, and nobody listens to them."""
    for each in maps:  # noqa: SIM110 - A generator takes twice the time, in each forward.
        if type(each) not in FUSED or is_extended(each):
            return False
    return True


class Chain(torch.autograd.Function):
    """A value and its gradient, in one node of the graph.

    What the gradient needs is kept in attributes, and not by `save_for_backward`. A backward pass
    frees what is saved there, and a value that is kept serves several. Activation checkpointing
    counts what is saved there, and a value that one region computes and the next one reads would
    break its count. None of what is kept shares its memory with the value: code that writes into
    the value does not change the gradient, and no circle of references keeps the graph alive.
    """

    @staticmethod
    def forward(ctx: Any, raw: Tensor, maps: Sequence[LimitedMap]) -> Tensor:
        ctx.set_materialize_grads(False)
        pullbacks: list[Pullback] = []
        value = raw
        for each in maps:
            value, pullback = each.with_pullback(value)
            pullbacks.append(pullback)
        ctx.kept = raw, raw._version, maps, pullbacks
        ctx.told = None
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        (gradient,) = gradients
        if ctx.told is not None:
            ctx.told(gradient)
        if gradient is None:
            return None, None
        raw, version, maps, pullbacks = ctx.kept
        if raw._version != version:
            raise RuntimeError(MODIFIED)
        if torch.is_grad_enabled():  # The gradient needs a graph of its own (`create_graph=True`).
            value = raw
            for each in maps:
                value = each(value)
            (gradient,) = torch.autograd.grad(value, raw, gradient, create_graph=True)
        else:
            for pullback in reversed(pullbacks):
                gradient = pullback(gradient)
        return gradient, None


_Node: Any = Chain._backward_cls


def tell(value: Tensor, hook: Callable[[Tensor | None], None]) -> None:
    """Has a hook called with the gradient when a backward pass comes through a value.

    `value.register_hook` does the same. For the value of a chain, its own node does it, in a tenth
    of the time.
    """
    node: Any = value.grad_fn
    if type(node) is _Node:
        node.told = hook
    else:
        value.register_hook(hook)


# This leaves out what `Chain.apply` does for transforms, under which no chain is computed.
_apply: Any = super(torch.autograd.Function, Chain).apply
