"""Where a value is in the network that the user runs, for messages."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Protocol

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
    a module does not know which module holds it. So all modules that are alive are looked
    through, which takes a tenth of a second and is done for messages only.

    Where a module is held in several places, the one that was made first counts.
    """
    above: dict[int, tuple[str, nn.Module]] = {}
    for thing in gc.get_objects():
        # `isinstance` would ask objects for their `__class__`, which may run code of theirs.
        if issubclass(type(thing), nn.Module) and "_modules" in thing.__dict__:
            if not type(thing).__module__.startswith(_WRAPPERS):
                for name, part in thing.__dict__["_modules"].items():
                    above.setdefault(id(part), (name, thing))
    return [_path(value, above) for value in values]


def _path(value: Located, above: dict[int, tuple[str, nn.Module]]) -> str:
    names: list[str] = []
    part: object = value
    passed = set()
    while id(part) in above and id(part) not in passed:
        passed.add(id(part))
        name, part = above[id(part)]
        names.append(name)
    if "parametrizations" in names[1:2]:
        del names[1]
    found = ".".join(reversed(names))
    # A module that the garbage collector does not show leaves the path that was given.
    return value.path if value.path.endswith(found) else found
