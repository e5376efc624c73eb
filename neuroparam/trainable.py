"""make_trainable and make_fixed: the one place that changes a module."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from neuroparam.attachment import (
    Attached,
    NeuronParameter,
    Storage,
    add_parameter,
    attached,
    is_attached,
    parts,
    refuse_non_module,
    remove_parameter,
)
from neuroparam.distributed import refuse_sharded, refuse_wrapped
from neuroparam.errors import (
    AmbiguousNameError,
    InvalidNamesError,
    NotTrainableError,
    OutOfDomainError,
    ParametrizationError,
    UnknownNameError,
    UnsupportedModuleError,
    describe,
)
from neuroparam.finite import refuse_not_finite
from neuroparam.given import number
from neuroparam.guard import release_forward, watch_forward
from neuroparam.initial import Initial, Shape, initial_tensor
from neuroparam.libraries import Known, default_parametrization
from neuroparam.names import Name, is_pattern, matches, specificity
from neuroparam.optimizers import expect_in_optimizer, refuse_in_optimizers
from neuroparam.parametrizations import ExpScaledLog, OpenInterval, Parametrization
from neuroparam.places import Place, find_places
from neuroparam.quantities import Quantity
from neuroparam.records import Record
from neuroparam.steps import time_step, unit_of
from neuroparam.units import Above, Link, bounds_of

__all__ = ["Names", "make_fixed", "make_trainable"]

Chain: TypeAlias = "nn.Module | Sequence[nn.Module] | None"
Names: TypeAlias = "Name | Iterable[Name] | Mapping[Name, Chain]"

_Module = TypeVar("_Module", bound=nn.Module)


def make_trainable(
    module: _Module,
    names: Names,
    init: Initial | Mapping[Name, Initial] = None,
    *,
    shape: Shape | Mapping[Name, Shape] = None,
    dt: float | None = None,
) -> _Module:
    """Makes time constants and thresholds of a module trainable, inside their valid range.

    Each named value is taken out of where the module stores it (a Parameter, a buffer, a plain
    tensor or number, a field of a NamedTuple or dataclass) and becomes a parametrized
    attribute in the same place: reading it gives the value, and the optimizer sees an
    unconstrained raw Parameter. The module's forward is left alone.

    Args:
        module: the module, or a whole network; it is changed in place.
        names: a name, several names, or a mapping name -> parametrization. A name is a dotted
            path (`"lif.p.tau_mem_inv"`), the end of one that fits a single place
            (`"tau_mem_inv"`), or a pattern for many (`"lif*.p.tau_mem_inv"`, `"*.beta"`); where
            several fit, a plain name counts before a pattern, and the pattern with more letters
            before the one with fewer. A `Quantity` (`Quantity.TAU_MEM`) means all values that
            the libraries store for it, in seconds whatever they store; a name or a pattern
            counts before it. Without a parametrization, a value gets the one that is right
            for its library, otherwise `ExpScaledLog()`. A list of parametrizations is applied
            from first to last. An instance is a recipe: each value gets a copy of its own.
        init: the initial value, in the unit in which the module stores it, or in seconds where
            the name is a time constant's `Quantity`: None (the present value), a number, a
            tensor or array, a `torch.distributions.Distribution`, or a callable
            `shape -> values`; or a mapping name -> one of these.
        shape: the shape of the trainable value, for example `(100,)` for one value per neuron;
            or a mapping name -> shape, whose names may also be finer than those in `names`
            (`{"hidden.*": (100,), "out.*": (10,)}`); the most specific one counts. None keeps
            the shape, or takes that of `init`.
        dt: the time step of the simulation in seconds, which a `Quantity` needs where the
            library has none of its own (snnTorch, SpikingJelly, Sinabs).

    Returns:
        The module.

    After any error the module is what it was before.

    Raises:
        UnsupportedModuleError: not a `torch.nn.Module`, a ScriptModule, or wrapped for
            distributed training already.
        InvalidNamesError: `names` is not of the kinds above, or empty.
        UnknownNameError: names mean nothing here.
        AmbiguousNameError: a name fits several places.
        NotTrainableError: a name means something that cannot be trained.
        AlreadyTrainableError: a value is parametrized already.
        TiedParameterError: a value is a Parameter that other places hold too.
        ParametrizationError: a parametrization is a class, has no `right_inverse`, or can leave
            the range in which a neuron module is valid.
        TimeStepError: a quantity needs `dt`, or it contradicts a module's own.
        InitialValueError: an initial value or shape that cannot be used.
        OutOfDomainError: an initial value outside the domain of its parametrization.

    Examples:
        >>> import torch
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tau, self.threshold = 20.0, 1.0
        ...     def forward(self, x):
        ...         return x / self.tau - self.threshold
        >>> from neuroparam import ExpScaledLog, Softplus
        >>> leaky = make_trainable(
        ...     Leaky(), {"tau": ExpScaledLog(), "threshold": Softplus()}, shape=(3,)
        ... )
        >>> leaky.tau
        tensor([20., 20., 20.], grad_fn=<MulBackward0>)
        >>> [tuple(p.shape) for p in leaky.parameters()]
        [(3,), (3,)]
    """
    _refuse_unsupported(module)
    refuse_wrapped(module)
    chains = _as_chains(names)
    places = find_places(module, chains)
    inits = _per_name(init, list(chains), "init")
    shapes = _per_place(shape, places)

    prepared = [
        _prepare(module, place, name, chains[name], inits[name], wanted, dt)
        for (name, place), wanted in zip(places, shapes, strict=True)
    ]
    # everything that can be refused has been; from here on the module changes
    for place, parameter in prepared:
        _attach(place, parameter)
    expect_in_optimizer(module, [parameter for _, parameter in prepared])
    watch_forward(module)
    return module


def make_fixed(module: _Module, names: Name | Iterable[Name] | None = None) -> _Module:
    """Gives back the library's own module, with the trained values inside.

    The class, the record type and the kind of storage are what they were before
    `make_trainable`; a number stays a number unless it was made one value per neuron.
    To keep the trainable network, fix a copy: `make_fixed(copy.deepcopy(net))`.

    Args:
        module: a module with attached values; it is changed in place.
        names: which values to fix, as for `make_trainable`; None fixes all.

    Returns:
        The module.

    Raises:
        UnsupportedModuleError: not a `torch.nn.Module`, numbers on the meta device, or sharded.
        UnknownNameError: names mean no attached value.
        AmbiguousNameError: a name fits several attached values.
        NonFiniteError: training has diverged, and there is no value to put back.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tau = 20.0
        >>> leaky = make_trainable(Leaky(), "tau")
        >>> leaky.tau = 5.0
        >>> make_fixed(leaky).tau
        5.0
    """
    _refuse_unsupported(module)
    refuse_sharded(
        module,
        "Load its full state dict (torch.distributed.checkpoint.state_dict.get_model_state_dict "
        "with full_state_dict=True) into a network that is not sharded, and fix that.",
    )
    chosen = _attached_by_name(module, names)
    for found in chosen:
        if found.parameter.raw.is_meta and found.parameter.storage.kind == "number":
            raise UnsupportedModuleError(
                f"{found.path!r} is to be a number again, and on the meta device there is none; "
                f"materialise the module first (to_empty, load_state_dict)."
            )
    refuse_not_finite([found.parameter for found in chosen], "at make_fixed")
    # last attached first: each one's position counts from where it was taken
    for found in reversed(chosen):
        _detach(found)
    _rebuild_records(module)
    release_forward(module)
    return module


def _refuse_unsupported(module: object) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModuleError(
            f"{type(module).__name__} is a ScriptModule, whose code is already compiled; attach "
            f"before torch.jit.script, or do not script."
        )
    refuse_non_module(module)


def _as_names(names: Any) -> list[Name]:
    """The `names` argument as a list of names, each once."""
    if isinstance(names, (str, Quantity)):
        return [names]
    try:
        given: list[Any] = [names] if isinstance(names, (bytes, bytearray)) else list(names)
    except TypeError:
        raise InvalidNamesError(names, "this is none of these") from None
    if not given:
        raise InvalidNamesError(names, "there is no name in it")
    for name in given:
        if not isinstance(name, (str, Quantity)):
            raise InvalidNamesError(name, "a name is a string or a Quantity")
    return list(dict.fromkeys(given))


def _as_chains(names: Any) -> dict[Name, list[nn.Module] | None]:
    """The `names` argument as name -> parametrizations, None where the default is wanted."""
    chains = names if isinstance(names, Mapping) else {}
    return {name: _as_chain(name, chains.get(name)) for name in _as_names(names)}


def _as_chain(name: Name, chain: Any) -> list[nn.Module] | None:
    if chain is None:
        return None
    links = list(chain) if isinstance(chain, (list, tuple)) else [chain]
    if not links:
        raise ParametrizationError(
            f"{name!r}: got {chain!r}, an empty list of parametrizations. Give one, or None for "
            f"the default."
        )
    for link in links:
        if isinstance(link, type):
            raise ParametrizationError(
                f"{name!r}: {link.__name__} is a class; give an instance, {link.__name__}()."
            )
        if not isinstance(link, nn.Module) or not hasattr(link, "right_inverse"):
            raise ParametrizationError(
                f"{name!r}: a parametrization is a torch.nn.Module with forward and "
                f"right_inverse, such as ExpScaledLog(); got {describe(link)}."
            )
        if type(link) is Parametrization:
            raise ParametrizationError(
                f"{name!r}: {link!r} is the base of the maps, and maps nothing; give one of them, "
                f"such as ExpScaledLog()."
            )
    return links


def _per_name(given: Any, names: list[Name], argument: str) -> dict[Name, Any]:
    """An argument that is one thing for all names, or a mapping from names."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    unknown: dict[str, Sequence[str]] = {str(key): () for key in given if key not in names}
    if unknown:
        raise UnknownNameError(
            f"{argument} speaks of what `names` does not list", unknown, [str(n) for n in names]
        )
    return {name: given.get(name) for name in names}


