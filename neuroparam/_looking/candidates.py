"""find: what could be trained in a module, and what is trained already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._attaching.survey import candidates, left_out
from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.torch_state import whole
from neuroparam._looking.text import Table, frame_of, span
from neuroparam._value.parameter import NeuronParameter, in_words
from neuroparam._value.place import Place

__all__ = ["Candidate", "Candidates", "find"]


@dataclass(frozen=True)
class Candidate:
    """One value that could be trained, or is.

    Attributes:
        path: its name for `make_trainable`.
        storage: how the module stores it: "parameter", "buffer", "tensor attribute", "number",
            or "attached".
        value: the present value; a copy without gradient.
        meaning: what it is, where the catalogue knows.
        unit: the unit in which the module stores it, where the catalogue knows.
        quantity: the physical quantity that it is, where the catalogue knows.
        parametrization: the one that it has, or gets if it is named without one; None if it
            can be given none.
        why: why it gets this one, or why it is not offered; empty where the catalogue knows.
    """

    path: str
    storage: str
    value: Tensor
    meaning: str
    unit: str
    quantity: Quantity | None
    parametrization: nn.Module | None
    why: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(self.value.shape)


class Candidates(list[Candidate]):
    """A list of candidates that prints as a table, and which a notebook shows as HTML.

    Attributes:
        not_offered: what looks like a number to train and is none: states, the time step,
            dropout, constants of surrogate gradients, and what the catalogue refuses. The field
            `why` has the reason. They are printed below the others.
    """

    def __init__(self, found: Iterable[Candidate] = (), not_offered: Iterable[Candidate] = ()):
        super().__init__(found)
        self.not_offered: list[Candidate] = list(not_offered)

    def _tables(self) -> list[Table]:
        header = ("name", "storage", "shape", "value", "unit", "meaning", "gets", "why")
        offered = [
            (*_first_cells(c), c.unit, c.meaning, _in_words(c.parametrization), c.why) for c in self
        ]
        others = [(*_first_cells(c), c.why) for c in self.not_offered]
        below = [Table((*header[:4], "not offered, because"), others)] if others else []
        return [Table(header, offered, "nothing that could be trained was found"), *below]

    def __str__(self) -> str:
        return "\n\n".join(self._tables())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self._tables())

    def to_frame(self) -> Any:
        """All of them as a `pandas.DataFrame`, with a column `offered`.

        Raises:
            ImportError: pandas is not installed.
        """
        offered = [vars(each) | {"offered": True} for each in self]
        others = [vars(each) | {"offered": False} for each in self.not_offered]
        return frame_of(Candidate, offered + others, "offered")


def _first_cells(candidate: Candidate) -> tuple[str, str, str, str]:
    shape, value = str(candidate.shape), span(candidate.value)
    return candidate.path, candidate.storage, shape, value


def _in_words(parametrization: nn.Module | None) -> str:
    if isinstance(parametrization, NeuronParameter):
        return in_words(parametrization)
    return "" if parametrization is None else repr(parametrization)


def find(module: nn.Module) -> Candidates:
    """What could be trained in a module, and what is trained already.

    Of a module of a library in the catalogue, these are the parameters that the catalogue knows
    to train. Of any other module, they are what is named like a time constant, a decay or a
    threshold, and after these the floating-point numbers and vectors of which the name says
    nothing. What is named like a state, a time step and so on comes last, with the reason why it
    is not offered; `make_trainable` takes it nevertheless.

    Args:
        module: a module or a whole network.

    Returns:
        A list of `Candidate`, which prints as a table, with what is not offered as
        `.not_offered`.

    Raises:
        UnsupportedModuleError: it is no module.
        EvaluationError: a map of the user's raises AttributeError.

    Examples:
        >>> import torch
        >>> from neuroparam import find
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tau, self.threshold = 20.0, torch.ones(3)
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), Leaky())
        >>> for found in find(net):
        ...     print(found.path, found.shape, found.parametrization, found.why)
        1.tau () ExpScaledLog(scale=1, reference=None) named like a time constant
        1.threshold (3,) Softplus(lower=0, scale=None) named like a threshold
    """
    return Candidates(
        (_offered(place) for place in candidates(module)),
        (_candidate(place, None, why) for place, why in left_out(module)),
    )


def _offered(place: Place) -> Candidate:
    if isinstance(place.value, NeuronParameter):
        return _candidate(place, place.value, "")
    row = place.trains
    default = place.default if row or place.hint.default else None
    return _candidate(place, default, "" if row else place.hint.why)


def _candidate(place: Place, parametrization: nn.Module | None, why: str) -> Candidate:
    value = place.value
    with torch.no_grad():
        value = value() if isinstance(value, nn.Module) else torch.as_tensor(value)
        value = whole(value)
    row = place.trains
    return Candidate(
        path=place.path,
        storage=place.kind.value,
        value=value.detach().clone(),
        meaning=row.meaning if row else "",
        unit=row.unit if row else "",
        quantity=row.quantity if row else None,
        parametrization=parametrization,
        why=why,
    )
