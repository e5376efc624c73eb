"""snnTorch: decays per step and thresholds, in buffers or Parameters; no time step."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from neuroparam.libraries.rules import (
    Known,
    Library,
    Refused,
    decays,
    positive,
    states,
    threshold,
)
from neuroparam.parametrizations import BoundedSigmoid, Parametrization, Softplus
from neuroparam.quantities import Quantity
from neuroparam.units import Decay, Steps, bounds_of

__all__ = ["SNNTORCH"]


def _span(neuron: nn.Module, attribute: str) -> tuple[float, float]:
    """The least and the greatest that a value is now."""
    value: Any = torch.as_tensor(getattr(neuron, attribute)).detach()
    return float(value.min()), float(value.max())


def _bounds(neuron: nn.Module, attribute: str) -> tuple[float, float] | None:
    """The bounds of a value that is attached already."""
    maps: Any = getattr(neuron, "parametrizations", {})
    return bounds_of(maps[attribute]) if attribute in maps else None


# Two values of Alpha and two of Lapicque are tied to each other. Each gets bounds of its own that
# keep the pair valid whatever the other does, so that they can be trained apart or together.


def _alpha_of_alpha(neuron: nn.Module) -> Parametrization | None:
    return _decay_of_alpha(neuron, _bounds(neuron, "beta"), slower=True)


def _beta_of_alpha(neuron: nn.Module) -> Parametrization | None:
    return _decay_of_alpha(neuron, _bounds(neuron, "alpha"), slower=False)


def _decay_of_alpha(
    neuron: nn.Module, other: tuple[float, float] | None, slower: bool
) -> Parametrization | None:
    # it divides by log(beta) - log(alpha), and needs alpha > beta
    (alpha, _), (_, beta) = _span(neuron, "alpha"), _span(neuron, "beta")
    if not 0 < beta < alpha:
        return None
    between = math.sqrt(alpha * beta) if other is None else other[slower]
    return BoundedSigmoid(between, 1.0) if slower else BoundedSigmoid(0.0, between)


def _share(one: str, other: str, neuron: nn.Module) -> Parametrization | None:
    # forward Euler: R * C must exceed the time step
    (mine, _), (others, _), (_, step) = (_span(neuron, name) for name in (one, other, "time_step"))
    if not 0 < step < mine * others:
        return None
    bounds = _bounds(neuron, other)
    return Softplus(lower=math.sqrt(step * mine / others) if bounds is None else step / bounds[0])


SNNTORCH = Library(
    package="snntorch",
    rules=(
        # ------------------------------------------------------------------ refused
        Refused(
            "beta",
            "Lapicque computes with R, C and time_step only; beta is a label made from them",
            "Name R or C, whose product is the membrane time constant.",
            modules=("Lapicque",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            "time_step",
            "it is the time step of the simulation",
            "Name R or C: their product is the time constant.",
            modules=("Lapicque",),
        ),
        Refused(
            "beta",
            "it is copied into the diagonal of rnn.weight_hh_l0 when the module is built, and "
            "never read again",
            "Use Leaky, or build LeakyParallel with learn_beta=True and train rnn.weight_hh_l0.",
            modules=("LeakyParallel",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            "beta",
            "it is computed from tau, hidden behind a property of the same name",
            "Name tau.",
            modules=("StateLeaky",),
        ),
        Refused(
            "threshold",
            "DeltaLeaky fires on changes, and reads delta_threshold only",
            "Name delta_threshold.",
            modules=("DeltaLeaky",),
        ),
        Refused(
            "graded_spikes_factor",
            "DeltaLeaky does not scale its spikes by it",
            "Scale the weights of the next layer.",
            modules=("DeltaLeaky",),
        ),
        *states("mem", "mem_prev", "syn", "syn_exc", "syn_inh", "spk", "reset"),
        Refused(
            "reset_mechanism_val",
            "it is the number of a reset mechanism",
            "Set reset_mechanism instead.",
        ),
        # ------------------------------------------------------------------- trained
        *(
            Known(
                name,
                f"{which} synaptic decay per step",
                "",
                default,
                Quantity.TAU_SYN,
                Decay,
                modules=("Alpha",),
                coupled="alpha must stay above beta",
            )
            for name, which, default in (
                ("alpha", "slower", _alpha_of_alpha),
                ("beta", "faster", _beta_of_alpha),
            )
        ),
        *(
            Known(
                name,
                f"membrane {what}",
                "R * C in time_step's unit",
                partial(_share, name, other),
                modules=("Lapicque",),
                coupled="R * C must stay above the time step",
            )
            for name, what, other in (("R", "resistance", "C"), ("C", "capacitance", "R"))
        ),
        Known(
            "tau",
            "membrane time constant",
            "steps",
            positive,
            Quantity.TAU_MEM,
            Steps,
            modules=("StateLeaky",),
        ),
        Known("delta_threshold", "threshold of change", "voltage", threshold, Quantity.THRESHOLD),
        *decays("beta", "alpha"),
        Known("threshold", "threshold", "voltage", threshold, Quantity.THRESHOLD),
        Known("graded_spikes_factor", "size of a spike", "", positive),
    ),
)
