"""summary: one table of all trainable values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._looking.text import Table, span
from neuroparam._looking.values import in_seconds, values
from neuroparam._maps.base import Parametrization
from neuroparam._value.parameter import in_words
from neuroparam._value.place import Place, attached

__all__ = ["summary"]


def summary(module: nn.Module, *, dt: float | None = None) -> Table:
    """A table of all attached values.

    Args:
        module: a module with attached parameters.
        dt: the time step in seconds, for time constants that were attached by their paths in a
            library without a time step of its own. None takes the one with which others of the
            network are attached.

    Returns:
        A table with a line per value: path, shape, minimum, median and maximum of the value and
        its unit, where the time step is known the time constant that it means, its domain and
        how many entries lie inside, what is frozen, and the parametrization. Columns with
        nothing to say are left out. It is a string, which a notebook shows as an HTML table,
        and its method `to_frame()` gives a `pandas.DataFrame`.

    Raises:
        UnsupportedModuleError: it is no module.
        EvaluationError: a map of the user's raises AttributeError.
        TimeStepError: `dt` contradicts a module's own.

    Examples:
        >>> import torch
        >>> from neuroparam import ExpScaledLog, make_trainable, summary
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> print(summary(make_trainable(module, {"tau": ExpScaledLog()})))
        name  shape  min  median  max  domain    inside  parametrization
        tau   ()      20      20   20  (0, inf)     1/1  ExpScaledLog(scale=1, reference=20)
    """
    present, seconds = values(module), in_seconds(module, dt)
    rows = [
        _summarised(place, present[place.path], seconds.get(place.path))
        for place in attached(module)
    ]
    numbers = ("shape", "min", "median", "max", "unit", "time constant", "domain", "inside")
    # The longest column comes last, so that a narrow window shows the others.
    header = ("name", *numbers, "trains", "parametrization")
    nothing = "nothing is attached; neuroparam.find(net) lists what could be"
    return Table(header, rows, nothing)


def _summarised(place: Place, value: Tensor, seconds: Tensor | None) -> tuple[Any, ...]:
    """The row of one value, which may be a time constant."""
    parameter, last = place.parameter, place.parameter.last_map
    inside, domain = torch.isfinite(value), ""
    if isinstance(last, Parametrization):
        low, high = parameter.bounds
        domain = f"({low:g}, {high:g})"
        inside = ~last.outside(value)
    has_numbers = not value.is_meta
    return (
        place.path,
        str(tuple(value.shape)),
        *(s.item() if has_numbers else None for s in (value.min(), value.median(), value.max())),
        place.trains.unit if place.trains else "",
        f"{span(seconds * 1e3)} ms" if has_numbers and seconds is not None else "",
        domain,
        f"{int(inside.sum())}/{value.numel()}" if has_numbers else "",
        "" if parameter.raw.requires_grad else "frozen",
        in_words(parameter),
    )
