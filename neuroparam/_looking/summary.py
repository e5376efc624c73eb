"""summary: one table of all trainable values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.errors import TimeStepError
from neuroparam._looking.text import Table, span
from neuroparam._looking.values import as_quantity, values
from neuroparam._maps.base import Parametrization
from neuroparam._value.parameter import in_words
from neuroparam._value.place import Place, attached

__all__ = ["summary"]


def summary(module: nn.Module) -> Table:
    """A table of all attached values.

    Args:
        module: a module with attached parameters.

    Returns:
        A table with a line per value: path, parametrization, shape, minimum, median and
        maximum of the value and its unit, its domain, how many entries lie inside, and, where
        the time step is known, the time constant that it means, and what is frozen. Columns
        with nothing to say are left out. It is a string, which a notebook shows as an HTML table,
        and its method `to_frame()` gives a `pandas.DataFrame`.

    Raises:
        UnsupportedModuleError: it is no module.
        EvaluationError: a map of the user's raises AttributeError.

    Examples:
        >>> import torch
        >>> from neuroparam import ExpScaledLog, make_trainable, summary
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> print(summary(make_trainable(module, {"tau": ExpScaledLog()})))
        name  parametrization                        shape  min  median  max  domain    inside
        tau   ExpScaledLog(scale=1, reference=20)    ()      20      20   20  (0, inf)     1/1
    """
    present = values(module)
    rows = [_summarised(place, present[place.path]) for place in attached(module)]
    header = ("name", "parametrization", "shape", "min", "median", "max", "unit", "domain")
    return Table((*header, "inside", "time constant", "trains"), rows)


def _summarised(place: Place, value: Tensor) -> tuple[Any, ...]:
    """The row of one value."""
    parameter, last = place.parameter, place.parameter.last_map
    inside, domain = torch.isfinite(value), ""
    if isinstance(last, Parametrization):
        low, high = parameter.bounds
        domain = f"({low:g}, {high:g})"
        inside = ~last.outside(value)
    has_numbers = not value.is_meta
    return (
        place.path,
        in_words(parameter),
        str(tuple(value.shape)),
        *(s.item() if has_numbers else None for s in (value.min(), value.median(), value.max())),
        place.trains.unit if place.trains else "",
        domain,
        f"{int(inside.sum())}/{value.numel()}" if has_numbers else "",
        _time_constant(place) if has_numbers else "",
        "" if parameter.raw.requires_grad else "frozen",
    )


def _time_constant(place: Place) -> str:
    """The time constant in ms, where it takes no time step that nobody has given."""
    if place.quantity not in (Quantity.TAU_MEM, Quantity.TAU_SYN):
        return ""
    try:
        with torch.no_grad():
            return f"{span(as_quantity(place, None) * 1e3)} ms"
    except TimeStepError:
        return ""
