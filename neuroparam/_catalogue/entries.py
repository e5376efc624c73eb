"""The words in which the catalogue describes an SNN library."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.base import Parametrization
from neuroparam._maps.time_constants import UnitMap

__all__ = [
    "PLAIN_CLASS",
    "Adapted",
    "Library",
    "Refused",
    "Trains",
    "any_matches",
    "classes_of",
    "plain_class",
    "store",
    "stored",
]

# The attribute of an injected class that names the module's own class.
PLAIN_CLASS = "_neuroparam_plain_class"


def _anything(neuron: nn.Module) -> bool:
    return True


def _no_step(neuron: nn.Module) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Trains:
    """A stored value that trains.

    Attributes:
        field: pattern of the attribute or record field, as in the shell (`tau_*`).
        meaning: what it is, in words.
        unit: the unit in which the module stores it; empty if it has none.
        default: builds the parametrization that keeps the module valid, for a neuron module;
            it returns None if it cannot.
        quantity: the physical quantity, if the value is one by itself.
        stored_as: the class of the unit map from the quantity's unit to the stored number, or a
            function from the time step in seconds to one; None if that is the same number.
        mapped: how the module itself maps the stored number, in words, where any number is valid
            for it. Then it trains as its quantity, behind `stored_as`, and not by its name.
        euler: whether it is a time constant that must exceed the time step, because the module
            integrates by forward Euler.
        modules: patterns of class names; a subclass counts.
        coupled: what ties it to another value of the module, in words. Then only maps within
            the bounds of `default` keep the module valid.
    """

    field: str
    meaning: str
    unit: str = ""
    default: Callable[[nn.Module], Parametrization | None]
    quantity: Quantity | None = None
    stored_as: type[UnitMap] | Callable[[float], UnitMap] | None = None
    mapped: str = ""
    euler: bool = False
    modules: tuple[str, ...] = ("*",)
    coupled: str = ""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A stored value that looks like a parameter and does not train.

    Attributes:
        field: pattern of the attribute or record field, as in the shell.
        reason: why it does not train.
        instead: what to do, as a sentence.
        modules: patterns of class names; a subclass counts.
        quantity: the physical quantity that a user would look for here.
        only_if: whether the entry applies to a neuron module.
    """

    field: str
    reason: str
    instead: str
    modules: tuple[str, ...] = ("*",)
    quantity: Quantity | None = None
    only_if: Callable[[nn.Module], bool] = _anything


# Python 3.13 adds the last three.
_IN_EVERY_CLASS = {
    *vars(type("Empty", (), {})),
    "__annotations__",
    "__qualname__",
    "__annotate__",
    "__firstlineno__",
    "__static_attributes__",
}


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What attached modules of a library must do differently, so that their values train.

    Attributes:
        members: a class whose properties, methods and constants take the place of the library's
            own, or a function from the library's class to such a class. They are copied into the
            class of each attached module, so they cannot use `super()`; `plain_class(self)` is
            the library's class.
        modules: patterns of class names; a subclass counts.
    """

    members: type | Callable[[type], type]
    modules: tuple[str, ...] = ("*",)

    def body(self, plain: type) -> dict[str, Any]:
        """The members for modules of a class, by name, without what every class has."""
        members = self.members if isinstance(self.members, type) else self.members(plain)
        return {n: m for n, m in vars(members).items() if n not in _IN_EVERY_CLASS}


@dataclass(frozen=True, kw_only=True)
class Library:
    """One SNN library.

    Attributes:
        package: its top-level package.
        rows: what is known of its values; the first row that fits counts.
        adapted: what attached modules do differently; the first entry that fits counts.
        time_step: the time step of a neuron module in seconds, None if it has none.
    """

    package: str
    rows: tuple[Trains | Refused, ...] = ()
    adapted: tuple[Adapted, ...] = ()
    time_step: Callable[[nn.Module], float | None] = _no_step


def classes_of(package: str, kind: type) -> list[str]:
    """The names of the classes of a package that a class is, or inherits from."""
    return [base.__name__ for base in kind.__mro__ if base.__module__.split(".")[0] == package]


def any_matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Whether any of the names matches any of the patterns."""
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


# What the members of an `Adapted` class need.


def plain_class(module: nn.Module) -> Any:
    """The library's own class of an attached module."""
    return getattr(type(module), PLAIN_CLASS)


def stored(module: nn.Module, name: str) -> Any:
    """What a module stores under a name that a property of its class hides.

    Raises:
        AttributeError: there is none.
    """
    places: dict[str, Any] = module._modules
    if name not in places:
        # torch.compile in torch 2.6 takes items of `module.__dict__` for the property itself.
        places = vars(module)
    if name not in places:
        raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")
    return places[name]


def store(module: nn.Module, name: str, value: Any) -> None:
    """Stores a value under a name that a property of the module's class hides."""
    module._modules.pop(name, None)
    module.__dict__[name] = value
