"""SpikingJelly: python floats, time constants in steps, forward Euler; no time step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam.libraries.rules import (
    Known,
    Library,
    Refused,
    Wrapped,
    above_one_step,
    between_zero_and_one,
    positive,
    threshold,
)
from neuroparam.quantities import Quantity
from neuroparam.units import Decay, Steps

__all__ = ["SPIKINGJELLY"]


class _Surrogate:
    """A surrogate function that SpikingJelly does not recognise as one of its own.

    With its own it calls compiled operators, which take the time constant and the threshold as
    floats: a tensor of one element is cast, and never gets a gradient. With any other function
    it computes the same formulas in PyTorch, where they do.
    """

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, x: Tensor) -> Any:
        return self._function(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)


def _step_by_step(self: Any, x_seq: Tensor, *args: Any, **keywords: Any) -> Any:
    # ILIFNode's own calls a compiled operator whatever the surrogate; its single step does not
    base: Any
    (base,) = (kind for kind in type(self).__mro__ if kind.__name__ == "BaseNode")
    return base.multi_step_forward(self, x_seq, *args, **keywords)


def _is_torchscript(neuron: nn.Module) -> bool:
    return any(
        isinstance(value, torch.jit.ScriptFunction)
        for kind in type(neuron).__mro__
        for value in (getattr(kind, name, None) for name in vars(kind))
    )


SPIKINGJELLY = Library(
    package="spikingjelly",
    wrapped=(
        Wrapped(("ILIFNode",), methods={"multi_step_forward": _step_by_step}),
        Wrapped(("*",), {"surrogate_function": _Surrogate}),
    ),
    rules=(
        Refused(
            "*",
            "this release of SpikingJelly computes in TorchScript functions that take floats",
            "Upgrade to SpikingJelly 2.0 or newer.",
            only_if=_is_torchscript,
        ),
        Refused(
            "w",
            "it is unconstrained already: ParametricLIFNode reads 1 / tau = sigmoid(w)",
            "Train w as it is, or use LIFNode and name tau.",
            modules=("ParametricLIFNode",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            "*",
            "it is unconstrained already: GatedLIFNode reads each of its parameters through "
            "a sigmoid",
            "Train it as it is.",
            modules=("GatedLIFNode",),
        ),
        Known(
            "tau", "membrane time constant", "steps", above_one_step, Quantity.TAU_MEM, Steps, True
        ),
        Known("tau_w", "adaptation time constant", "steps", above_one_step),
        Known(
            "v_decay", "membrane decay per step", "", between_zero_and_one, Quantity.TAU_MEM, Decay
        ),
        Known(
            "c_decay", "synaptic decay per step", "", between_zero_and_one, Quantity.TAU_SYN, Decay
        ),
        Known("v_threshold", "threshold", "voltage", threshold, Quantity.THRESHOLD),
        Known("k", "gain of the membrane", "", positive, modules=("KLIFNode",)),
    ),
)
