"""values: the present values, as they are stored or as a physical quantity."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor, nn

from neuroparam._attaching.survey import each_once, survey, trains_now
from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.registry import step_of
from neuroparam._catalogue.time_step import time_step, unit_of
from neuroparam._ground.errors import InvalidArgumentError, MisuseWarning, TimeStepError, placed
from neuroparam._ground.messages import warn
from neuroparam._ground.torch_state import whole
from neuroparam._maps.time_constants import UnitMap, WithStep
from neuroparam._value.injected import own_class
from neuroparam._value.place import Place, attached
from neuroparam._value.storage import Kind
from neuroparam._value.with_units import Values

__all__ = ["as_quantity", "in_seconds", "values"]


def values(
    module: nn.Module,
    quantity: Quantity | None = None,
    *,
    dt: float | None = None,
    detach: bool = True,
) -> Values:
    """The present values of all attached parameters, or of one quantity.

    As a quantity, the Parameters that a library trains by itself are read too, whatever it stores
    for them: snnTorch's `beta` with `learn_beta=True`, `w` of a PLIF neuron, `voltage_decay` of
    lava-dl.

    Args:
        module: a module or a whole network.
        quantity: only the values of this quantity, in its unit: time constants in seconds.
        dt: the time step of the simulation in seconds, needed for a time constant that was not
            attached as a quantity, in a library without a time step of its own. None takes the
            one with which other values of the network are attached.
        detach: False for values with their graph, so that a prior on them is a term of the loss.
            Each call computes them anew. A `MisuseWarning` says if there are none of a quantity.

    Returns:
        Path -> value, in the unit in which the module stores it or in that of the quantity; a
        copy without gradient, unless `detach` is False. It is NaN where a number that is not
        attached means none, as a decay of 1 or above does. The dictionary also has `.units`, path
        -> unit, so that a picture shows the right one, and `.quantity`.

    Raises:
        UnsupportedModuleError: it is no module.
        InvalidArgumentError: `quantity` is something else.
        TimeStepError: `dt` is needed, or contradicts the module's own.
        EvaluationError: a map of the user's raises AttributeError.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> values(make_trainable(module, "tau"))
        {'tau': tensor(20.)}
        >>> prior = (values(module, detach=False)["tau"].log() - 3.0).square()
        >>> prior.backward()
    """
    if quantity is not None and not isinstance(quantity, Quantity):
        wanted = "must be a Quantity, such as Quantity.TAU_MEM"
        if isinstance(quantity, str):
            wanted += f"; one value by its path is values(net)[{quantity!r}]"
        raise InvalidArgumentError("quantity", quantity, wanted)
    chosen = list(attached(module)) if quantity is None else _trained(module, quantity)
    if quantity is not None and not detach and not chosen:
        warn(
            f"{own_class(module).__name__} has no value of {quantity!r} that trains, so that a "
            f"term of the loss for it is zero; summary(net) and find(net) show what there is.",
            MisuseWarning,
        )
    if dt is not None:  # A dt that contradicts a module is refused also where none is needed.
        for place in chosen:
            with placed(place.path):
                time_step(place.neuron, dt)
    with torch.no_grad() if detach else contextlib.nullcontext():
        if quantity is None:
            found = {place.path: whole(place.parameter()) for place in chosen}
        else:
            steps = _steps(module, chosen, dt)
            found = {p.path: as_quantity(p, step) for p, step in zip(chosen, steps, strict=True)}
    units = (
        quantity.unit if quantity else (place.trains.unit if place.trains else None)
        for place in chosen
    )
    return Values(
        (
            (path, value.detach().clone() if detach else value, unit)
            for (path, value), unit in zip(found.items(), units, strict=True)
        ),
        quantity,
    )


def in_seconds(module: nn.Module, dt: float | None) -> dict[str, Tensor]:
    """Path -> time constant in seconds, of those attached values of which it is known.

    Raises:
        TimeStepError: `dt` contradicts a module's own, or that with which a value is attached.
    """
    places = [
        place
        for place in attached(module)
        if place.quantity is not None
        and place.quantity.is_time_constant
        and not place.parameter.raw.is_meta
    ]
    found = {}
    for place, step in zip(places, _steps(module, places, dt), strict=True):
        unknown = contextlib.suppress(TimeStepError) if dt is None else contextlib.nullcontext()
        with unknown, torch.no_grad():
            found[place.path] = as_quantity(place, step).detach().clone()
    return found


def _steps(module: nn.Module, places: list[Place], dt: float | None) -> list[float | None]:
    """The time step for each place: as given, or as other values of the network have it."""
    if dt is not None:
        return [dt] * len(places)
    units = (place.parameter.unit for place in attached(module))
    known = {unit.dt for unit in units if isinstance(unit, WithStep)}
    common = known.pop() if len(known) == 1 else None
    return [common if step_of(place.neuron) is None else None for place in places]


def _trained(module: nn.Module, quantity: Quantity) -> list[Place]:
    """The places of a quantity that are attached, or Parameters which train by themselves."""
    return [
        place
        for place in each_once(survey(module))
        if place.quantity is quantity and place.trains is not None and trains_now(place)
    ]


def as_quantity(place: Place, dt: float | None) -> Tensor:
    """The value at a place in the unit of its quantity.

    Raises:
        TimeStepError: `dt` is needed, or contradicts the module's own.
    """
    assert place.trains is not None
    if place.kind is not Kind.ATTACHED:
        with placed(place.path):
            return _in_unit(whole(place.value), unit_of(place.neuron, place.trains, dt))
    unit = place.parameter.unit
    with placed(place.path):
        if unit is None:
            # A map that the user has given may let it leave what its module takes.
            found = unit_of(place.neuron, place.trains, dt)
            return _in_unit(whole(place.parameter()), found)
        if dt is not None and isinstance(unit, WithStep):
            if not math.isclose(unit.dt, dt, rel_tol=1e-6):
                raise TimeStepError(f"it is attached with {unit!r}, and dt={dt!r} was given.")
    return whole(place.parameter.physical())


def _in_unit(stored: Tensor, unit: UnitMap | None) -> Tensor:
    """A number that may be out of its range, in the unit of its quantity, and NaN there."""
    if unit is None:
        return stored
    value = stored.double()
    wrong = unit.outside(value)
    # The gradient of what is masked must be finite too, and so a valid number takes its place.
    valid = unit(torch.ones_like(value))
    found = unit.inverse(torch.where(wrong, valid, value)).masked_fill(wrong, math.nan)
    return found.to(stored.dtype)