def _per_place(
    shape: Shape | Mapping[Name, Shape], places: Sequence[tuple[Name, Place]]
) -> list[Shape]:
    """The shape wanted at each place, by the most specific name that fits it."""
    if not isinstance(shape, Mapping):
        return [shape] * len(places)
    fitting = [[key for key in shape if _means(key, name, place)] for name, place in places]
    used = {key for keys in fitting for key in keys}
    unknown: dict[str, Sequence[str]] = {str(key): () for key in shape if key not in used}
    if unknown:
        paths = [place.path for _, place in places]
        raise UnknownNameError("shape speaks of what `names` does not list", unknown, paths)
    return [shape[max(keys, key=specificity)] if keys else None for keys in fitting]


def _means(key: object, name: Name, place: Place) -> bool:
    """Whether a key of a mapping speaks of a place that was named so."""
    return key == name or (isinstance(key, str) and matches(place.path, key))


def _prepare(
    module: nn.Module,
    place: Place,
    name: Name,
    chain: list[nn.Module] | None,
    init: Initial,
    shape: Shape,
    dt: float | None,
) -> tuple[Place, NeuronParameter]:
    """Builds and checks all that is to be attached, without touching the module."""
    present = _present(module, place)
    if present.is_meta:
        raise NotTrainableError(
            place.path,
            "its module is on the meta device, which stores no numbers",
            "Attach before moving there, or materialise the module first (to_empty, "
            "load_state_dict).",
        )
    if dt is not None:  # one that contradicts the module is wrong also where none is needed
        time_step(place.path, place.neuron, dt)
    if isinstance(name, Quantity):
        parameter = _of_quantity(place, chain, init, shape, dt, present)
    else:
        links = [default_parametrization(place.neuron, place.field)] if chain is None else chain
        maps = _copied(links, place)
        value = initial_tensor(init, shape, present, _domain(maps), place.path)
        parameter = NeuronParameter(maps, value, place.path)
    _refuse_beyond_coupling(place, parameter)
    if parameter.raw.dtype in (torch.float16, torch.bfloat16):
        warnings.warn(
            f"{place.path!r} is stored in {parameter.raw.dtype}: updates smaller than its "
            f"rounding are lost. Keep neuron parameters in float32.",
            stacklevel=4,
        )
    return place, parameter


