"""SpikingJelly: python floats, time constants in steps, forward Euler; no time step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neuroparam._catalogue.common import (
    above_one_step,
    decays,
    positive,
    sigmoid_rate,
    threshold,
    thresholds,
)
from neuroparam._catalogue.entries import Adapted, Library, Refused, Trains, store, stored
from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.spikingjelly_surrogate import PyTorchSurrogate
from neuroparam._maps.base import Parametrization
from neuroparam._maps.softplus import Softplus
from neuroparam._maps.units import Logarithm, Steps

__all__ = ["SPIKINGJELLY"]


class _AnyNode:
    """What attached nodes of SpikingJelly do differently."""

    @property
    def surrogate_function(self: Any) -> Any:
        return PyTorchSurrogate(stored(self, "surrogate_function"))

    @surrogate_function.setter
    def surrogate_function(self: Any, value: Any) -> None:
        store(self, "surrogate_function", value)


class _ILIFNode:
    """What attached ILIF nodes do differently.

    ILIFNode calls a compiled operator for many steps, whatever the surrogate function is, but
    not for one step. Its base classes loop over single steps.
    """

    def multi_step_forward(self: Any, *args: Any, **keywords: Any) -> Any:
        return _base(self, "BaseNode").multi_step_forward(self, *args, **keywords)

    def multi_step_functional_forward(self: Any, *args: Any, **keywords: Any) -> Any:
        base = _base(self, "MemoryModule")
        return base.multi_step_functional_forward(self, *args, **keywords)


def _base(node: nn.Module, name: str) -> Any:
    """A base class of a node, by its name."""
    return next(kind for kind in type(node).__mro__ if kind.__name__ == name)


def _above_lower_bound(neuron: Any) -> Parametrization:
    # DSR nodes clamp the threshold at this bound, and a clamp stops the gradient.
    return Softplus(lower=float(neuron.v_threshold_lower_bound))


def _learns_its_threshold(neuron: nn.Module) -> bool:
    return bool(getattr(neuron, "learnable_vth", False))


# The attribute of a TorchScript function in which torch keeps the function that it was made from.
_SOURCE = "_torchdynamo_inline"


def _scripted(kind: type) -> dict[str, Any]:
    """The TorchScript functions of a class, by name: releases before 2.0 compute in them."""
    members: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        members.update(vars(base))
    functions = {name: getattr(member, "__func__", member) for name, member in members.items()}
    return {n: f for n, f in functions.items() if isinstance(f, torch.jit.ScriptFunction)}


def _members(plain: type) -> type:
    """What attached nodes of a class do differently.

    TorchScript functions take the time constant and the threshold as floats. The functions that
    they were made from take tensors too, and compute the same.
    """
    scripted = _scripted(plain)
    if not scripted:
        return _AnyNode
    sources = {name: staticmethod(getattr(f, _SOURCE)) for name, f in scripted.items()}
    return type("_Unscripted", (), sources)


def _has_no_source(neuron: nn.Module) -> bool:
    return any(not hasattr(f, _SOURCE) for f in _scripted(type(neuron)).values())


def _is_old_on_cupy(neuron: nn.Module) -> bool:
    if getattr(neuron, "backend", None) != "cupy":  # This is asked for each stored number.
        return False
    kind = type(neuron)
    is_clock_driven = any("clock_driven" in base.__module__ for base in kind.__mro__)
    return is_clock_driven or bool(_scripted(kind))


SPIKINGJELLY = Library(
    package="spikingjelly",
    adapted=(
        Adapted(modules=("ILIFNode",), members=_ILIFNode),
        Adapted(members=_members),
    ),
    rows=(
        # What is refused:
        *(
            Refused(
                field=name,
                reason=reason,
                instead=instead,
                quantity=quantity,
                only_if=only_if,
            )
            for reason, instead, only_if in (
                (
                    "this release of SpikingJelly computes in TorchScript functions that take "
                    "floats",
                    "Upgrade to SpikingJelly 2.0 or newer.",
                    _has_no_source,
                ),
                (
                    'with backend="cupy" this release of SpikingJelly computes in kernels that '
                    "take floats",
                    'Set backend="torch", or upgrade to SpikingJelly 2.0 or newer.',
                    _is_old_on_cupy,
                ),
            )
            for name, quantity in (
                ("tau", Quantity.TAU_MEM),
                ("v_threshold", Quantity.THRESHOLD),
                ("*", None),
            )
        ),
        Refused(
            field="*",
            reason=(
                "it shapes the surrogate gradient, not the dynamics, and SpikingJelly shares its "
                "default surrogate between all nodes"
            ),
            instead="Give the node a surrogate function of its own with the value you want.",
            modules=("SurrogateFunctionBase",),
        ),
        *(
            Refused(
                field=name,
                reason="it is unconstrained already: GatedLIFNode reads it through a sigmoid",
                instead="Train it as it is.",
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
            field="v_threshold",
            reason="with learnable_vth=True the node reads exp(a) in its place",
            instead="Train a as it is, or name Quantity.THRESHOLD.",
            modules=("MPBN*",),
            only_if=_learns_its_threshold,
        ),
        Refused(
            field="tau",
            reason="DSRLIFNode takes it as a float, in a function with a gradient of its own",
            instead="Name v_threshold, or use LIFNode.",
            modules=("DSRLIFNode",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            field="alpha",
            reason="it enters the firing comparison only, which has no gradient",
            instead="Name v_threshold.",
            modules=("DSR*",),
        ),
        *(
            Refused(
                field=name,
                reason="RAFNode takes it as a float, into math.exp, cos and sin",
                instead="Name v_threshold.",
                modules=("RAFNode",),
            )
            for name in ("b", "omega", "dt")
        ),
        # What trains:
        sigmoid_rate(
            "w",
            mapped="ParametricLIFNode reads 1 / tau = sigmoid(w)",
            modules=("*ParametricLIFNode",),
        ),
        Trains(
            field="a",
            meaning="logarithm of the threshold",
            default=threshold,
            quantity=Quantity.THRESHOLD,
            stored_as=Logarithm,
            mapped="MPBN nodes read their threshold as exp(a)",
            modules=("MPBN*",),
        ),
        Trains(
            field="v_threshold",
            meaning="threshold",
            unit="voltage",
            default=_above_lower_bound,
            quantity=Quantity.THRESHOLD,
            modules=("DSR*",),
        ),
        Trains(
            field="tau",
            meaning="membrane time constant",
            unit="steps",
            default=above_one_step,
            quantity=Quantity.TAU_MEM,
            stored_as=Steps,
            euler=True,
        ),
        Trains(
            field="tau_w", meaning="adaptation time constant", unit="steps", default=above_one_step
        ),
        *decays("v_decay", "c_decay"),
        thresholds("v_threshold"),
        Trains(field="k", meaning="gain of the membrane", default=positive, modules=("KLIFNode",)),
    ),
)
