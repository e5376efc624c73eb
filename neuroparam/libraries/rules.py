"""What a catalogue of an SNN library says about one kind of parameter."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from neuroparam.parametrizations import Parametrization

__all__ = ["Rule"]


class Rule(NamedTuple):
    """The right parametrization for a parameter of a library's neuron modules.

    Attributes:
        package: the library, by the name of its top-level package.
        field: pattern of the attribute or record field.
        default: builds the parametrization for a neuron module; None if it does not apply.
    """

    package: str
    field: str
    default: Callable[[nn.Module], Parametrization | None]

    def applies(self, neuron: nn.Module, field: str) -> bool:
        """Whether this rule speaks of `field` of a module, or of a user's subclass of one."""
        return fnmatchcase(field, self.field) and any(
            kind.__module__.split(".")[0] == self.package for kind in type(neuron).__mro__
        )
