"""BrainCog: thresholds in Parameters, time constants in steps, forward Euler; no time step."""

from __future__ import annotations

from torch import nn

from neuroparam._catalogue.common import (
    above_one_step,
    between_zero_and_one,
    sigmoid_rate,
    states,
    thresholds,
)
from neuroparam._catalogue.entries import Library, Refused, Trains
from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.units import Decay, Steps

__all__ = ["BRAINCOG"]


def _has_another_step(neuron: nn.Module) -> bool:
    return bool(getattr(neuron, "dt", 1.0) != 1.0)


def _maps_its_threshold(neuron: nn.Module) -> bool:
    return bool(getattr(neuron, "sigmoid_thres", False))


BRAINCOG = Library(
    package="braincog",
    rows=(
        Refused(
            field="*",
            reason="it shapes the surrogate gradient, not the dynamics",
            instead="Give the node a surrogate function with the value you want.",
            modules=("SurrogateFunctionBase",),
        ),
        Refused(
            field="w",
            reason="with another dt than 1, dt * sigmoid(w) is the rate of the node",
            instead="Train it as it is, or build the node with dt=1.",
            modules=("*PLIFNode",),
            quantity=Quantity.TAU_MEM,
            only_if=_has_another_step,
        ),
        Refused(
            field="threshold",
            reason=(
                "it is unconstrained already: with sigmoid_thres=True nodes read sigmoid(threshold)"
            ),
            instead="Train it as it is, or build the node with sigmoid_thres=False.",
            quantity=Quantity.THRESHOLD,
            only_if=_maps_its_threshold,
        ),
        *(
            Refused(
                field="tau",
                reason=f"{kind} does not read it",
                instead="Name threshold.",
                modules=(kind,),
            )
            for kind in ("IzhNode", "IzhNodeMU", "SimHHNode", "DoubleSidePLIFNode")
        ),
        Refused(
            field="dt",
            reason="it is the time step of the simulation",
            instead="Name a time constant.",
        ),
        *states("mem", "spike", "u"),
        sigmoid_rate("w", mapped="PLIF nodes read 1 / tau = sigmoid(w)", modules=("*PLIFNode",)),
        *(
            Trains(
                field=field,
                meaning="membrane decay per step",
                default=between_zero_and_one,
                quantity=Quantity.TAU_MEM,
                stored_as=Decay,
                modules=(kind,),
            )
            for field, kind in (("tau", "LIFSTDPNode"), ("decay", "BackEINode"))
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
        *(
            Trains(
                field=field,
                meaning=f"time constant of the {which} dendrite",
                unit="steps",
                default=above_one_step,
                modules=("ThreeCompNode",),
            )
            for field, which in (("tau_basal", "basal"), ("tau_apical", "apical"))
        ),
        thresholds("threshold"),
    ),
)
