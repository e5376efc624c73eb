"""Names to places: which stored number or tensor of a module a name means."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam.attachment import NeuronParameter, refuse_non_module
from neuroparam.errors import (
    AlreadyTrainableError,
    AmbiguousNameError,
    NotTrainableError,
    TiedParameterError,
    UnknownNameError,
)
from neuroparam.given import why_unfit
from neuroparam.libraries import Known, Refused, is_catalogued, known
from neuroparam.names import Name, is_pattern, matches, specificity
from neuroparam.quantities import Quantity
from neuroparam.records import fields_of, is_record, neuron_at

__all__ = ["Kind", "Place", "candidates", "find_places", "survey"]


_SCRIPTED = ("it lives in a ScriptModule", "Attach before torch.jit.script, or do not script.")


class Kind(enum.Enum):
    """How a value is stored."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    TENSOR = "tensor attribute"
    NUMBER = "number"
    ATTACHED = "attached"


@dataclass(frozen=True)
class Place:
    """One stored value.

    Attributes:
        path: dotted, from the module that was searched.
        owner: the module that holds it, or holds the record it is a field of.
        attribute: its name on the owner, or the record's.
        fields: the way within the record, empty outside records.
        neuron: the neuron module: the owner, or whoever holds the owner's record stand-in.
        kind: how it is stored.
        value: what is stored.
    """

    path: str
    owner: nn.Module
    attribute: str
    fields: tuple[str, ...]
    neuron: nn.Module
    kind: Kind
    value: Any

    @property
    def identity(self) -> tuple[int, str, tuple[str, ...]]:
        """The same for two paths to one place."""
        return id(self.owner), self.attribute, self.fields

    @property
    def field(self) -> str:
        """The last part of the path."""
        return self.fields[-1] if self.fields else self.attribute

    @cached_property
    def known(self) -> Known | Refused | None:
        """What the catalogue says of it."""
        return known(self.neuron, self.field)


def find_places(module: nn.Module, names: Iterable[Name]) -> list[tuple[Name, Place]]:
    """The places that the names mean, each with the name that counts for it.

    Args:
        module: where to search.
        names: each a dotted path, the end of one that fits a single place, a pattern, which
            may fit many, or a quantity, which fits all places that store it. Where several fit
            one place, the most specific one counts.

    Raises:
        UnknownNameError: some names match nothing (all of them are listed).
        AmbiguousNameError: a short name fits several places, or several names fit one place
            equally well.
        NotTrainableError: a name means something that cannot be trained.
        AlreadyTrainableError: a place is parametrized already.
        TiedParameterError: a place holds a Parameter that other places hold too.
    """
    places = list(survey(module))
    by_path = {place.path: place for place in places}
    claims: dict[object, tuple[Place, list[Name]]] = {}
    missing: dict[str, list[str]] = {}
    for name in names:
        if isinstance(name, Quantity):
            found = _by_quantity(places, name)
        elif is_pattern(name):
            found = _by_pattern(places, name)
        elif name in by_path:
            found = [by_path[name]]
        else:
            # an attribute of that very name comes before a longer path that ends in it
            _refuse_if_present(module, name, places)
            found = _by_ending(places, name)
        if not found:
            missing[str(name)] = [] if isinstance(name, Quantity) else _near(name, places)
        for place in found:
            claims.setdefault(place.identity, (place, []))[1].append(name)
    if missing:
        raise UnknownNameError(
            f"{type(module).__name__} has no value named",
            missing,
            [p.path for p in _offered(places)],
        )
    chosen = [(_most_specific(claimed, place), place) for place, claimed in claims.values()]
    holders: dict[int, dict[object, str]] = {}
    for place in reversed(places):
        if place.kind is Kind.PARAMETER:
            holders.setdefault(id(place.value), {})[place.identity] = place.path
    for _, place in chosen:
        _refuse_if_unfit(place)
        tied = holders.get(id(place.value), {})
        if len(tied) > 1:
            raise TiedParameterError(place.path, sorted(tied.values()))
    return chosen


def _most_specific(names: list[Name], place: Place) -> Name:
    best = max(map(specificity, names))
    # two plain names of different length say the same: neither counts before the other
    chosen = [name for name in names if specificity(name) == best or _is_plain(name)]
    if len(chosen) > 1:
        raise AmbiguousNameError(
            place.path, [str(name) for name in chosen], "is named more than once; name it by one of"
        )
    return chosen[0]


