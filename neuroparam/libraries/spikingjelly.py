"""SpikingJelly: python floats, time constants in steps, forward Euler; no time step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam.libraries.rules import (
    Known,
    Library,
    Refused,
    Wrapped,
    above_one_step,
    decays,
    positive,
    threshold,
)
from neuroparam.parametrizations import Parametrization, Softplus
from neuroparam.quantities import Quantity
from neuroparam.scope import transform_level
from neuroparam.units import Steps

__all__ = ["SPIKINGJELLY"]


class _Spike(torch.autograd.Function):
    """A surrogate function of SpikingJelly: the Heaviside step, and its `backward`.

    SpikingJelly's own functions have a `setup_context`, for which torch binds the arguments to
    the signature at every call. That takes as long as the arithmetic of a small layer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function, ctx.constants = function, function._sg_params
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.function.backward(gradient, x, **ctx.constants), None


def _is_step(function: Any) -> bool:
    """Whether a surrogate computes what `_Spike` does: one that leaves that to its base."""
    kind = type(function)
    return bool(
        kind.__module__ == "spikingjelly.activation_based.surrogate"
        and "backward" in vars(kind)
        and "forward" not in vars(kind)
        and function.spiking
    )


class _Surrogate:
    """A surrogate function that SpikingJelly does not recognise as one of its own.

    With its own it calls compiled operators, which take the time constant and the threshold as
    floats: a tensor of one element is cast, and never gets a gradient. With any other function
    it computes the same formulas in PyTorch, where they do.
    """

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, x: Tensor) -> Any:
        needs_context = torch.compiler.is_compiling() or transform_level()
        if not needs_context and _is_step(self._function):
            return _Spike.apply(x, self._function)
        return self._function(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)


def _as_in(base: str, method: str) -> Callable[..., Any]:
    """The method of a base class of SpikingJelly, past what a class between has made of it."""

    def call(self: Any, *args: Any, **keywords: Any) -> Any:
        kind = next(kind for kind in type(self).__mro__ if kind.__name__ == base)
        return getattr(kind, method)(self, *args, **keywords)

    return call


def _above_lower_bound(neuron: Any) -> Parametrization:
    # DSR nodes clamp the threshold there, which would stop the gradient
    return Softplus(lower=float(neuron.v_threshold_lower_bound))


def _learns_its_threshold(neuron: nn.Module) -> bool:
    return bool(getattr(neuron, "learnable_vth", False))


def _is_torchscript(neuron: nn.Module) -> bool:
    methods = (value for kind in type(neuron).__mro__ for value in list(vars(kind).values()))
    return any(
        isinstance(getattr(method, "__func__", method), torch.jit.ScriptFunction)
        for method in methods
    )


SPIKINGJELLY = Library(
    package="spikingjelly",
    wrapped=(
        # calls a compiled operator for many steps whatever the surrogate, but not for one step
        Wrapped(
            ("ILIFNode",),
            methods={
                "multi_step_forward": _as_in("BaseNode", "multi_step_forward"),
                "multi_step_functional_forward": _as_in(
                    "MemoryModule", "multi_step_functional_forward"
                ),
            },
        ),
        Wrapped(("*",), {"surrogate_function": _Surrogate}),
    ),
    rules=(
        # ------------------------------------------------------------------ refused
        *(
            Refused(
                name,
                "this release of SpikingJelly computes in TorchScript functions that take floats",
                "Upgrade to SpikingJelly 2.0 or newer.",
                quantity=quantity,
                only_if=_is_torchscript,
            )
            for name, quantity in (
                ("tau", Quantity.TAU_MEM),
                ("v_threshold", Quantity.THRESHOLD),
                ("*", None),
            )
        ),
        Refused(
            "*",
            "it shapes the surrogate gradient, not the dynamics, and SpikingJelly shares its "
            "default surrogate between all nodes",
            "Give the node a surrogate function of its own with the value you want.",
            modules=("SurrogateFunctionBase",),
        ),
        Refused(
            "w",
            "it is unconstrained already: ParametricLIFNode reads 1 / tau = sigmoid(w)",
            "Train w as it is, or use LIFNode and name tau.",
            modules=("ParametricLIFNode",),
            quantity=Quantity.TAU_MEM,
        ),
        *(
            Refused(
                name,
                "it is unconstrained already: GatedLIFNode reads it through a sigmoid",
                "Train it as it is.",
                modules=("GatedLIFNode",),
                quantity=quantity,
            )
            for name, quantity in (
                ("tau", Quantity.TAU_MEM),
                ("v_threshold", Quantity.THRESHOLD),
                ("linear_decay", None),
                ("v_subreset", None),
                ("conduct", None),
                ("alpha", None),
                ("beta", None),
                ("gamma", None),
            )
        ),
        Refused(
            "a",
            "it is unconstrained already: MPBN nodes read their threshold as exp(a)",
            "Train it as it is.",
            modules=("MPBN*",),
        ),
        Refused(
            "v_threshold",
            "with learnable_vth=True the node reads exp(a) in its place",
            "Train a as it is, or build the node with learnable_vth=False.",
            modules=("MPBN*",),
            quantity=Quantity.THRESHOLD,
            only_if=_learns_its_threshold,
        ),
        Refused(
            "tau",
            "DSRLIFNode takes it as a float, in a function with a gradient of its own",
            "Name v_threshold, or use LIFNode.",
            modules=("DSRLIFNode",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            "alpha",
            "it enters the firing comparison only, which has no gradient",
            "Name v_threshold.",
            modules=("DSR*",),
        ),
        *(
            Refused(
                name,
                "RAFNode takes it as a float, into math.exp, cos and sin",
                "Name v_threshold.",
                modules=("RAFNode",),
            )
            for name in ("b", "omega", "dt")
        ),
        # ------------------------------------------------------------------- trained
        Known(
            "v_threshold",
            "threshold",
            "voltage",
            _above_lower_bound,
            Quantity.THRESHOLD,
            modules=("DSR*",),
        ),
        Known(
            "tau",
            "membrane time constant",
            "steps",
            above_one_step,
            Quantity.TAU_MEM,
            Steps,
            euler=True,
        ),
        Known("tau_w", "adaptation time constant", "steps", above_one_step),
        *decays("v_decay", "c_decay"),
        Known("v_threshold", "threshold", "voltage", threshold, Quantity.THRESHOLD),
        Known("k", "gain of the membrane", "", positive, modules=("KLIFNode",)),
    ),
)
