"""snnTorch: decays per step and thresholds, in buffers or Parameters; no time step."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from neuroparam._catalogue.common import (
    decays,
    positive,
    states,
    thresholds,
)
from neuroparam._catalogue.entries import Library, Refused, Trains
from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.base import Parametrization, bounds_of
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.softplus import Softplus
from neuroparam._maps.units import Decay, Steps

__all__ = ["SNNTORCH"]


def _span(neuron: nn.Module, attribute: str) -> tuple[float, float]:
    """The least and the greatest that a value is now."""
    value: Any = torch.as_tensor(getattr(neuron, attribute)).detach()
    return float(value.min()), float(value.max())


def _bounds(neuron: nn.Module, attribute: str) -> tuple[float, float] | None:
    """The bounds of a value that is attached already."""
    maps: Any = getattr(neuron, "parametrizations", {})
    return bounds_of(maps[attribute]) if attribute in maps else None


# Two values of Alpha and two of Lapicque are valid only together. Each gets bounds that keep the
# pair valid whatever the other value is, so that they can be trained apart or together.


def _alpha_of_alpha(neuron: nn.Module) -> Parametrization | None:
    return _decay_of_alpha(neuron, _bounds(neuron, "beta"), slower=True)


def _beta_of_alpha(neuron: nn.Module) -> Parametrization | None:
    return _decay_of_alpha(neuron, _bounds(neuron, "alpha"), slower=False)


def _decay_of_alpha(
    neuron: nn.Module, other: tuple[float, float] | None, slower: bool
) -> Parametrization | None:
    # Alpha divides by log(beta) - log(alpha), and needs alpha > beta.
    (alpha, _), (_, beta) = _span(neuron, "alpha"), _span(neuron, "beta")
    if not 0 < beta < alpha:
        return None
    between = math.sqrt(alpha * beta) if other is None else other[slower]
    return BoundedSigmoid(between, 1.0) if slower else BoundedSigmoid(0.0, between)


def _share(one: str, other: str, neuron: nn.Module) -> Parametrization | None:
    # Lapicque integrates by forward Euler: R * C must exceed the time step.
    (mine, _), (others, _), (_, step) = (_span(neuron, name) for name in (one, other, "time_step"))
    if not 0 < step < mine * others:
        return None
    bounds = _bounds(neuron, other)
    return Softplus(lower=math.sqrt(step * mine / others) if bounds is None else step / bounds[0])


SNNTORCH = Library(
    package="snntorch",
    rows=(
        # What is refused:
        Refused(
            field="beta",
            reason="Lapicque computes with R, C and time_step only; beta is a label made from them",
            instead="Name R or C, whose product is the membrane time constant.",
            modules=("Lapicque",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            field="time_step",
            reason="it is the time step of the simulation",
            instead="Name R or C: their product is the time constant.",
            modules=("Lapicque",),
        ),
        Refused(
            field="beta",
            reason=(
                "it is copied into the diagonal of rnn.weight_hh_l0 when the module is built, and "
                "never read again"
            ),
            instead=(
                "Use Leaky, or build LeakyParallel with learn_beta=True and train rnn.weight_hh_l0."
            ),
            modules=("LeakyParallel",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            field="beta",
            reason="it is computed from tau, hidden behind a property of the same name",
            instead="Name tau.",
            modules=("StateLeaky",),
        ),
        Refused(
            field="threshold",
            reason="DeltaLeaky fires on changes, and reads delta_threshold only",
            instead="Name delta_threshold.",
            modules=("DeltaLeaky",),
        ),
        Refused(
            field="graded_spikes_factor",
            reason="DeltaLeaky does not scale its spikes by it",
            instead="Scale the weights of the next layer.",
            modules=("DeltaLeaky",),
        ),
        *states("mem", "mem_prev", "syn", "syn_exc", "syn_inh", "spk", "reset"),
        Refused(
            field="reset_mechanism_val",
            reason="it is the number of a reset mechanism",
            instead="Set reset_mechanism instead.",
        ),
        # What trains:
        *(
            Trains(
                field=name,
                meaning=f"{which} synaptic decay per step",
                default=default,
                quantity=Quantity.TAU_SYN,
                stored_as=Decay,
                modules=("Alpha",),
                coupled="alpha must stay above beta",
            )
            for name, which, default in (
                ("alpha", "slower", _alpha_of_alpha),
                ("beta", "faster", _beta_of_alpha),
            )
        ),
        *(
            Trains(
                field=name,
                meaning=f"membrane {what}",
                unit="R * C in time_step's unit",
                default=partial(_share, name, other),
                modules=("Lapicque",),
                coupled="R * C must stay above the time step",
            )
            for name, what, other in (("R", "resistance", "C"), ("C", "capacitance", "R"))
        ),
        Trains(
            field="tau",
            meaning="membrane time constant",
            unit="steps",
            default=positive,
            quantity=Quantity.TAU_MEM,
            stored_as=Steps,
            modules=("StateLeaky",),
        ),
        thresholds("delta_threshold", meaning="threshold of change"),
        *decays("beta", "alpha"),
        thresholds("threshold"),
        Trains(field="graded_spikes_factor", meaning="size of a spike", default=positive),
    ),
)
