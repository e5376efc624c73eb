"""The time step of a neuron module, and the unit in which it stores a time constant."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from neuroparam._catalogue.entries import PLAIN_CLASS, Trains
from neuroparam._catalogue.registry import step_of
from neuroparam._ground.errors import TimeStepError
from neuroparam._ground.messages import describe
from neuroparam._ground.real import as_real
from neuroparam._maps.time_constants import UnitMap, WithStep

__all__ = ["time_step", "unit_of"]


def unit_of(neuron: nn.Module, row: Trains, dt: float | None) -> UnitMap | None:
    """The map from the unit of a quantity to the number that a module stores.

    Args:
        neuron: the neuron module.
        row: what the catalogue says of the value.
        dt: the time step that the user gave, in seconds.

    Returns:
        A unit map, or None where the module stores the quantity in its own unit.

    Raises:
        TimeStepError: as `time_step`.
    """
    if row.stored_as is None:
        return None
    make: Callable[..., UnitMap] = row.stored_as
    needs_no_step = isinstance(make, type) and not issubclass(make, WithStep)
    return make() if needs_no_step else make(time_step(neuron, dt))


def time_step(neuron: nn.Module, dt: float | None) -> float:
    """The duration of one step of a module's simulation, in seconds.

    Args:
        neuron: the neuron module.
        dt: what the user gave.

    Raises:
        TimeStepError: neither the user nor the module has one, they contradict each other, or it
            is not positive.
    """
    own = step_of(neuron)
    if dt is None:
        if own is None:
            raise TimeStepError(
                f"{_kind_of(neuron)} has no time step of its own. Give the duration of one "
                f"step in seconds, such as dt=1e-3."
            )
        return own
    given = as_real(dt)
    if given is None or not 0 < given < math.inf:
        raise TimeStepError(
            f"dt must be a positive number of seconds, such as 1e-3; got {describe(dt)}."
        )
    if own is not None and not math.isclose(own, given, rel_tol=1e-6):
        raise TimeStepError(
            f"{_kind_of(neuron)} integrates in steps of {own:g} s, and dt={given:g} was "
            f"given. Leave dt out, or build the module with it."
        )
    return given


def _kind_of(neuron: nn.Module) -> str:
    """The name of the library's own class of a module, attached or not."""
    name: str = getattr(type(neuron), PLAIN_CLASS, type(neuron)).__name__
    return name
