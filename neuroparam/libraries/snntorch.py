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
from neuroparam.units import Decay, Steps

__all__ = ["SNNTORCH"]


def _span(neuron: nn.Module, attribute: str) -> tuple[float, float]:
    value: Any = torch.as_tensor(getattr(neuron, attribute)).detach()
    return float(value.min()), float(value.max())


def _between_the_decays(neuron: nn.Module) -> float | None:
    # Alpha divides by log(beta) - log(alpha), and needs alpha > beta. Each decay keeps to its
    # side of the geometric mean of the two, so that they can be trained apart or together.
    (alpha, _), (_, beta) = _span(neuron, "alpha"), _span(neuron, "beta")
    return math.sqrt(alpha * beta) if 0 < beta < alpha else None


def _alpha_of_alpha(neuron: nn.Module) -> Parametrization | None:
    between = _between_the_decays(neuron)
    return BoundedSigmoid(between, 1.0) if between else None


def _beta_of_alpha(neuron: nn.Module) -> Parametrization | None:
    between = _between_the_decays(neuron)
    return BoundedSigmoid(0.0, between) if between else None


def _share(one: str, other: str, neuron: nn.Module) -> Parametrization | None:
    # Lapicque integrates by forward Euler: R * C must exceed the time step. Each factor keeps
    # above its share, so that they can be trained apart or together.
    (mine, _), (others, _) = _span(neuron, one), _span(neuron, other)
    (_, step) = _span(neuron, "time_step")
    room = mine * others / step if step > 0 else 0.0
    return Softplus(lower=mine / math.sqrt(room)) if room > 1.0 else None


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
