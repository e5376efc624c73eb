"""find: what could be trained in a module, and what is trained already."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuroparam._attaching.survey import candidates
from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.torch_state import whole
from neuroparam._looking.text import span, table
from neuroparam._value.parameter import NeuronParameter

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
    """

    path: str
    storage: str
    value: Tensor
    meaning: str
    unit: str
    quantity: Quantity | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(self.value.shape)


class Candidates(list[Candidate]):
    """A list of candidates that prints as a table."""

    def __str__(self) -> str:
        rows = [(c.path, c.storage, str(c.shape), span(c.value), c.unit, c.meaning) for c in self]
        return table(("name", "storage", "shape", "value", "unit", "meaning"), rows)

    __repr__ = __str__


def find(module: nn.Module) -> Candidates:
    """What could be trained in a module, and what is trained already.

    Of a module of a library in the catalogue, these are the parameters that the catalogue knows
    to train; of any other module, every floating-point number and vector that it stores.

    Args:
        module: a module or a whole network.

    Returns:
        A list of `Candidate`, which prints as a table.

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
        >>> print(find(torch.nn.Sequential(torch.nn.Linear(2, 3), Leaky())))
        name         storage           shape  value
        1.tau        number            ()        20
        1.threshold  tensor attribute  (3,)       1
    """
    found = Candidates()
    for place in candidates(module):
        value = place.value
        with torch.no_grad():
            value = value() if isinstance(value, NeuronParameter) else torch.as_tensor(value)
            value = whole(value)
        row = place.trains
        found.append(
            Candidate(
                path=place.path,
                storage=place.kind.value,
                value=value.detach().clone(),
                meaning=row.meaning if row else "",
                unit=row.unit if row else "",
                quantity=row.quantity if row else None,
            )
        )
    return found
