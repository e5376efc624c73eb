"""Entries that many libraries have, and what entries need as `default` and `time_step`."""

from __future__ import annotations

from torch import nn

from neuroparam._catalogue.entries import Refused, Trains
from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.softplus import Softplus
from neuroparam._maps.time_constants import UnitMap
from neuroparam._maps.units import Decay, SigmoidRate

__all__ = [
    "above_one_step",
    "between_zero_and_one",
    "decays",
    "own_step",
    "positive",
    "sigmoid_rate",
    "states",
    "threshold",
    "thresholds",
    "time_constants",
]


def positive(neuron: nn.Module) -> Parametrization:
    """Any positive value, on a logarithmic scale."""
    return ExpScaledLog()


def threshold(neuron: nn.Module) -> Parametrization:
    """A positive value that grows additively."""
    return Softplus()


def between_zero_and_one(neuron: nn.Module) -> Parametrization:
    """A decay factor per step."""
    return BoundedSigmoid(0.0, 1.0)


def above_one_step(neuron: nn.Module) -> Parametrization:
    """A time constant in steps, of a module that integrates by forward Euler."""
    return Softplus(lower=1.0)


def own_step(neuron: nn.Module) -> float | None:
    """The time step in seconds of a module that keeps one as `dt`."""
    dt = getattr(neuron, "dt", None)
    return float(dt) if dt else None


def decays(membrane: str, synaptic: str) -> tuple[Trains, Trains]:
    """The decay factors per step of a membrane and of a synapse, by their fields."""
    return (
        Trains(
            field=membrane,
            meaning="membrane decay per step",
            default=between_zero_and_one,
            quantity=Quantity.TAU_MEM,
            stored_as=Decay,
        ),
        Trains(
            field=synaptic,
            meaning="synaptic decay per step",
            default=between_zero_and_one,
            quantity=Quantity.TAU_SYN,
            stored_as=Decay,
        ),
    )


def sigmoid_rate(field: str, *, mapped: str, modules: tuple[str, ...]) -> Trains:
    """A membrane rate per step that a module reads as a sigmoid of what it stores."""
    return Trains(
        field=field,
        meaning="logit of the membrane rate per step",
        default=positive,
        quantity=Quantity.TAU_MEM,
        stored_as=SigmoidRate,
        mapped=mapped,
        euler=True,
        modules=modules,
    )


def states(*fields: str, modules: tuple[str, ...] = ("*",)) -> tuple[Refused, ...]:
    """What a module carries from step to step."""
    return tuple(
        Refused(
            field=name,
            reason="it is a state, which the module overwrites as it runs",
            instead="Name a time constant, a decay or a threshold.",
            modules=modules,
        )
        for name in fields
    )


def time_constants(*, unit: str, stored_as: type[UnitMap] | None = None) -> tuple[Trains, Trains]:
    """The fields `tau_mem` and `tau_syn`, in the unit in which a library stores both."""
    membrane, synaptic = (
        Trains(
            field=field,
            meaning=f"{part} time constant",
            unit=unit,
            default=positive,
            quantity=quantity,
            stored_as=stored_as,
        )
        for field, part, quantity in (
            ("tau_mem", "membrane", Quantity.TAU_MEM),
            ("tau_syn", "synaptic", Quantity.TAU_SYN),
        )
    )
    return membrane, synaptic


def thresholds(field: str, *, meaning: str = "threshold") -> Trains:
    """A firing threshold, in the unit of the membrane voltage."""
    return Trains(
        field=field,
        meaning=meaning,
        unit="voltage",
        default=threshold,
        quantity=Quantity.THRESHOLD,
    )
