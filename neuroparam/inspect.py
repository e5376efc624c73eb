"""Looking at what is trained: values, tables, optimizer groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam.attachment import Attached, NeuronParameter, attached
from neuroparam.errors import InvalidArgumentError, TimeStepError
from neuroparam.given import number
from neuroparam.libraries import Known
from neuroparam.parametrizations import Parametrization
from neuroparam.places import candidates
from neuroparam.quantities import Quantity
from neuroparam.sharding import whole
from neuroparam.steps import time_step, unit_of
from neuroparam.units import WithStep

__all__ = [
    "Candidate",
    "Candidates",
    "find",
    "neuron_parameters",
    "param_groups",
    "summary",
    "values",
]


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
        rows = [(c.path, c.storage, str(c.shape), _span(c.value), c.unit, c.meaning) for c in self]
        return _table(("name", "storage", "shape", "value", "unit", "meaning"), rows)

    __repr__ = __str__


def find(module: nn.Module) -> Candidates:
    """What could be trained in a module, and what is trained already.

    Of a module of a library in the catalogue, these are the parameters that the catalogue knows
    to train; of any other module, every floating-point number and vector that it stores.

    Args:
        module: a module or a whole network.

    Returns:
        A list of `Candidate`, which prints as a table.

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
        rule = place.known if isinstance(place.known, Known) else None
        found.append(
            Candidate(
                path=place.path,
                storage=place.kind.value,
                value=value.detach().clone(),
                meaning=rule.meaning if rule else "",
                unit=rule.unit if rule else "",
                quantity=rule.quantity if rule else None,
            )
        )
    return found


def values(
    module: nn.Module, quantity: Quantity | None = None, *, dt: float | None = None
) -> dict[str, Tensor]:
    """The present values of all attached parameters, or of one quantity.

    Args:
        module: a module with attached parameters.
        quantity: only the values of this quantity, in its unit: time constants in seconds.
        dt: the time step of the simulation in seconds, needed for a quantity that was attached
            by its path in a library without a time step of its own.

    Returns:
        Path -> value, in the unit in which the module stores it or in that of the quantity; a
        copy without gradient.

    Raises:
        InvalidArgumentError: `quantity` is something else.
        TimeStepError: `dt` is needed, or contradicts the module's own.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> values(make_trainable(module, "tau"))
        {'tau': tensor(20.)}
    """
    if quantity is not None and not isinstance(quantity, Quantity):
        raise InvalidArgumentError("quantity", quantity, "a Quantity, such as Quantity.TAU_MEM")
    chosen = [a for a in attached(module) if quantity is None or a.quantity is quantity]
    if dt is not None:  # one that contradicts a module is wrong also where none is needed
        for a in chosen:
            time_step(a.path, a.neuron, dt)
    with torch.no_grad():
        return {
            a.path: (whole(a.parameter()) if quantity is None else _as_quantity(a, dt))
            .detach()
            .clone()
            for a in chosen
        }


def _as_quantity(a: Attached, dt: float | None) -> Tensor:
    """The value in the unit of its quantity."""
    assert a.known is not None
    link = a.parameter.unit
    if link is None:
        unit = unit_of(a.path, a.neuron, a.known, dt)
        value = whole(a.parameter())
        return value if unit is None else unit.right_inverse(value.double()).to(value.dtype)
    if dt is not None and isinstance(link, WithStep):
        if not math.isclose(link.dt, dt, rel_tol=1e-6):
            raise TimeStepError(a.path, f"it is attached with {link!r}, and dt={dt!r} was given.")
    return whole(a.parameter.physical())


