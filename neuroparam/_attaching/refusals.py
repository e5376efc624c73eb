"""Why something that a user names cannot be trained, and what to name instead."""

from __future__ import annotations

from numbers import Real
from types import MemberDescriptorType
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._attaching.names import matches
from neuroparam._catalogue.entries import Refused
from neuroparam._ground.errors import NotTrainableError
from neuroparam._ground.real import why_not_real
from neuroparam._value.injected import own_class
from neuroparam._value.parameter import NeuronParameter, in_words
from neuroparam._value.place import Place
from neuroparam._value.records import Record, is_record
from neuroparam._value.storage import Kind

__all__ = ["is_number", "refuse_if_present", "refuse_if_unfit", "why_unfit"]

_SCRIPTED = ("it lives in a ScriptModule", "Attach before torch.jit.script, or do not script.")


def is_number(value: object) -> bool:
    """Whether a stored object is a number or a tensor, and no flag."""
    return isinstance(value, (Tensor, Real)) and not isinstance(value, bool)


def refuse_if_unfit(place: Place) -> None:
    """Raises if a place cannot be trained.

    Raises:
        NotTrainableError: with the reason, and what to do.
    """
    problem = why_unfit(place)
    if problem is not None:
        raise NotTrainableError(*problem)


def why_unfit(place: Place) -> tuple[str, str] | None:
    """Why a place cannot be trained, and what to do; None if it can."""
    if place.kind is Kind.ATTACHED:
        whose = in_words(place.value)
        if not isinstance(place.value, NeuronParameter):
            whose = f"torch ({whose})"
        return (
            f"it is already parametrized by {whose}",
            f"Assign to it to change its value, or call make_fixed(module, {place.path!r}) "
            f"(torch.nn.utils.parametrize.remove_parametrizations for another library's) before "
            f"attaching anew.",
        )
    if isinstance(place.owner, torch.jit.ScriptModule):
        return _SCRIPTED
    if isinstance(place.row, Refused):
        return place.row.reason, place.row.instead
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
    # The fields of a record's stand-in, and its place, are properties of this library's own.
    hides = isinstance(getattr(own_class(place.owner), place.attribute, None), property)
    if hides and not isinstance(place.owner, Record):
        return (
            f"a property of {type(place.owner).__name__} hides the stored value, which the "
            f"forward never reads",
            "Name the value that the property returns.",
        )
    if not isinstance(place.value, Tensor):
        return None
    if (problem := why_not_real(place.value)) is not None:
        return problem[0], f"{problem[1].capitalize()}."
    if place.value.grad_fn is not None:
        return "it is computed from other tensors", "Attach to the tensor that it is computed from."
    return None


def refuse_if_present(module: nn.Module, name: str, places: list[Place]) -> None:
    """Says why a name that does mean something has no place to train.

    Raises:
        NotTrainableError: the name means a property, a module, a record, a string, and so on.
    """
    prefix, _, attribute = name.rpartition(".")
    owner, value = _named(module, prefix, attribute)
    if not (isinstance(owner, nn.Module) or is_record(owner)):
        return  # The name goes on beyond a number, a list or a function.
    if any(place.value is value and matches(place.path, name) for place in places):
        return  # A wrapper, such as torch.compile's, passes on what it wraps.
    problem = _why_no_place(owner, attribute, value)
    if problem is not None:
        reason, instead = problem
        error = NotTrainableError(reason, instead or _stored_instead(name, prefix, places))
        raise error.at(name)


def _named(module: nn.Module, prefix: str, attribute: str) -> tuple[Any, Any]:
    """The object that a name means, behind its owner; None where there is nothing."""
    owner: Any = module
    value: Any = None
    try:
        for part in prefix.split(".") if prefix else ():
            owner = getattr(owner, part, None)
        value = getattr(owner, attribute, None)
    except Exception:  # A property may raise anything. Then nothing is known of its value.
        pass
    return owner, value


def _stored_instead(name: str, prefix: str, places: list[Place]) -> str:
    """What to name instead: values below the name, or beside it."""
    paths = [place.path for place in places]
    beside = f"{prefix}." if prefix else ""
    stored = [path for path in paths if path.startswith(f"{name}.")] or [
        path for path in paths if path.startswith(beside) and "." not in path[len(beside) :]
    ]
    return f"Name a stored value instead: {', '.join(stored[:12]) or 'there is none'}."


def _why_no_place(owner: Any, attribute: str, value: Any) -> tuple[str, str | None] | None:
    """Why an object cannot be trained, and what to do, None where stored values are named.

    Returns:
        None if there is no such object.
    """
    is_module = isinstance(owner, nn.Module)
    kind = type(owner).__name__
    on_class = getattr(type(owner), attribute, None)
    if isinstance(owner, torch.jit.ScriptModule) and value is not None:
        return _SCRIPTED
    if isinstance(value, nn.Module):
        return "it is a module", None
    if isinstance(on_class, MemberDescriptorType):
        return None  # It is in a slot, and not computed.
    if is_module and hasattr(type(on_class), "__set__"):
        return f"it is a property of {kind}, computed from other values", None
    if value is None:
        stores = (owner.__dict__, owner._parameters, owner._buffers) if is_module else ()
        if any(attribute in store for store in stores):
            return "it is None", "Give it a number first, or build the module with it."
        return None
    if is_record(value):
        return "it is a whole record", None
    if on_class is not None and is_number(on_class):
        return (
            f"it is an attribute of the class {kind}, shared by all instances",
            f"Store it on the instance first: module.{attribute} = {on_class!r}.",
        )
    if is_number(value):
        return "it is computed when read (a virtual attribute), stored nowhere", None
    if hasattr(value, "__array__"):
        stored = f"module.{attribute} = torch.as_tensor(module.{attribute})"
        return f"it is a {type(value).__name__}, not a tensor", f"Store it as one: {stored}."
    return f"it is a {type(value).__name__}, not a number", None