def _copied(chain: Sequence[nn.Module], place: Place) -> list[nn.Module]:
    """The links of a chain, for one value alone."""
    maps = [copy.deepcopy(link) for link in chain]
    for index, link in enumerate(maps):
        if isinstance(link, Link):
            _refuse_below_zero(place, maps[:index], f"what {link!r} takes")
    return maps


def _refuse_below_zero(place: Place, maps: Sequence[nn.Module], what: str) -> None:
    """A time constant that can leave its range would get no gradient from there on."""
    if maps and not isinstance(maps[-1], Parametrization):
        return  # a map of the user's own, which states no domain
    lower, _ = bounds_of(maps)
    if lower < 0:
        reached = " -> ".join(map(repr, maps)) or "the raw value, with no map before it,"
        raise ParametrizationError(
            f"{place.path!r}: {what} must stay above 0, and {reached} reaches down to {lower:g}. "
            f"Give a map with a lower bound of at least 0, such as ExpScaledLog()."
        )


def _domain(maps: list[nn.Module]) -> constraints.Constraint:
    """What the values of a chain satisfy, as far as its maps say."""
    if len(maps) > 1 and all(isinstance(link, Parametrization) for link in maps):
        return OpenInterval(*bounds_of(maps))
    return maps[-1].domain if isinstance(maps[-1], Parametrization) else constraints.real


