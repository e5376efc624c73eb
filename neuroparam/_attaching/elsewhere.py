"""Numbers that a module keeps where no trainable value can take their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MemberDescriptorType
from typing import Any, NamedTuple

from torch import nn

from neuroparam._attaching.names import matches
from neuroparam._attaching.refusals import is_number
from neuroparam._ground.errors import NotTrainableError
from neuroparam._ground.torch_state import OF_EVERY_MODULE
from neuroparam._value.records import fields_of, is_record

__all__ = ["refuse_if_elsewhere"]

# Configurations are nested so deep at most, and other objects may refer to each other in circles.
_DEPTH = 4


class _Kept(NamedTuple):
    """A number that is kept elsewhere: its path as if it could be named, why not, what to do."""

    path: str
    reason: str
    instead: str


def refuse_if_elsewhere(module: nn.Module, name: str) -> None:
    """Says where a number is that a name means, if it is not where it could be trained.

    Raises:
        NotTrainableError: it is in a slot, a dict, a list, or an object that is no record, or in
            a module that is in one of these.
    """
    for path, owner in nn.Module.named_modules(module):
        for kept in _kept_by(path, owner):
            if matches(kept.path, name):
                raise NotTrainableError(kept.reason, kept.instead).at(kept.path)


def _kept_by(path: str, owner: nn.Module) -> Iterator[_Kept]:
    for name, value in _slots_of(owner).items():
        if is_number(value):
            reason = f"it is in a slot of {type(owner).__name__}, where nothing can take its place"
            yield _Kept(_joined(path, name), reason, "Take it out of `__slots__`.")
    for name, value in owner.__dict__.items():
        if name not in OF_EVERY_MODULE:
            yield from _inside(_joined(path, name), value, _DEPTH)


def _inside(path: str, holder: Any, depth: int) -> Iterator[_Kept]:
    """The numbers inside an object, by their paths."""
    what = f"in {path!r}, which is a {type(holder).__name__}"
    for name, value in _parts_of(holder).items() if depth else ():
        inner = _joined(path, name)
        if isinstance(value, nn.Module):
            kept = {**value._parameters, **value._buffers, **value.__dict__}
            reason = f"its module is {what}, where torch finds no modules"
            instead = "Make that an nn.ModuleList or an nn.ModuleDict."
            for of_module in kept:
                if is_number(kept[of_module]):
                    yield _Kept(_joined(inner, of_module), reason, instead)
        elif is_number(value) and not is_record(holder):
            reason = f"it is {what}, and only modules, NamedTuples and dataclasses can be changed"
            yield _Kept(inner, reason, "Store it on the module itself, or in a dataclass.")
        else:
            yield from _inside(inner, value, depth - 1)


def _parts_of(holder: Any) -> dict[str, Any]:
    if isinstance(holder, (type, str, bytes, nn.Module)) or is_number(holder) or callable(holder):
        return {}
    if is_record(holder):
        return fields_of(holder)
    if isinstance(holder, Mapping):
        return {str(key): value for key, value in holder.items()}
    if isinstance(holder, Sequence):
        return {str(index): value for index, value in enumerate(holder)}
    return _slots_of(holder) | getattr(holder, "__dict__", {})


def _slots_of(holder: object) -> dict[str, Any]:
    names = [
        name
        for base in type(holder).__mro__
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType)
        and not name.startswith("__")
        and hasattr(holder, name)
    ]
    return {name: getattr(holder, name) for name in names}


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
