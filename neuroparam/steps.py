"""Time steps and unit maps of neuron modules: how a place stores a time constant."""

from __future__ import annotations

import math

from torch import nn

from neuroparam.errors import TimeStepError, describe
from neuroparam.given import number
from neuroparam.libraries import Known, step_of
from neuroparam.units import UnitMap, WithStep

__all__ = ["time_step", "unit_of"]


def unit_of(path: str, neuron: nn.Module, rule: Known, dt: float | None) -> UnitMap | None:
    """The map from the unit of a quantity to the number that a module stores.

    Args:
        path: the value, for messages.
        neuron: the neuron module.
        rule: what the catalogue says of the value.
        dt: the time step that the user gave, in seconds.

    Returns:
        A unit map, or None where the module stores the quantity in its own unit.

    Raises:
        TimeStepError: as `time_step`.
    """
    if rule.stored_as is None:
        return None
    if issubclass(rule.stored_as, WithStep):
        return rule.stored_as(time_step(path, neuron, dt))
    return rule.stored_as()


def time_step(path: str, neuron: nn.Module, dt: float | None) -> float:
    """The duration of one step of a module's simulation, in seconds.

    Args:
        path: the value that depends on it, for messages.
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
                path,
                f"{type(neuron).__name__} has no time step of its own. Give the duration of one "
                f"step in seconds, such as dt=1e-3.",
            )
        return own
    given = number(dt)
    if given is None or not 0 < given < math.inf:
        raise TimeStepError(
            path, f"dt must be a positive number of seconds, such as 1e-3; got {describe(dt)}."
        )
    if own is not None and not math.isclose(own, given, rel_tol=1e-6):
        raise TimeStepError(
            path,
            f"{type(neuron).__name__} integrates in steps of {own:g} s, and dt={given:g} was "
            f"given. Leave dt out, or build the module with it.",
        )
    return given
