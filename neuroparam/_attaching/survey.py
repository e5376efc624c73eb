"""Everything that is stored in a module, as places, and which of them are worth training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from neuroparam._attaching.refusals import is_number, why_unfit
from neuroparam._catalogue.entries import Refused
from neuroparam._catalogue.registry import is_catalogued
from neuroparam._value.injected import parametrizations_of
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.place import Place, refuse_non_module
from neuroparam._value.records import fields_of, is_record, neuron_at
from neuroparam._value.storage import Kind, memories_of

__all__ = [
    "candidates",
    "each_once",
    "is_candidate",
    "is_mapped",
    "is_own",
    "left_out",
    "may_be_trained",
    "survey",
    "trains_now",
]


def survey(module: nn.Module) -> Iterator[Place]:
    """Every number and tensor stored in a module and below it.

    Raises:
        UnsupportedModuleError: it is no module.
    """
    refuse_non_module(module)
    # A library may have a method `named_modules` of its own.
    modules = dict(nn.Module.named_modules(module, remove_duplicate=False))
    for prefix, owner in modules.items():
        if "parametrizations" in prefix.split("."):
            continue
        neuron = neuron_at(modules, prefix)
        start = f"{prefix}." if prefix else ""
        for name, fields, kind, value in _stored_in(owner):
            path = start + ".".join((name, *fields))
            place = Place(path, owner, name, fields, neuron, kind, value)
            # Nearly all memories are states.
            if kind is not Kind.MEMORY or place.row is not None:
                yield place


def _stored_in(owner: nn.Module) -> Iterator[tuple[str, tuple[str, ...], Kind, Any]]:
    """What a module itself stores: attribute, way within a record, kind, and value."""
    stores = ((owner._parameters, Kind.PARAMETER), (owner._buffers, Kind.BUFFER))
    for store, kind in stores:
        for name, tensor in store.items():
            if tensor is not None:
                yield name, (), kind, tensor
    for name, parametrization in parametrizations_of(owner).items():
        yield name, (), Kind.ATTACHED, parametrization
    for name, value in memories_of(owner).items():
        if is_number(value):
            yield name, (), Kind.MEMORY, value
    for name, value in owner.__dict__.items():
        if is_record(value):
            for fields, field in _fields(value):
                yield name, fields, _kind(field), field
        elif is_number(value):
            yield name, (), _kind(value), value


def _fields(record: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in fields_of(record).items():
        if is_record(value):
            for inner, field in _fields(value):
                yield (name, *inner), field
        elif is_number(value):
            yield (name,), value


def _kind(value: Any) -> Kind:
    if isinstance(value, nn.Parameter):
        return Kind.PARAMETER
    return Kind.TENSOR if isinstance(value, Tensor) else Kind.NUMBER


def each_once(places: Iterable[Place]) -> list[Place]:
    """The places, each under its first path only."""
    found: dict[object, Place] = {}
    for place in places:
        found.setdefault(place.identity, place)
    return list(found.values())


def candidates(module: nn.Module) -> list[Place]:
    """Every place worth training, with what certainly is a neuron parameter first.

    In a module of a library that is in the catalogue, that is what the catalogue lists. In any
    other module, it is what is named like a neuron parameter, and then every floating-point
    number and vector of which the name says nothing. Sizes, states and the weights of torch's own
    layers are left out.
    """
    found = each_once(place for place in survey(module) if is_candidate(place))
    return sorted(found, key=lambda place: not _is_known(place))


def left_out(module: nn.Module) -> list[tuple[Place, str]]:
    """What looks like a number to train and is not among the candidates, and why."""
    places = each_once(place for place in survey(module) if not is_candidate(place))
    return [(place, why) for place in places if (why := _why_not_offered(place)) is not None]


def is_candidate(place: Place) -> bool:
    """Whether a place is worth training."""
    if place.kind is Kind.ATTACHED:
        return isinstance(place.value, NeuronParameter)
    if why_unfit(place) is not None:
        return False
    if place.row is not None or is_catalogued(place.neuron):
        return place.row is not None and not is_mapped(place)
    if not is_own(place) or place.hint.trains is False:
        return False
    return place.hint.trains is True or may_be_trained(place.value)


def trains_now(place: Place) -> bool:
    """Whether a value is attached, or a Parameter that trains by itself."""
    if place.kind is Kind.ATTACHED:
        return isinstance(place.value, NeuronParameter)
    return place.kind is Kind.PARAMETER and place.value.requires_grad


def is_mapped(place: Place) -> bool:
    """Whether the module is known to map the stored number itself, so that it needs no map."""
    return place.trains is not None and place.trains.mapped != ""


def _is_known(place: Place) -> bool:
    """Whether a candidate certainly is a neuron parameter."""
    return place.kind is Kind.ATTACHED or place.row is not None or place.hint.trains is True


def is_own(place: Place) -> bool:
    """Whether a value may be the user's: not private, and in no layer of torch."""
    is_of_torch = type(place.owner).__module__.startswith("torch.")
    return not (place.attribute.startswith("_") or is_of_torch)


def may_be_trained(value: Any) -> bool:
    """Whether a number, of which nothing is known, is no size and no matrix of weights."""
    if isinstance(value, Tensor):
        # One value for each neuron or channel has other sizes of 1: (1, n), (c, 1, 1).
        return value.is_floating_point() and value.numel() == max(value.shape, default=1)
    return not isinstance(value, Integral)


def _why_not_offered(place: Place) -> str | None:
    if place.kind is Kind.ATTACHED or isinstance(place.row, Refused):
        problem = why_unfit(place)
        return None if problem is None else problem[0]
    if is_mapped(place):
        row = place.trains
        assert row is not None
        return f"{row.mapped}: it trains as it is, or as {row.quantity!r}"
    if place.row is not None or is_catalogued(place.neuron) or not is_own(place):
        return None
    return place.hint.why if why_unfit(place) is None and place.hint.trains is False else None
