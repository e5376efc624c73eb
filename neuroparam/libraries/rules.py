"""The words in which the catalogue describes an SNN library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from neuroparam.parametrizations import BoundedSigmoid, ExpScaledLog, Parametrization, Softplus
from neuroparam.quantities import Quantity
from neuroparam.units import Decay, UnitMap

__all__ = [
    "Known",
    "Library",
    "Refused",
    "Wrapped",
    "above_one_step",
    "between_zero_and_one",
    "classes_of",
    "decays",
    "fits",
    "own_step",
    "positive",
    "states",
    "threshold",
]


@dataclass(frozen=True)
class Known:
    """A parameter that trains.

    Attributes:
        field: pattern of the attribute or record field.
        meaning: what it is, in words.
        unit: the unit in which the module stores it.
        default: builds the parametrization that keeps the module valid; None if it cannot.
        quantity: the physical quantity, if it is one by itself.
        stored_as: the unit map from the quantity's unit to the stored number; None: the same.
        euler: a time constant that must exceed the time step, since the module integrates by
            forward Euler.
        modules: patterns of class names; a subclass counts.
        coupled: what ties it to another parameter of the module, if anything does: then only
            maps within the bounds of `default` keep the module valid.
    """

    field: str
    meaning: str
    unit: str
    default: Callable[[nn.Module], Parametrization | None]
    quantity: Quantity | None = None
    stored_as: type[UnitMap] | None = None
    euler: bool = False
    modules: tuple[str, ...] = ("*",)
    coupled: str = ""


@dataclass(frozen=True)
class Refused:
    """A stored value that looks like a parameter and does not train.

    Attributes:
        field: pattern of the attribute or record field.
        reason: why it does not train.
        instead: what to do.
        modules: patterns of class names; a subclass counts.
        quantity: the physical quantity that a user would look for here.
        only_if: whether it applies to this module.
    """

    field: str
    reason: str
    instead: str
    modules: tuple[str, ...] = ("*",)
    quantity: Quantity | None = None
    only_if: Callable[[nn.Module], bool] = lambda neuron: True


@dataclass(frozen=True)
class Wrapped:
    """What the class of an attached module must do differently, so that values train.

    Attributes:
        modules: patterns of class names; a subclass counts.
        attributes: attribute -> what to make of its value when the module reads it.
        methods: name -> method in place of the library's.
    """

    modules: tuple[str, ...]
    attributes: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    methods: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """One SNN library.

    Attributes:
        package: its top-level package.
        rules: what is known of its parameters; the first that fits counts.
        wrapped: changes of classes; the first that fits counts.
        dt: the time step of a module in seconds, None where the library has none.
    """

    package: str
    rules: tuple[Known | Refused, ...]
    wrapped: tuple[Wrapped, ...] = ()
    dt: Callable[[nn.Module], float | None] = lambda neuron: None


def classes_of(package: str, kind: type) -> list[str]:
    """The names of the classes of a package that a class is, or inherits from."""
    return [base.__name__ for base in kind.__mro__ if base.__module__.split(".")[0] == package]


def fits(patterns: tuple[str, ...], names: list[str]) -> bool:
    """Whether any of the names fits any of the patterns."""
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def positive(neuron: nn.Module) -> Parametrization:
    """Any positive value, on a logarithmic scale."""
    return ExpScaledLog()


def threshold(neuron: nn.Module) -> Parametrization:
    """A positive value that grows additively."""
    return Softplus()


def between_zero_and_one(neuron: nn.Module) -> Parametrization:
    """A decay factor per step."""
    return BoundedSigmoid(0.0, 1.0)


def above_one_step(neuron: nn.Module) -> Parametrization:
    """A time constant in steps, of a module that integrates by forward Euler."""
    return Softplus(lower=1.0)


def own_step(neuron: nn.Module) -> float | None:
    """The time step in seconds of a module that keeps one as `dt`."""
    dt = getattr(neuron, "dt", None)
    return float(dt) if dt else None


def decays(membrane: str, synaptic: str) -> tuple[Known, Known]:
    """The decay factors per step of a membrane and of a synapse, by their fields."""
    return (
        Known(
            membrane,
            "membrane decay per step",
            "",
            between_zero_and_one,
            Quantity.TAU_MEM,
            Decay,
        ),
        Known(
            synaptic,
            "synaptic decay per step",
            "",
            between_zero_and_one,
            Quantity.TAU_SYN,
            Decay,
        ),
    )


def states(*fields: str, modules: tuple[str, ...] = ("*",)) -> tuple[Refused, ...]:
    """What a module carries from step to step."""
    return tuple(
        Refused(
            name,
            "it is a state, which the module overwrites as it runs",
            "Name a time constant, a decay or a threshold.",
            modules,
        )
        for name in fields
    )
