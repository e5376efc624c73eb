"""Places: where a value is stored in a module, attached or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from neuroparam._catalogue.entries import Refused, Trains
from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.registry import row_of
from neuroparam._catalogue.words import Hint, hint_of
from neuroparam._ground.errors import UnsupportedModuleError
from neuroparam._ground.messages import describe
from neuroparam._maps.base import Parametrization
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._value.injected import parametrizations_of
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.records import neuron_at
from neuroparam._value.storage import Kind

__all__ = [
    "Place",
    "attached",
    "is_attached",
    "refuse_non_module",
    "refuse_scripted",
    "with_holders",
]


@dataclass(frozen=True)
class Place:
    """One stored value.

    Attributes:
        path: dotted, from the module that was searched.
        owner: the module that holds it, or holds the record it is a field of.
        attribute: its name on the owner, or the record's.
        fields: the way within the record; empty outside records, and where the record has a
            stand-in, which then is the owner.
        neuron: the neuron module: the owner, or whoever holds the owner's record stand-in.
        kind: how it is stored.
        value: what is stored: a number, a tensor, or the parametrization.
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

    @property
    def parameter(self) -> NeuronParameter:
        """The trainable value at an attached place."""
        assert isinstance(self.value, NeuronParameter)
        return self.value

    @cached_property
    def row(self) -> Trains | Refused | None:
        """What the catalogue says of it."""
        return row_of(self.neuron, self.field)

    @property
    def trains(self) -> Trains | None:
        """What the catalogue says of it, if it says that it trains."""
        return self.row if isinstance(self.row, Trains) else None

    @cached_property
    def hint(self) -> Hint:
        """What its name says of it. It must be a real number or tensor."""
        return hint_of(self.field, self.value, (type(self.owner).__name__, *self.path.split(".")))

    @property
    def default(self) -> Parametrization:
        """The parametrization that it gets if the user only names it."""
        if self.trains is not None:
            found = self.trains.default(self.neuron)
        else:
            found = None if self.hint.default is None else self.hint.default()
        return ExpScaledLog() if found is None else found

    @property
    def quantity(self) -> Quantity | None:
        """The physical quantity that it is, or that a user would look for here."""
        return None if self.row is None else self.row.quantity


def attached(module: nn.Module, *, every_path: bool = False) -> Iterator[Place]:
    """Every value attached anywhere in a module.

    Args:
        module: where to look.
        every_path: whether a value that is used in several places comes with each of its paths,
            as in a state dict, instead of the first one only.

    Raises:
        UnsupportedModuleError: it is no module.
    """
    refuse_non_module(module)
    modules = dict(nn.Module.named_modules(module, remove_duplicate=not every_path))
    for prefix, owner in modules.items():
        for name, parameter in parametrizations_of(owner).items():
            if isinstance(parameter, NeuronParameter):
                path = f"{prefix}.{name}" if prefix else name
                neuron = neuron_at(modules, prefix)
                yield Place(path, owner, name, (), neuron, Kind.ATTACHED, parameter)


def with_holders(module: nn.Module) -> Iterator[tuple[Place, list[nn.Module]]]:
    """Every attached value by each of its paths, with the modules that hold it.

    Returns:
        A place, and the modules from its owner up to the given one, which may be the same.
    """
    modules = dict(nn.Module.named_modules(module, remove_duplicate=False))
    for place in attached(module, every_path=True):
        names = place.path.split(".")[:-1]
        paths = (".".join(names[:length]) for length in range(len(names), -1, -1))
        yield place, [modules[path] for path in paths]


def is_attached(module: nn.Module) -> bool:
    """Whether any value in the module is attached."""
    return next(attached(module), None) is not None


def refuse_non_module(module: object) -> None:
    """Raises unless it is given a module.

    Raises:
        UnsupportedModuleError: it is something else, such as the class of a module.
    """
    if isinstance(module, type) or not isinstance(module, nn.Module):
        raise UnsupportedModuleError(
            f"module must be an instance of torch.nn.Module, got {describe(module)}."
        )


def refuse_scripted(module: object) -> None:
    """Raises unless it is given a module whose code can still be changed.

    Raises:
        UnsupportedModuleError: it is a ScriptModule, or no module.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModuleError(
            f"{type(module).__name__} is a ScriptModule, whose code is already compiled; attach "
            f"before torch.jit.script, or do not script."
        )
    refuse_non_module(module)
