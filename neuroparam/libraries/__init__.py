"""The catalogue: what is known of each SNN library, without importing any of them."""

from __future__ import annotations

from typing import Any

from torch import nn

from neuroparam.libraries.norse import NORSE
from neuroparam.libraries.rockpool import ROCKPOOL
from neuroparam.libraries.rules import Known, Library, Refused, classes_of, fits
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
    "wrapped_attributes",
]

LIBRARIES: tuple[Library, ...] = (NORSE, SNNTORCH, SPIKINGJELLY, SINABS, ROCKPOOL)


def known(neuron: nn.Module, field: str) -> Known | Refused | None:
    """What the catalogue says of a parameter; None if nothing.

    Args:
        neuron: the neuron module, of one of the libraries or of a user's class derived from it.
        field: the last part of the parameter's path.
    """
    for library in LIBRARIES:
        names = classes_of(library.package, type(neuron))
        if not names:
            continue
        for rule in library.rules:
            if fits((rule.field,), [field]) and fits(rule.modules, names):
                if isinstance(rule, Known) or rule.only_if(neuron):
                    return rule
    return None


def is_catalogued(neuron: nn.Module) -> bool:
    """Whether a module belongs to a library of the catalogue."""
    return any(classes_of(library.package, type(neuron)) for library in LIBRARIES)


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
    for library in LIBRARIES:
        if classes_of(library.package, type(neuron)):
            return library.dt(neuron)
    return None


def wrapped_attributes(plain: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the class of an attached module must read, and do, differently.

    Args:
        plain: the module's own class.

    Returns:
        Attribute -> what to make of its value, and name -> method.
    """
    for library in LIBRARIES:
        names = classes_of(library.package, plain)
        for wrapped in library.wrapped:
            if fits(wrapped.modules, names):
                return dict(wrapped.attributes), dict(wrapped.methods)
    return {}, {}