def _of_quantity(
    place: Place,
    chain: list[nn.Module] | None,
    init: Initial,
    shape: Shape,
    dt: float | None,
    present: Tensor,
) -> NeuronParameter:
    """A parameter that is given in the unit of a quantity, whatever the module stores."""
    rule = place.known
    assert isinstance(rule, Known)
    if rule.coupled:
        raise NotTrainableError(
            place.path,
            f"as a quantity it could take any value, and {rule.coupled}",
            "Name it by its path, so that it gets the bounds that keep it valid.",
        )
    if chain is not None:
        maps = _copied(chain, place)
    elif rule.quantity is Quantity.THRESHOLD:
        maps = [default_parametrization(place.neuron, place.field)]
    else:
        maps = [ExpScaledLog()]
    if rule.quantity is not Quantity.THRESHOLD:
        _refuse_below_zero(place, maps, "a time constant")
    if rule.euler:
        maps += _kept_above(place, maps, time_step(place.path, place.neuron, dt))
    unit = unit_of(place.path, place.neuron, rule, dt)
    # in double precision: a decay near 1 has lost most of what its time constant was
    stored = present.double()
    if unit is not None and init is None:
        if bool((wrong := unit.outside(stored)).any()):
            raise OutOfDomainError(stored, wrong, unit.domain_in_words()).at(place.path, repr(unit))
        stored = unit.right_inverse(stored)
    value = initial_tensor(init, shape, stored, _domain(maps), place.path)
    if unit is None:
        return NeuronParameter(maps, value.to(present.dtype), place.path)
    if bool((wrong := value <= 0).any()):
        raise OutOfDomainError(value, wrong, "(0, inf)", place.path)
    value = unit(value)
    if bool((wrong := unit.outside(value.to(present.dtype))).any()):
        storable = f"that {unit!r} can store in {present.dtype}"
        raise OutOfDomainError(unit.right_inverse(value), wrong, storable, place.path)
    parameter = NeuronParameter([*maps, unit], value, place.path).to(present.dtype)
    try:
        parameter.physical()  # constants fitted in double precision may be beyond the module's
    except ParametrizationError as error:
        raise ParametrizationError(f"{place.path!r}: {error}") from None
    return parameter


def _kept_above(place: Place, maps: list[nn.Module], dt: float) -> list[nn.Module]:
    """A link that keeps a time constant above the step of an Euler cell, where it is needed."""
    lower, upper = bounds_of(maps)
    if lower >= dt:
        return []
    if lower == 0.0 and math.isinf(upper):
        return [Above(dt)]
    raise ParametrizationError(
        f"{place.path!r}: {type(place.neuron).__name__} integrates by forward Euler, and its time "
        f"constant must stay above the step of {dt:g} s; {' -> '.join(map(repr, maps))} reaches "
        f"down to {lower:g} s. Give a lower bound of at least {dt:g}."
    )


def _refuse_beyond_coupling(place: Place, parameter: NeuronParameter) -> None:
    """Where two parameters are tied, a map may not leave the bounds that keep them valid."""
    rule = place.known
    if not isinstance(rule, Known) or not rule.coupled:
        return
    default = rule.default(place.neuron)
    if default is None:
        raise NotTrainableError(
            place.path,
            f"{rule.coupled}, which the present values do not keep",
            "Set values that do, then attach.",
        )
    lower, upper = bounds_of([default])
    if parameter.bounds[0] < lower or parameter.bounds[1] > upper:
        raise ParametrizationError(
            f"{place.path!r}: {rule.coupled}, and {' -> '.join(map(repr, parameter))} can leave "
            f"the range ({lower:g}, {upper:g}) that keeps it so. Give a parametrization within "
            f"that range, or None for the default {default!r}."
        )


def _present(module: nn.Module, place: Place) -> Tensor:
    """The stored value as a floating-point tensor, where the module lives."""
    if isinstance(place.value, Tensor):
        value = place.value.detach()
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    # torch's own methods: Rockpool has others of these names
    beside = (
        *nn.Module.parameters(place.neuron),
        *nn.Module.buffers(place.neuron),
        *nn.Module.parameters(module),
    )
    like = next((tensor for tensor in beside if tensor.is_floating_point()), torch.empty(()))
    double = like.dtype == torch.float64
    dtype = torch.float64 if double else torch.get_default_dtype()  # never half precision
    return torch.tensor(number(place.value), dtype=dtype, device=like.device)


