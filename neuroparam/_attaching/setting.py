"""set_values, freeze and unfreeze: what is attached gets other values, or stops training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from neuroparam._attaching.build import as_stored
from neuroparam._attaching.initial import Initial, initial_tensor
from neuroparam._attaching.names import Name
from neuroparam._attaching.request import refuse_one_for_two_units
from neuroparam._attaching.resolve import attached_places, claimed_places
from neuroparam._attaching.slips import slip, warn_of_slips
from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.time_step import time_step, unit_of
from neuroparam._ground.errors import InvalidArgumentError, placed
from neuroparam._value.place import Place, refuse_non_module

__all__ = ["freeze", "set_values", "unfreeze"]

_Module = TypeVar("_Module", bound=nn.Module)


def set_values(
    module: _Module,
    names: Name | Iterable[Name] | Mapping[Name, Initial],
    value: Initial = None,
    *,
    dt: float | None = None,
) -> _Module:
    """Gives attached values other numbers, in the unit of the name.

    Assigning to an attribute, `net.lif.beta = 0.9`, is in the unit in which the module stores it.
    Named by a `Quantity`, a time constant is given in seconds, as in `make_trainable`.

    Args:
        module: a module with attached values; it is changed in place.
        names: names, as for `make_trainable`; or a mapping name -> value, such as what `values`
            gives. Where several fit a value, the most specific one counts.
        value: for all of them: a number, a tensor or array, a distribution, or a callable
            `shape -> values`.
        dt: the time step in seconds, where a quantity needs it and was not attached as one.

    Returns:
        The module. The raw Parameters stay the same objects, so that optimizers go on.

    After any error the values are what they were before.

    Raises:
        UnsupportedModuleError: it is no module.
        UnknownNameError: names mean no attached value.
        AmbiguousNameError: a name fits several attached values.
        InvalidArgumentError: `names` or `value` cannot be used.
        OutOfDomainError: a value is outside the domain of its parametrization.
        TimeStepError: `dt` is needed, or contradicts the module's own.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable, set_values
        >>> module = torch.nn.Module()
        >>> module.tau, module.v_th = 20.0, 1.0
        >>> module = make_trainable(module, ["tau", "v_th"], shape=(2,))
        >>> module = set_values(module, {"tau": 10.0, "v_th": torch.tensor([0.5, 0.6])})
        >>> module.tau
        tensor([10., 10.], grad_fn=<ChainBackward>)
    """
    refuse_non_module(module)
    given = names if isinstance(names, Mapping) else None
    if given is None and value is None:
        raise InvalidArgumentError("value", value, "give the number that the values get")
    raws: list[tuple[Name, Place, Initial, Tensor]] = []
    places = claimed_places(module, names)
    if given is None:
        refuse_one_for_two_units("value", value, places)
    for name, place in places:
        with placed(place.path):
            wanted: Any = value if given is None else given[name]
            quantity = name if isinstance(name, Quantity) else getattr(names, "quantity", None)
            raws.append((quantity or name, place, wanted, _raw_of(place, quantity, wanted, dt)))
    for _, place, _, raw in raws:
        place.parameter.assign_raw(raw)
    warn_of_slips(slip(place, place.parameter, name, dt, wanted) for name, place, wanted, _ in raws)
    return module


def _raw_of(place: Place, quantity: Quantity | None, value: Initial, dt: float | None) -> Tensor:
    """The raw tensor for what the user gives, in the unit of the quantity if there is one."""
    parameter = place.parameter
    stored = parameter().detach()
    if dt is not None:
        time_step(place.neuron, dt)
    unit = None
    if quantity is not None and quantity is place.quantity:
        assert place.trains is not None
        unit = parameter.unit or unit_of(place.neuron, place.trains, dt)
    present = stored if unit is None else unit.inverse(stored.double())
    try:
        number = initial_tensor(value, tuple(stored.shape), present, None)
    except InvalidArgumentError as error:
        error.argument = "value"
        raise
    if unit is None:
        return parameter.raw_of(number)
    if parameter.unit is None:
        return parameter.raw_of(as_stored(number, unit, stored.dtype).to(stored.dtype))
    return parameter.raw_of(number.to(stored.dtype), physical=True)


def freeze(module: _Module, names: Name | Iterable[Name] | None = None) -> _Module:
    """Stops the training of attached values, until `unfreeze`.

    Their raw Parameters get `requires_grad=False` and lose a gradient that waits for the next
    step, so that optimizers leave them where they are from now on.

    Args:
        module: a module with attached values.
        names: which values, as for `make_fixed`; None means all.

    Returns:
        The module. To give back the library's own module, use `make_fixed`.

    Raises:
        UnsupportedModuleError: it is no module.
        UnknownNameError: names mean no attached value.
        AmbiguousNameError: a name fits several attached values.
        InvalidArgumentError: `names` is no name, and no list of names.

    Examples:
        >>> import torch
        >>> from neuroparam import freeze, make_trainable, unfreeze
        >>> module = torch.nn.Module()
        >>> module.tau, module.v_th = 20.0, 1.0
        >>> module = freeze(make_trainable(module, ["tau", "v_th"]), "tau")
        >>> [parameter.requires_grad for parameter in module.parameters()]
        [False, True]
        >>> module = unfreeze(module)
        >>> [parameter.requires_grad for parameter in module.parameters()]
        [True, True]
    """
    return _set_trained(module, names, False)


def unfreeze(module: _Module, names: Name | Iterable[Name] | None = None) -> _Module:
    """Lets attached values train again, after `freeze`.

    An optimizer trains them if it holds their raw Parameters: build it of all parameters, frozen
    ones included.

    Args:
        module: a module with attached values.
        names: which values, as for `make_fixed`; None means all.

    Returns:
        The module.

    Raises:
        UnsupportedModuleError, UnknownNameError, AmbiguousNameError, InvalidArgumentError: as
            `freeze`.
    """
    return _set_trained(module, names, True)


def _set_trained(module: _Module, names: Name | Iterable[Name] | None, is_trained: bool) -> _Module:
    for place in attached_places(module, names):
        place.parameter.set_trained(is_trained)
    return module
