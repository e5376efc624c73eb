"""Surrogate functions of SpikingJelly, so that its nodes compute in PyTorch, where values train."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neuroparam._ground.torch_state import current_level, is_compiling, is_dynamo_compiling

__all__ = ["PyTorchSurrogate"]


class _Spike(torch.autograd.Function):
    """A surrogate function of SpikingJelly: the Heaviside step, and its `backward`.

    SpikingJelly's own functions have a `setup_context`, for which torch binds the arguments to
    the signature at every call. That takes as long as the arithmetic of a small layer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any, constants: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function, ctx.constants = function, constants
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.function.backward(gradient, x, **ctx.constants), None, None


# This leaves out what `_Spike.apply` does for transforms, which `_Spike` is not called in.
_spike: Any = super(torch.autograd.Function, _Spike).apply


def _is_step(function: Any) -> bool:
    """Whether a surrogate function computes what `_Spike` does.

    Those of SpikingJelly do that define a `backward` only, and leave the forward to their base.
    """
    kind = type(function)
    return bool(
        kind.__module__ == "spikingjelly.activation_based.surrogate"
        and "backward" in vars(kind)
        and "forward" not in vars(kind)
        and function.spiking
    )


class PyTorchSurrogate:
    """A surrogate function that SpikingJelly does not recognise as one of its own.

    With its own it calls compiled operators, which take the time constant and the threshold as
    floats: a tensor of one element is cast, and never gets a gradient. With any other function
    it computes the same formulas in PyTorch, where they do.
    """

    def __init__(self, function: Any):
        self._function = function
        # A node asks for its surrogate function in each forward, and calls it in each time step.
        fast = not is_compiling() and _is_step(function)
        self._constants = function._sg_params if fast else None

    def __call__(self, x: Tensor) -> Any:
        if is_dynamo_compiling() or self._constants is None or current_level():
            return self._function(x)
        return _spike(x, self._function, self._constants)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)