def _is_plain(name: Name) -> bool:
    return isinstance(name, str) and not is_pattern(name)


def candidates(module: nn.Module) -> list[Place]:
    """Every place worth training: what the catalogue knows, and what it cannot know of.

    In a module of a library that is in the catalogue, that is what the catalogue lists; in any
    other module, every floating-point number and vector. Sizes, states and the weights of
    torch's own layers are left out.
    """
    found = {p.identity: p for p in reversed(list(survey(module))) if _is_candidate(p)}
    return list(reversed(found.values()))


def _is_candidate(place: Place) -> bool:
    if place.kind is Kind.ATTACHED:
        return isinstance(place.value, NeuronParameter)
    if _why_unfit(place) is not None:
        return False
    if place.known is not None or is_catalogued(place.neuron):
        return place.known is not None
    if place.attribute.startswith("_") or type(place.owner).__module__.startswith("torch."):
        return False
    if isinstance(place.value, Tensor):
        return place.value.is_floating_point() and place.value.ndim <= 1
    return isinstance(place.value, float)


def survey(module: nn.Module) -> Iterator[Place]:
    """Every number and tensor stored in a module and below it."""
    refuse_non_module(module)
    # not module.named_modules: a library may have another method of that name
    modules = dict(nn.Module.named_modules(module, remove_duplicate=False))
    for prefix, owner in modules.items():
        if "parametrizations" in prefix.split("."):
            continue
        neuron = neuron_at(modules, prefix)
        start = f"{prefix}." if prefix else ""

        def place(
            attribute: str,
            kind: Kind,
            value: Any,
            fields: tuple[str, ...] = (),
            start: str = start,
            owner: nn.Module = owner,
            neuron: nn.Module = neuron,
        ) -> Place:
            path = start + ".".join((attribute, *fields))
            return Place(path, owner, attribute, fields, neuron, kind, value)

        for name, parameter in _own(owner._parameters):
            yield place(name, Kind.PARAMETER, parameter)
        for name, buffer in _own(owner._buffers):
            yield place(name, Kind.BUFFER, buffer)
        parametrizations = dict(owner.named_children()).get("parametrizations")
        if isinstance(parametrizations, nn.ModuleDict):
            for name, parametrization in parametrizations.items():
                yield place(name, Kind.ATTACHED, parametrization)
        for name, value in owner.__dict__.items():
            if is_record(value):
                for fields, field in _fields(value):
                    yield place(name, _kind(field), field, fields)
            elif _is_value(value):
                yield place(name, _kind(value), value)


def _own(tensors: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in tensors.items() if tensor is not None)