def _attach(place: Place, parameter: NeuronParameter) -> None:
    """Exchanges a stored value for its trainable parameter; nothing here can be refused."""
    owner, name = place.owner, place.attribute
    if place.fields:
        if name in owner.__dict__:  # not yet done for another field of the same record
            owner._modules[name] = Record(owner.__dict__.pop(name))
        for part in (name, *place.fields[:-1]):
            owner = owner.get_submodule(part)
        name = place.field
    parameter.storage = _take(owner, name, parameter)
    add_parameter(owner, name, parameter)


def _take(owner: nn.Module, name: str, parameter: NeuronParameter) -> Storage:
    """Removes a plain value from its owner, and says how it was stored."""
    stores: dict[str, dict[str, Any]] = {
        "parameter": owner._parameters,
        "buffer": owner._buffers,
        "attribute": owner.__dict__,
    }
    kind = next(kind for kind, store in stores.items() if name in store)
    index = list(stores[kind]).index(name)
    plain = stores[kind].pop(name)
    if kind == "attribute":
        return Storage("tensor" if isinstance(plain, Tensor) else "number", index)
    if kind == "buffer":
        persistent = name not in owner._non_persistent_buffers_set
        owner._non_persistent_buffers_set.discard(name)
        return Storage(kind, index, persistent=persistent)
    requires_grad = plain.requires_grad
    if plain.shape == parameter.raw.shape:
        # The same Parameter object, so that an optimizer built before goes on training it. Its
        # memory is exchanged, not overwritten: other tensors may share it.
        with torch.no_grad():
            plain.set_(parameter.raw.detach())
        plain.grad = None
        parameter._parameters["original"] = plain.requires_grad_(True)
    else:
        refuse_in_optimizers(plain, parameter.path)
    return Storage(kind, index, requires_grad=requires_grad)


def _attached_by_name(module: nn.Module, names: Name | Iterable[Name] | None) -> list[Attached]:
    everything = list(attached(module))
    if names is None:
        return everything
    # a module in two places of a network has its values under two paths
    everywhere = list(attached(module, every_path=True))
    found: set[NeuronParameter] = set()
    missing: dict[str, Sequence[str]] = {}
    for name in _as_names(names):
        if isinstance(name, Quantity):
            fitting = [a for a in everywhere if a.quantity is name]
        else:
            fitting = [a for a in everywhere if a.path == name] or [
                a for a in everywhere if matches(a.path, name)
            ]
        meant = {a.parameter for a in fitting}
        if len(meant) > 1 and isinstance(name, str) and not is_pattern(name):
            raise AmbiguousNameError(name, [a.path for a in fitting])
        found |= meant
        if not fitting:
            missing[str(name)] = ()
    if missing:
        raise UnknownNameError(
            f"{type(module).__name__} has no trainable value named",
            missing,
            [a.path for a in everything],
        )
    return [a for a in everything if a.parameter in found]


def _detach(found: Attached) -> None:
    """Puts one value back where it was stored."""
    owner, name, parameter = found.owner, found.name, found.parameter
    storage = parameter.storage
    with torch.no_grad():
        value = parameter().detach().clone()
    remove_parameter(owner, name)
    if storage.kind == "parameter":
        plain = parameter.raw
        with torch.no_grad():
            plain.set_(value)
        plain.grad = None
        _insert(owner._parameters, storage.index, name, plain.requires_grad_(storage.requires_grad))
    elif storage.kind == "buffer":
        _insert(owner._buffers, storage.index, name, value)
        if not storage.persistent:
            owner._non_persistent_buffers_set.add(name)
    else:
        number = storage.kind == "number" and value.ndim == 0
        _insert(owner.__dict__, storage.index, name, value.item() if number else value)


def _insert(store: dict[str, Any], index: int, name: str, value: Any) -> None:
    """Sets an entry at its old position: parameters and state dicts have an order."""
    later = list(store.items())[index:]
    for key, _ in later:
        del store[key]
    store[name] = value
    store.update(later)


def _rebuild_records(module: nn.Module) -> None:
    for owner in parts(module):
        for name, part in list(owner._modules.items()):
            if isinstance(part, Record) and not isinstance(owner, Record):
                if not is_attached(part):
                    del owner._modules[name]
                    owner.__dict__[name] = part.rebuild()
