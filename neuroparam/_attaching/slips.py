"""Slips of the unit: time constants that no simulation with this time step can mean."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.distributions import LogNormal

from neuroparam._attaching.initial import Initial
from neuroparam._attaching.names import Name
from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.registry import step_of
from neuroparam._catalogue.time_step import unit_of
from neuroparam._ground.errors import UnitWarning
from neuroparam._ground.messages import warn
from neuroparam._maps.time_constants import WithStep
from neuroparam._value.parameter import LEAST_STEPS, NeuronParameter
from neuroparam._value.place import Place

__all__ = ["slip", "warn_of_slips"]

# Numbers of time steps between which a time constant is taken for what was meant, and how many of
# them may be longer than a second.
_SHORTEST, _LONGEST = 1.0, 1e4
_LONGEST_IN_SECONDS = 1e3
# In seconds. Nobody simulates neurons with longer steps, and 1 is meant as 1 ms.
_LONGEST_STEP = 0.1
# The median of torch's `LogNormal(loc, ...)` is exp(loc). Where loc itself is so many seconds, it
# is meant as the median.
_LOC_IN_SECONDS = (0.0, 0.5)


def warn_of_slips(messages: Iterable[str]) -> None:
    """Warns of what `slip` has found, of each slip once."""
    for message in dict.fromkeys(messages):
        if message:
            warn(message, UnitWarning)


def slip(
    place: Place, parameter: NeuronParameter, name: Name, dt: float | None, given: Initial
) -> str:
    """What is wrong where a value is far from every time constant of a simulation.

    Args:
        place: where it is stored.
        parameter: the value, which need not be attached yet.
        name: how it was named: by its path, in the stored unit, or by a quantity, in seconds.
        dt: the time step that was given, in seconds.
        given: what the value was made from.

    Returns:
        A sentence for a warning; empty if nothing is wrong.
    """
    row = place.trains
    if row is None or row.quantity is None or not row.quantity.is_time_constant:
        return ""
    by_quantity = isinstance(name, Quantity)
    step = parameter.unit.dt if isinstance(parameter.unit, WithStep) else None
    if step is not None and step >= _LONGEST_STEP:
        return f"dt={step:g} is a step of {step:g} seconds: dt is in seconds, and 1 ms is dt=1e-3."
    if by_quantity and type(given) is LogNormal and _has_median_as_loc(given):
        return (
            f"{parameter.path!r}: {given!r} has its median at exp(loc), "
            f"{given.loc.exp().median().item():.3g} s. For a median in seconds give "
            f"neuroparam.initial.log_normal(median, spread)."
        )
    found = _in_steps(place, parameter, dt)
    if found is None:
        return ""
    steps = _median(found)
    longest = _LONGEST
    if by_quantity and steps >= _LONGEST_IN_SECONDS and _median(parameter.physical()) >= 1.0:
        longest = _LONGEST_IN_SECONDS
    if (_SHORTEST if by_quantity else LEAST_STEPS) <= steps < longest:
        return ""
    problem = "less than one"
    if steps >= longest:
        problem = "a second or more" if longest < _LONGEST else f"{_LONGEST:g} or more"
    if by_quantity:
        meant = f"{row.quantity!r} is in seconds, and 20 ms are 20e-3"
    else:
        stored = row.unit or row.meaning
        meant = (
            f"by its path it is given as its module stores it ({stored}); {row.quantity!r} is in "
            f"seconds"
        )
    return f"{parameter.path!r} is a time constant of {steps:.3g} time steps, {problem}: {meant}."


def _median(values: Tensor) -> float:
    return values.detach().double().median().item()


def _has_median_as_loc(given: LogNormal) -> bool:
    """Whether a distribution has a median for its parameter `loc`, which is its logarithm."""
    least, most = _LOC_IN_SECONDS
    return bool(((given.loc > least) & (given.loc < most)).all())


def _in_steps(place: Place, parameter: NeuronParameter, dt: float | None) -> Tensor | None:
    """The time constants in time steps; None where no step is known."""
    assert place.trains is not None
    own = step_of(place.neuron)
    if parameter.unit is not None:
        unit = parameter.unit
        step = unit.dt if isinstance(unit, WithStep) else own or dt
        return None if step is None else parameter.physical() / step
    # Without a step, a number of steps or a decay per step is as good as with one of 1 s.
    step = own or dt or 1.0
    unit_of_row = unit_of(place.neuron, place.trains, None if own else step)
    value = parameter().detach().double()
    if unit_of_row is None:
        return None if own is None and dt is None else value / step
    if bool(unit_of_row.outside(value).any()):
        return None
    return unit_of_row.inverse(value) / step
