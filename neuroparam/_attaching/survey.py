"""Everything that is stored in a module, as places, and which of them are worth training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from neuroparam._attaching.refusals import is_number, why_unfit
from neuroparam._catalogue.registry import is_catalogued
from neuroparam._value.injected import parametrizations_of
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.place import Place, refuse_non_module
from neuroparam._value.records import fields_of, is_record, neuron_at
from neuroparam._value.storage import Kind

__all__ = ["candidates", "each_once", "is_candidate", "survey"]


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
            yield Place(path, owner, name, fields, neuron, kind, value)


def _stored_in(owner: nn.Module) -> Iterator[tuple[str, tuple[str, ...], Kind, Any]]:
    """What a module itself stores: attribute, way within a record, kind, and value."""
    stores = ((owner._parameters, Kind.PARAMETER), (owner._buffers, Kind.BUFFER))
    for store, kind in stores:
        for name, tensor in store.items():
            if tensor is not None:
                yield name, (), kind, tensor
    for name, parametrization in parametrizations_of(owner).items():
        yield name, (), Kind.ATTACHED, parametrization
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
    """Every place worth training: what the catalogue knows, and what it cannot know of.

    In a module of a library that is in the catalogue, that is what the catalogue lists; in any
    other module, every floating-point number and vector. Sizes, states and the weights of
    torch's own layers are left out.
    """
    return each_once(place for place in survey(module) if is_candidate(place))


def is_candidate(place: Place) -> bool:
    """Whether a place is worth training."""
    if place.kind is Kind.ATTACHED:
        return isinstance(place.value, NeuronParameter)
    if why_unfit(place) is not None:
        return False
    if place.row is not None or is_catalogued(place.neuron):
        return place.row is not None
    if place.attribute.startswith("_") or type(place.owner).__module__.startswith("torch."):
        return False
    if isinstance(place.value, Tensor):
        return place.value.is_floating_point() and place.value.ndim <= 1
    return not isinstance(place.value, Integral)
