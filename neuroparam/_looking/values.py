"""values: the present values, as they are stored or as a physical quantity."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor, nn

from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.time_step import time_step, unit_of
from neuroparam._ground.errors import InvalidArgumentError, TimeStepError, placed
from neuroparam._ground.torch_state import whole
from neuroparam._maps.time_constants import WithStep
from neuroparam._value.place import Place, attached

__all__ = ["as_quantity", "values"]


def values(
    module: nn.Module,
    quantity: Quantity | None = None,
    *,
    dt: float | None = None,
    detach: bool = True,
) -> dict[str, Tensor]:
    """The present values of all attached parameters, or of one quantity.

    Args:
        module: a module with attached parameters.
        quantity: only the values of this quantity, in its unit: time constants in seconds.
        dt: the time step of the simulation in seconds, needed for a quantity that was attached
            by its path in a library without a time step of its own.
        detach: False for values with their graph, so that a prior on them is a term of the loss.
            Each call computes them anew.

    Returns:
        Path -> value, in the unit in which the module stores it or in that of the quantity; a
        copy without gradient, unless `detach` is False.

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
        raise InvalidArgumentError(
            "quantity", quantity, "must be a Quantity, such as Quantity.TAU_MEM"
        )
    chosen = [a for a in attached(module) if quantity is None or a.quantity is quantity]
    if dt is not None:  # A dt that contradicts a module is refused also where none is needed.
        for place in chosen:
            with placed(place.path):
                time_step(place.neuron, dt)
    with torch.no_grad() if detach else contextlib.nullcontext():
        found = {
            place.path: whole(place.parameter()) if quantity is None else as_quantity(place, dt)
            for place in chosen
        }
    return {path: value.detach().clone() for path, value in found.items()} if detach else found


def as_quantity(place: Place, dt: float | None) -> Tensor:
    """The value at an attached place in the unit of its quantity.

    Raises:
        TimeStepError: `dt` is needed, or contradicts the module's own.
    """
    assert place.trains is not None
    unit = place.parameter.unit
    with placed(place.path):
        if unit is None:
            found = unit_of(place.neuron, place.trains, dt)
            value = whole(place.parameter())
            return value if found is None else found.inverse(value.double()).to(value.dtype)
        if dt is not None and isinstance(unit, WithStep):
            if not math.isclose(unit.dt, dt, rel_tol=1e-6):
                raise TimeStepError(f"it is attached with {unit!r}, and dt={dt!r} was given.")
    return whole(place.parameter.physical())
