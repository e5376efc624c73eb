"""Where a value is in the network that the user runs, for messages."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from typing import Any, Protocol, TypeGuard

from torch import nn

__all__ = ["Located", "paths_in_networks"]

# Modules that wrap a whole network: its paths are those of the network inside.
_WRAPPERS = ("torch.nn.parallel", "torch.distributed", "torch.optim", "torch._dynamo")


class Located(Protocol):
    """A value, which is a module, with the path at which it was attached.

    Attributes:
        path: from the module that was given to `make_trainable`.
        root: that module, or another one above the value; None in a copy.
    """

    path: str
    root: weakref.ref[nn.Module] | None


def paths_in_networks(values: Iterable[Located]) -> list[str]:
    """The path of each value, from the outermost module that holds it.

    A value may have been attached to a layer before the layer became a part of the network, and
    a module does not know which modules hold it. The garbage collector does. To ask it takes
    some tens of milliseconds, which are spent for messages only.
    """
    wanted = list(values)
    found: dict[int, str] = {}
    for value in wanted:
        if id(value) not in found:
            root: Any = None if value.root is None else value.root()
            if root is None or id(value) not in _paths_below(root, [value]):
                root = _outermost(value)
                value.root = weakref.ref(root)
            network = _outermost(root)
            found[id(value)] = value.path  # if nothing holds it
            found |= _paths_below(network, wanted)
    # A holder that the garbage collector does not show leaves the path that was given.
    return [
        value.path if value.path.endswith(found[id(value)]) else found[id(value)]
        for value in wanted
    ]


def _paths_below(network: Any, values: Iterable[Located]) -> dict[int, str]:
    """The first path of each of some values in a network."""
    wanted = {id(value) for value in values}
    found: dict[int, str] = {}
    for path, part in nn.Module.named_modules(network):
        if id(part) in wanted:
            owner, _, name = path.rpartition(".")
            prefix = owner.rpartition("parametrizations")[0]
            found[id(part)] = f"{prefix}{name}"
    return found


def _outermost(part: Any) -> Any:
    """The module above a module that no other one holds."""
    passed = [part]
    while True:
        holder = _holder(passed[-1])
        if holder is None or any(holder is each for each in passed):
            return passed[-1]
        passed.append(holder)


def _holder(part: object) -> nn.Module | None:
    """A module that has a module as a child, and is no wrapper of a whole network."""
    stores = [
        children
        for children in gc.get_referrers(part)
        if isinstance(children, dict) and all(_may_be_child(each) for each in [*children.values()])
    ]
    if not stores:
        return None
    # A module holds the dictionary of its children in its own, `__dict__`. Where Python keeps the
    # attributes of an object within the object, as from 3.13 on, that is left out.
    holders = gc.get_referrers(*stores)
    attributes = [each for each in holders if isinstance(each, dict)]
    above = gc.get_referrers(*attributes) if attributes else []
    for module in (*holders, *above):
        if _is_module(module) and any(_children_of(module) is store for store in stores):
            if not type(module).__module__.startswith(_WRAPPERS):
                return module
    return None


def _children_of(module: nn.Module) -> Any:
    return module.__dict__.get("_modules")


def _is_module(thing: object) -> TypeGuard[nn.Module]:
    # `isinstance` would ask an object for its `__class__`, which may run code of its own.
    return issubclass(type(thing), nn.Module)


def _may_be_child(thing: object) -> bool:
    return thing is None or _is_module(thing)
