"""Where a value is in the network that the user runs, for messages."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeGuard

from torch import nn

__all__ = ["Located", "paths_in_networks"]

# Modules that wrap a whole network: its paths are those of the network inside.
_WRAPPERS = ("torch.nn.parallel", "torch.distributed", "torch.optim", "torch._dynamo")


class Located(Protocol):
    """A value, which is a module, with the path at which it was attached."""

    path: str


def paths_in_networks(values: Iterable[Located]) -> list[str]:
    """The path of each value, from the outermost module that holds it.

    A value may have been attached to a layer before the layer became a part of the network, and
    a module does not know which modules hold it. The garbage collector does. To ask it takes
    about a tenth of a second, which is spent for messages only.
    """
    wanted = list(values)
    found: dict[int, str] = {}
    for value in wanted:
        if id(value) not in found:
            found[id(value)] = value.path  # if nothing holds it
            found |= _paths_below(_outermost(value), {id(each) for each in wanted})
    # A holder that the garbage collector does not show leaves the path that was given.
    return [
        value.path if value.path.endswith(found[id(value)]) else found[id(value)]
        for value in wanted
    ]


def _paths_below(network: Any, values: set[int]) -> dict[int, str]:
    """The first path of each of some values in a network."""
    found: dict[int, str] = {}
    for path, part in nn.Module.named_modules(network):
        if id(part) in values:
            owner, _, name = path.rpartition(".")
            prefix = owner.rpartition("parametrizations")[0]
            found[id(part)] = f"{prefix}{name}"
    return found


def _outermost(part: Any) -> Any:
    """The module above a module that no other one holds."""
    seen: list[Any] = []
    while part is not None and not any(part is each for each in seen):
        seen.append(part)
        part = next(_holders(part), None)
    return seen[-1]


def _holders(part: object) -> Iterator[nn.Module]:
    """The modules that have a module as a child, without wrappers of a whole network."""
    for children in gc.get_referrers(part):
        if not isinstance(children, dict) or not _is_children(children):
            continue
        for holder in gc.get_referrers(children):
            # A module holds the dictionary of its children in its own, `__dict__`.
            modules = gc.get_referrers(holder) if isinstance(holder, dict) else [holder]
            for module in modules:
                if _is_module(module) and module.__dict__.get("_modules") is children:
                    if not type(module).__module__.startswith(_WRAPPERS):
                        yield module


def _is_module(thing: object) -> TypeGuard[nn.Module]:
    # `isinstance` would ask an object for its `__class__`, which may run code of its own.
    return issubclass(type(thing), nn.Module)


def _is_children(store: dict[Any, Any]) -> bool:
    """Whether a dictionary may be the `_modules` of a module."""
    return all(each is None or _is_module(each) for each in list(store.values()))
