"""Building a trainable value for a request, with every check, and without touching the module."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from neuroparam._attaching.initial import Initial, initial_tensor
from neuroparam._attaching.request import Request
from neuroparam._catalogue.entries import Trains
from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.time_step import time_step, unit_of
from neuroparam._ground.errors import NotTrainableError, OutOfDomainError, ParametrizationError
from neuroparam._ground.real import as_real
from neuroparam._maps.base import OpenInterval, Parametrization, bounds_of
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.time_constants import Above, TimeConstantMap, UnitMap
from neuroparam._value.parameter import NeuronParameter, in_words
from neuroparam._value.place import Place

__all__ = ["as_stored", "build"]


def build(module: nn.Module, request: Request) -> NeuronParameter:
    """The trainable value that is asked for.

    A path is given in the unit in which the module stores the value. A quantity is given in its
    own unit, and a unit map stands at the end of its chain.

    Args:
        module: what `make_trainable` was given.
        request: what is asked for.

    Raises:
        NotTrainableError, ParametrizationError, TimeStepError, InvalidArgumentError,
        OutOfDomainError: as `make_trainable` says.
    """
    place, dt = request.place, request.dt
    present = _present(module, place)
    if present.is_meta:
        raise NotTrainableError(
            "its module is on the meta device, which stores no numbers",
            "Attach before moving there, or materialise the module first (to_empty, "
            "load_state_dict).",
        )
    if dt is not None:
        time_step(place.neuron, dt)  # A dt that contradicts the module's is refused everywhere.
    maps, unit = _maps_for(request)
    try:
        parameter = _parameter(request, maps, unit, present)
    except OutOfDomainError as error:
        # What the module stores may mean nothing as a quantity, and then nobody has given it.
        is_stored = unit is not None and error.parametrization == repr(unit)
        error.hint = "" if is_stored else _hint(request)
        raise
    _refuse_beyond_coupling(place, parameter)
    return parameter


def _parameter(
    request: Request, maps: list[nn.Module], unit: UnitMap | None, present: Tensor
) -> NeuronParameter:
    """The trainable value behind its maps."""
    place = request.place
    if unit is None:
        maps = _fitted_beforehand(maps, request.init, present)
        value = initial_tensor(request.init, request.shape, present, _domain(maps))
        parameter = NeuronParameter(maps, value, place.path)
    else:
        # A decay near 1 has lost most digits of its time constant, so compute in double precision.
        start = present.double()
        if request.init is None:
            start = _in_seconds(start, unit)
        elif not bool(unit.outside(start).any()):
            maps = _fitted_beforehand(
                maps, request.init, unit.right_inverse(start).to(present.dtype)
            )
        value = initial_tensor(request.init, request.shape, start, _domain(maps))
        stored = as_stored(value, unit, present.dtype)
        parameter = NeuronParameter([*maps, unit], stored, place.path).to(present.dtype)
        parameter.physical()  # Raises if constants fitted in double precision do not fit here.
    return parameter


def _hint(request: Request) -> str:
    """What a user may not know who gave a time constant by its path, in another unit."""
    row = request.place.trains
    if row is None or row.quantity is None or not row.quantity.is_time_constant:
        return ""
    if isinstance(request.name, Quantity):
        return "As a quantity it is in seconds, and 20 ms are 20e-3."
    stored = f"a {row.meaning}" + (f" in {row.unit}" if row.unit else "")
    bound = ""
    if row.euler:
        bound = " Its module integrates by forward Euler, and the bound is the time step."
    return f"It is {stored}; in seconds it is {row.quantity!r}.{bound}"


def _present(module: nn.Module, place: Place) -> Tensor:
    """The stored value as a floating-point tensor, where the module lives."""
    if isinstance(place.value, Tensor):
        value = place.value.detach()
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    # Rockpool's modules have other methods of these names.
    beside = (
        *nn.Module.parameters(place.neuron),
        *nn.Module.buffers(place.neuron),
        *nn.Module.parameters(module),
    )
    floats = [tensor for tensor in beside if tensor.is_floating_point()]
    like = floats[0] if floats else torch.empty(())
    # Half precision loses small updates. A number becomes such a tensor only where all others are,
    # and the next layer would refuse what is computed with another.
    is_half = like.dtype in (torch.float16, torch.bfloat16)
    if like.dtype == torch.float64 or (is_half and all(t.dtype == like.dtype for t in floats)):
        dtype = like.dtype
    else:
        dtype = torch.get_default_dtype()
    return torch.tensor(as_real(place.value), dtype=dtype, device=like.device)


def _maps_for(request: Request) -> tuple[list[nn.Module], UnitMap | None]:
    """The maps of a request, for one value alone, and the unit map of its quantity."""
    place, name, dt = request.place, request.name, request.dt
    row = place.trains
    if not isinstance(name, Quantity):
        if request.maps is None and row is None and place.hint.is_mapped:
            raise NotTrainableError(
                place.hint.why,
                f"Leave it the Parameter that it is, without a parametrization; or give one if "
                f"the name misleads: {{{place.field!r}: ExpScaledLog()}}.",
            )
        maps = request.maps or [place.default]
        if row is not None and row.mapped:
            _refuse_mapped_again(row, maps)
        if row is not None and row.quantity is not None:
            _refuse_other_unit(row, maps)
        return _copied(maps), None
    assert row is not None
    if row.coupled:
        raise NotTrainableError(
            f"as a quantity it could take any value, and {row.coupled}",
            "Name it by its path, so that it gets the bounds that keep it valid.",
        )
    if request.maps is not None and isinstance(request.maps[-1], UnitMap):
        raise ParametrizationError(
            f"{name!r} puts the unit map of each library in by itself, and {request.maps[-1]!r} "
            f"would come before it. Leave it out, or name the value by its path."
        )
    if request.maps is not None:
        maps = _copied(request.maps)
    elif name.is_time_constant:
        maps = [ExpScaledLog()]
    else:
        maps = [place.default]
    if name.is_time_constant:
        _refuse_below_zero(maps, "a time constant")
    if row.euler:
        maps += _kept_above(place.neuron, maps, time_step(place.neuron, dt))
    return maps, unit_of(place.neuron, row, dt)


def _refuse_other_unit(row: Trains, maps: list[nn.Module]) -> None:
    """Raises if a chain ends in the unit map of another library.

    What is read in seconds, and shown in ms, would be wrong.
    """
    last = maps[-1]
    kind = getattr(row.stored_as, "func", row.stored_as)
    if isinstance(last, UnitMap) and isinstance(kind, (type, type(None))):
        if kind is None or not isinstance(last, kind):
            stored = f" in {row.unit}" if row.unit else ""
            right = "without a unit map" if kind is None else f"with {kind.__name__}"
            raise ParametrizationError(
                f"{last!r} is no unit map for a {row.meaning}{stored}; end the chain {right}, or "
                f"name {row.quantity!r}, which does so by itself."
            )


def _refuse_mapped_again(row: Trains, maps: list[nn.Module]) -> None:
    """Raises if maps would take away a part of the range of what the module maps itself."""
    if isinstance(maps[-1], UnitMap) or bounds_of(maps) == (-math.inf, math.inf):
        return
    assert row.quantity is not None
    raise NotTrainableError(
        f"it is unconstrained already: {row.mapped}",
        f"Train it as it is, or name {row.quantity!r}: it then trains the {row.quantity.value} "
        f"itself.",
    )


def _copied(recipe: Sequence[nn.Module]) -> list[nn.Module]:
    """The maps of a recipe, for one value alone."""
    maps = [copy.deepcopy(each) for each in recipe]
    for index, each in enumerate(maps):
        if isinstance(each, TimeConstantMap):
            _refuse_below_zero(maps[:index], f"what {each!r} takes")
    return maps


def _fitted_beforehand(maps: list[nn.Module], init: Initial, present: Tensor) -> list[nn.Module]:
    """The maps, with constants that do not depend on how a random initial value is drawn.

    Each network that the same code builds has the same constants then, so that raw tensors may
    be copied from one to another: by target networks, evolution strategies and broadcasts. They
    are fitted to the mean of a distribution, or else to the present value, as far as these are
    in the domain.
    """
    if not isinstance(init, Distribution) and not callable(init):
        return maps
    given: Any = init
    # A map may be the user's code, and may raise anything; it does so again when it is built.
    with contextlib.suppress(Exception):
        return _fitted(maps, given.mean.to(present))
    with contextlib.suppress(Exception):
        return _fitted(maps, present)
    return maps


def _fitted(maps: list[nn.Module], value: Tensor) -> list[nn.Module]:
    """Copies of the maps, fitted to a value as if it were the initial one."""
    fitted: Any = copy.deepcopy(maps)
    for each in reversed(fitted):
        value = each.right_inverse(value)
    return list(fitted)


def _refuse_below_zero(maps: Sequence[nn.Module], what: str) -> None:
    """Raises if a time constant can leave its range, where it would get no gradient."""
    if maps and not isinstance(maps[-1], Parametrization):
        return  # A user's map that is no Parametrization states no domain.
    lower, _ = bounds_of(maps)
    if lower < 0:
        reached = in_words(maps) or "the raw value, with no map before it,"
        raise ParametrizationError(
            f"{what} must stay above 0, and {reached} reaches down to {lower:g}. Give a map with "
            f"a lower bound of at least 0, such as ExpScaledLog()."
        )


def _kept_above(neuron: nn.Module, maps: list[nn.Module], dt: float) -> list[nn.Module]:
    """The map that keeps a time constant above the step of an Euler cell, where one is needed."""
    lower, upper = bounds_of(maps)
    if lower >= dt:
        return []
    if lower == 0.0 and math.isinf(upper):
        return [Above(dt)]
    raise ParametrizationError(
        f"{type(neuron).__name__} integrates by forward Euler, and its time constant must stay "
        f"above the step of {dt:g} s; {in_words(maps)} reaches down to {lower:g} s. Give a lower "
        f"bound of at least {dt:g}."
    )


def _domain(maps: list[nn.Module]) -> constraints.Constraint:
    """What the values of a chain satisfy, as far as its maps say."""
    if len(maps) > 1 and all(isinstance(each, Parametrization) for each in maps):
        return OpenInterval(*bounds_of(maps))
    last = maps[-1]
    return last.domain if isinstance(last, Parametrization) else constraints.real


def _in_seconds(stored: Tensor, unit: UnitMap) -> Tensor:
    """What the module stores now, in the unit of the quantity."""
    wrong = unit.outside(stored)
    if bool(wrong.any()):
        raise OutOfDomainError(stored, wrong, unit.domain_in_words(), repr(unit))
    return unit.right_inverse(stored)


def as_stored(value: Tensor, unit: UnitMap, dtype: torch.dtype) -> Tensor:
    """A value in the unit of a quantity as the module will store it, in double precision."""
    if bool((wrong := value <= 0).any()):
        raise OutOfDomainError(value, wrong, "(0, inf)")
    stored: Tensor = unit(value)
    if bool((wrong := unit.outside(stored.to(dtype))).any()):
        storable = f"that {unit!r} can store in {dtype}"
        raise OutOfDomainError(unit.right_inverse(stored), wrong, storable)
    return stored


def _refuse_beyond_coupling(place: Place, parameter: NeuronParameter) -> None:
    """Raises if a map can leave the bounds that keep two values valid together."""
    row = place.row
    if not isinstance(row, Trains) or not row.coupled:
        return
    default = row.default(place.neuron)
    if default is None:
        raise NotTrainableError(
            f"{row.coupled}, which the present values do not keep",
            "Set values that do, then attach.",
        )
    lower, upper = bounds_of([default])
    if parameter.bounds[0] < lower or parameter.bounds[1] > upper:
        raise ParametrizationError(
            f"{row.coupled}, and {in_words(parameter)} can leave the range ({lower:g}, {upper:g}) "
            f"that keeps it so. Give a parametrization within that range, or None for the default "
            f"{default!r}."
        )
