"""Names to places: which stored number or tensor of a module a name means."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from neuroparam.attachment import NeuronParameter
from neuroparam.errors import (
    AlreadyTrainableError,
    AmbiguousNameError,
    NotTrainableError,
    TiedParameterError,
    UnknownNameError,
)
from neuroparam.names import is_pattern, matches, specificity
from neuroparam.records import Record, fields_of, is_record

__all__ = ["Kind", "Place", "find_places"]


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


def find_places(module: nn.Module, names: Iterable[str]) -> list[tuple[str, Place]]:
    """The places that the names mean, each with the name that counts for it.

    Args:
        module: where to search.
        names: each a dotted path, the end of one that fits a single place, or a pattern, which
            may fit many. Where several fit one place, the most specific one counts.

    Raises:
        UnknownNameError: some names match nothing (all of them are listed).
        AmbiguousNameError: a short name fits several places, or several names fit one place
            equally well.
        NotTrainableError: a name means something that cannot be trained.
        AlreadyTrainableError: a place is parametrized already.
        TiedParameterError: a place holds a Parameter that other places hold too.
    """
    places = list(_survey(module))
    by_path = {place.path: place for place in places}
    claims: dict[object, tuple[Place, list[str]]] = {}
    missing: dict[str, list[str]] = {}
    for name in names:
        if is_pattern(name):
            found = _by_pattern(places, name)
        elif name in by_path:
            found = [by_path[name]]
        else:
            # an attribute of that very name comes before a longer path that ends in it
            _refuse_if_present(module, name, places)
            found = _by_ending(places, name)
        if not found:
            missing[name] = _near(name, places)
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


def _most_specific(names: list[str], place: Place) -> str:
    best = max(map(specificity, names))
    chosen = [name for name in names if specificity(name) == best or not is_pattern(name)]
    if len(chosen) > 1:
        raise AmbiguousNameError(place.path, chosen)
    return chosen[0]


def _survey(module: nn.Module) -> Iterator[Place]:
    """Every number and tensor stored in a module and below it."""
    modules = dict(module.named_modules(remove_duplicate=False))
    for prefix, owner in modules.items():
        if "parametrizations" in prefix.split("."):
            continue
        neuron, above = owner, prefix
        while isinstance(neuron, Record) and "." in above:
            above = above.rpartition(".")[0]
            neuron = modules[above]
        if isinstance(neuron, Record) and prefix:
            neuron = module
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

        for name, parameter in owner.named_parameters("", recurse=False, remove_duplicate=False):
            yield place(name, Kind.PARAMETER, parameter)
        for name, buffer in owner.named_buffers("", recurse=False, remove_duplicate=False):
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
    """What is worth suggesting: no sizes and counts, no large weights first."""
    floating = [
        p
        for p in places
        if p.kind is not Kind.ATTACHED
        and not (isinstance(p.value, int) or p.attribute.startswith("_"))
    ]
    return sorted(floating, key=lambda p: isinstance(p.value, Tensor) and p.value.ndim > 1)


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
    if isinstance(owner, nn.Module) and attribute in owner.__dict__ and value is None:
        raise NotTrainableError(name, "it is None", "Give it a number first.")
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
    if isinstance(place.owner, torch.jit.ScriptModule):
        raise NotTrainableError(place.path, *_SCRIPTED)
    if not isinstance(getattr(place.owner, "parametrizations", nn.ModuleDict()), nn.ModuleDict):
        raise NotTrainableError(
            place.path,
            "its module has an attribute `parametrizations` of its own, which torch needs",
            "Rename that attribute.",
        )
    if isinstance(getattr(type(place.owner), place.attribute, None), property):
        raise NotTrainableError(
            place.path,
            f"a property of {type(place.owner).__name__} hides the stored value, which the "
            f"forward never reads",
            "Name the value that the property returns.",
        )
    if not isinstance(value, Tensor):
        return
    problem = None
    if is_lazy(value):
        problem = "it is not initialised yet", "Run the module once first."
    elif value.is_complex() or value.dtype == torch.bool:
        problem = f"its dtype is {value.dtype}", "Parametrizations map real numbers."
    elif value.numel() == 0:
        problem = "it is empty", "Give it at least one value first."
    elif value.layout != torch.strided or value.is_quantized:
        problem = f"its layout is {value.layout}", "Store it as a dense tensor first."
    elif value.grad_fn is not None:
        problem = (
            "it is computed from other tensors",
            "Attach to the tensor that it is computed from.",
        )
    if problem is not None:
        raise NotTrainableError(place.path, *problem)
