"""The catalogue: what is known of each SNN library, without importing any of them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from neuroparam.libraries.norse import NORSE
from neuroparam.libraries.rockpool import ROCKPOOL
from neuroparam.libraries.rules import Known, Library, Refused, Wrapped, classes_of, fits
from neuroparam.libraries.sinabs import SINABS
from neuroparam.libraries.snntorch import SNNTORCH
from neuroparam.libraries.spikingjelly import SPIKINGJELLY
from neuroparam.parametrizations import ExpScaledLog, Parametrization

__all__ = [
    "LIBRARIES",
    "Known",
    "Refused",
    "default_parametrization",
    "is_catalogued",
    "known",
    "step_of",
    "wrapped",
]

LIBRARIES: tuple[Library, ...] = (NORSE, SNNTORCH, SPIKINGJELLY, SINABS, ROCKPOOL)


def _libraries_of(kind: type) -> Iterator[tuple[Library, list[str]]]:
    """The libraries that a class comes from, each with the names of its classes there."""
    for library in LIBRARIES:
        names = classes_of(library.package, kind)
        if names:
            yield library, names


def known(neuron: nn.Module, field: str) -> Known | Refused | None:
    """What the catalogue says of a parameter; None if nothing.

    Args:
        neuron: the neuron module, of one of the libraries or of a user's class derived from it.
        field: the last part of the parameter's path.
    """
    for library, names in _libraries_of(type(neuron)):
        for rule in library.rules:
            if fits((rule.field,), [field]) and fits(rule.modules, names):
                if isinstance(rule, Known) or rule.only_if(neuron):
                    return rule
    return None


def is_catalogued(neuron: nn.Module) -> bool:
    """Whether a module belongs to a library of the catalogue."""
    return any(True for _ in _libraries_of(type(neuron)))


def default_parametrization(neuron: nn.Module, field: str) -> Parametrization:
    """The parametrization for a parameter that the user only named.

    Args:
        neuron: the neuron module.
        field: the last part of the parameter's path.
    """
    rule = known(neuron, field)
    found = rule.default(neuron) if isinstance(rule, Known) else None
    return ExpScaledLog() if found is None else found


def step_of(neuron: nn.Module) -> float | None:
    """The time step in seconds that a neuron module integrates with, if it has one."""
    return next((library.dt(neuron) for library, _ in _libraries_of(type(neuron))), None)


def wrapped(plain: type) -> Wrapped:
    """What the class of an attached module must read, and do, differently.

    Args:
        plain: the module's own class.
    """
    for library, names in _libraries_of(plain):
        for change in library.wrapped:
            if fits(change.modules, names):
                return change
    return Wrapped(())
