"""The catalogue: what is known of each SNN library, without importing any of them."""

from __future__ import annotations

from torch import nn

from neuroparam.libraries import norse
from neuroparam.parametrizations import ExpScaledLog, Parametrization

__all__ = ["default_parametrization"]

_RULES = (*norse.RULES,)


def default_parametrization(neuron: nn.Module, field: str) -> Parametrization:
    """The parametrization for a parameter that the user only named.

    Args:
        neuron: the neuron module.
        field: the last part of the parameter's path.
    """
    for rule in _RULES:
        if rule.applies(neuron, field):
            found = rule.default(neuron)
            if found is not None:
                return found
    return ExpScaledLog()