def _fields(record: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in fields_of(record).items():
        if is_record(value):
            for inner, field in _fields(value):
                yield (name, *inner), field
        elif _is_value(value):
            yield (name,), value


def _is_value(value: Any) -> bool:
    return isinstance(value, (Tensor, float, int)) and not isinstance(value, bool)


def _kind(value: Any) -> Kind:
    if isinstance(value, nn.Parameter):
        return Kind.PARAMETER
    return Kind.TENSOR if isinstance(value, Tensor) else Kind.NUMBER


def _offered(places: list[Place]) -> list[Place]:
    """What is worth suggesting: values of neurons first, large weights last, no sizes."""
    named = [
        p
        for p in places
        if p.kind is not Kind.ATTACHED
        and not (isinstance(p.value, int) or p.attribute.startswith("_"))
        and _why_unfit(p) is None
    ]

    def last(place: Place) -> tuple[bool, bool]:
        is_matrix = isinstance(place.value, Tensor) and place.value.ndim > 1
        return not _is_candidate(place), is_matrix

    return sorted(named, key=last)


def _by_quantity(places: list[Place], quantity: Quantity) -> list[Place]:
    fitting = {
        p.identity: p
        for p in reversed(places)
        if p.known is not None and p.known.quantity is quantity
    }
    return list(reversed(fitting.values()))


def _by_pattern(places: list[Place], pattern: str) -> list[Place]:
    fitting = {p.identity: p for p in reversed(places) if matches(p.path, pattern)}
    return list(reversed(fitting.values()))


def _by_ending(places: list[Place], name: str) -> list[Place]:
    fitting = _by_pattern(places, name)
    if len(fitting) > 1:
        raise AmbiguousNameError(name, sorted(p.path for p in fitting))
    return fitting


def _near(name: str, places: list[Place]) -> list[str]:
    ends = {p.path: p.path for p in reversed(places)} | {p.field: p.path for p in reversed(places)}
    near = difflib.get_close_matches(name, ends, n=3)
    near += difflib.get_close_matches(name.rpartition(".")[2], ends, n=3)
    return list(dict.fromkeys(ends[match] for match in near))[:3]


def _refuse_if_present(module: nn.Module, name: str, places: list[Place]) -> None:
    """Says why a name that does mean something has no place to train."""
    prefix, _, attribute = name.rpartition(".")
    owner: Any = module
    value: Any = None
    try:
        for part in prefix.split(".") if prefix else ():
            owner = getattr(owner, part, None)
        value = getattr(owner, attribute, None)
    except Exception:  # a property may do anything; then there is nothing to say of its value
        pass
    if not (isinstance(owner, nn.Module) or is_record(owner)):
        return  # the name goes on beyond a number, a list or a function
    if any(p.value is value and matches(p.path, name) for p in places):
        return  # a wrapper, such as torch.compile's, passes on what it wraps
    on_class = getattr(type(owner), attribute, None)
    paths = [place.path for place in places]
    beside = f"{prefix}." if prefix else ""
    stored = [p for p in paths if p.startswith(f"{name}.")]
    stored = stored or [p for p in paths if p.startswith(beside) and "." not in p[len(beside) :]]
    instead = f"Name a stored value instead: {', '.join(stored[:12]) or 'there is none'}."
    if isinstance(owner, torch.jit.ScriptModule) and value is not None:
        raise NotTrainableError(name, *_SCRIPTED)
    if isinstance(owner, nn.Module) and hasattr(type(on_class), "__set__"):
        raise NotTrainableError(
            name, f"it is a property of {type(owner).__name__}, computed from other values", instead
        )
    if isinstance(owner, nn.Module) and value is None:
        if any(attribute in store for store in (owner.__dict__, owner._parameters, owner._buffers)):
            raise NotTrainableError(
                name, "it is None", "Give it a number first, or build the module with it."
            )
    if value is None:
        return
    if isinstance(value, nn.Module):
        raise NotTrainableError(name, "it is a module", instead)
    if is_record(value):
        raise NotTrainableError(name, "it is a whole record", instead)
    if on_class is not None and _is_value(on_class):
        raise NotTrainableError(
            name,
            f"it is an attribute of the class {type(owner).__name__}, shared by all instances",
            f"Store it on the instance first: module.{name} = {on_class!r}.",
        )
    if _is_value(value):
        raise NotTrainableError(
            name, "it is computed when read (a virtual attribute), stored nowhere", instead
        )
    raise NotTrainableError(name, f"it is a {type(value).__name__}, not a number", instead)


def _refuse_if_unfit(place: Place) -> None:
    value = place.value
    if place.kind is Kind.ATTACHED:
        maps = ", ".join(repr(m) for m in value)
        whose = maps if isinstance(value, NeuronParameter) else f"torch ({maps})"
        raise AlreadyTrainableError(place.path, whose)
    problem = _why_unfit(place)
    if problem is not None:
        raise NotTrainableError(place.path, *problem)


def _why_unfit(place: Place) -> tuple[str, str] | None:
    """Why a value that is not attached cannot be, and what to do; None if it can."""
    if isinstance(place.owner, torch.jit.ScriptModule):
        return _SCRIPTED
    if isinstance(place.known, Refused):
        return place.known.reason, place.known.instead
    if not isinstance(getattr(place.owner, "parametrizations", nn.ModuleDict()), nn.ModuleDict):
        return (
            "its module has an attribute `parametrizations` of its own, which torch needs",
            "Rename that attribute.",
        )
    if place.fields and callable(place.owner.__dict__.get(place.attribute)):
        return (
            "it belongs to an object that is called, not to a record of parameters",
            "Store it on the module.",
        )
    if isinstance(getattr(type(place.owner), place.attribute, None), property):
        return (
            f"a property of {type(place.owner).__name__} hides the stored value, which the "
            f"forward never reads",
            "Name the value that the property returns.",
        )
    if not isinstance(place.value, Tensor):
        return None
    if (problem := why_unfit(place.value)) is not None:
        return problem[0], f"{problem[1].capitalize()}."
    if place.value.grad_fn is not None:
        return "it is computed from other tensors", "Attach to the tensor that it is computed from."
    return None