def neuron_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The raw Parameters of all attached values, for an optimizer.

    Args:
        module: a module with attached parameters.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> neuron_parameters(make_trainable(module, "tau"))
        [Parameter containing:
        tensor(0., requires_grad=True)]
    """
    return [a.parameter.raw for a in attached(module)]


def param_groups(
    module: nn.Module,
    lr: float,
    neuron_lr: float | None = None,
    *,
    weight_decay: float = 0.0,
    neuron_weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Two groups for a torch optimizer: the weights, and the neuron parameters.

    Args:
        module: a module with attached parameters.
        lr: learning rate of all other parameters.
        neuron_lr: learning rate of the raw neuron parameters; None: the same.
        weight_decay: of all other parameters.
        neuron_weight_decay: of the raw neuron parameters; it pulls each value to its
            parametrization's reference, not to zero.

    Returns:
        Groups that have parameters, each with `params`, `lr`, `weight_decay` and `name`.

    Raises:
        InvalidArgumentError: a learning rate or weight decay is no finite number >= 0.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> module = torch.nn.Linear(2, 2)
        >>> module.tau = 20.0
        >>> groups = param_groups(make_trainable(module, "tau"), lr=2e-3, neuron_lr=2e-2)
        >>> optimizer = torch.optim.Adam(groups)
        >>> [(group["name"], len(group["params"]), group["lr"]) for group in groups]
        [('weights', 2, 0.002), ('neuron parameters', 1, 0.02)]
    """
    rates = {
        "lr": lr,
        "neuron_lr": lr if neuron_lr is None else neuron_lr,
        "weight_decay": weight_decay,
        "neuron_weight_decay": neuron_weight_decay,
    }
    for argument, given in rates.items():
        found = number(given)
        if found is None or not 0 <= found < math.inf:
            raise InvalidArgumentError(argument, given, "a finite number >= 0, such as 1e-3")
    neuron = neuron_parameters(module)
    own = {id(parameter) for parameter in neuron}
    groups: list[dict[str, Any]] = [
        {
            "name": "weights",
            "params": [p for p in nn.Module.parameters(module) if id(p) not in own],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {
            "name": "neuron parameters",
            "params": neuron,
            "lr": rates["neuron_lr"],
            "weight_decay": neuron_weight_decay,
        },
    ]
    return [group for group in groups if group["params"]]


def summary(module: nn.Module) -> str:
    """A table of all attached values.

    Args:
        module: a module with attached parameters.

    Returns:
        A table with a line per value: path, parametrization, shape, minimum, median and
        maximum of the value and its unit, its domain, how many entries lie inside, and, where
        the time step is known, the time constant that it means. Columns with nothing to say
        are left out.

    Examples:
        >>> import torch
        >>> from neuroparam import ExpScaledLog, make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> print(summary(make_trainable(module, {"tau": ExpScaledLog()})))
        name  parametrization                        shape  min  median  max  domain    inside
        tau   ExpScaledLog(scale=1, reference=20)    ()      20      20   20  (0, inf)     1/1
    """
    present = values(module)
    rows = [_summarised(a, present[a.path]) for a in attached(module)]
    header = ("name", "parametrization", "shape", "min", "median", "max", "unit", "domain")
    return _table((*header, "inside", "time constant"), rows)


def _summarised(a: Attached, value: Tensor) -> tuple[str, ...]:
    last = a.parameter.last
    inside, domain = torch.isfinite(value), ""
    if isinstance(last, Parametrization):
        low, high = a.parameter.bounds
        domain = f"({low:g}, {high:g})"
        inside = ~last.outside(value)
    known_numbers = not value.is_meta
    return (
        a.path,
        " -> ".join(repr(link) for link in a.parameter),
        str(tuple(value.shape)),
        *(
            f"{s.item():.4g}" if known_numbers else ""
            for s in (value.min(), value.median(), value.max())
        ),
        a.known.unit if a.known else "",
        domain,
        f"{int(inside.sum())}/{value.numel()}" if known_numbers else "",
        _time_constant(a) if known_numbers else "",
    )


def _time_constant(a: Attached) -> str:
    """The time constant in ms, where it takes no time step that nobody has given."""
    if a.known is None or a.known.quantity not in (Quantity.TAU_MEM, Quantity.TAU_SYN):
        return ""
    try:
        with torch.no_grad():
            return f"{_span(_as_quantity(a, None) * 1e3)} ms"
    except TimeStepError:
        return ""


def _span(value: Tensor) -> str:
    """A value in a few characters: its only number, or the smallest and the largest."""
    if value.numel() == 0 or value.is_meta:
        return ""
    low, high = value.min().item(), value.max().item()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


_RIGHT = {"min", "median", "max", "inside", "value", "time constant"}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned text, without the columns in which nothing stands."""
    kept = [n for n in range(len(header)) if not rows or any(row[n] for row in rows)]
    lines = [[line[n] for n in kept] for line in (header, *rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(kept))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
