"""Pictures of trained values. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["distributions"]

_BEFORE, _AFTER = "0.65", "#1f6fb4"


def distributions(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    *,
    rates_in_ms: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
    bins: int = 24,
) -> Figure:
    """Histograms of each value before and after training, one panel a value.

    Args:
        before: path -> values, as `neuroparam.values` gives them before training.
        after: the same after training; the same paths.
        rates_in_ms: paths whose values are rates in 1/s (Norse's `tau_*_inv`), to be shown as
            time constants in ms.
        labels: path -> label of the axis, with its unit. Default: the path, and the unit where
            `rates_in_ms` gives it.
        bins: number of bins over the range of both.

    Returns:
        A matplotlib figure; save it with `figure.savefig(...)`.

    Raises:
        ValueError: the two name different values, or none, or a value is not finite.

    Examples:
        >>> import torch
        >>> figure = distributions(
        ...     {"p.tau_mem_inv": torch.linspace(80.0, 120.0, 50)},
        ...     {"p.tau_mem_inv": torch.linspace(60.0, 200.0, 50)},
        ...     rates_in_ms=["p.tau_mem_inv"],
        ... )
        >>> figure.axes[0].get_xlabel()
        'p.tau_mem_inv, as time constant (ms)'
    """
    if not before or before.keys() != after.keys():
        raise ValueError(
            f"before and after must name the same values, got {sorted(before)} and {sorted(after)}."
        )
    unknown = set(rates_in_ms) - before.keys()
    if unknown:
        raise ValueError(f"rates_in_ms names {sorted(unknown)}, not among {sorted(before)}.")
    # not pyplot: a figure of its own leaves no global state behind and needs no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(before), 2.9), layout="constrained")
    panels = figure.subplots(1, len(before), squeeze=False)[0]
    for axes, path in zip(panels, before, strict=True):
        in_ms = path in rates_in_ms
        label = (labels or {}).get(path, f"{path}, as time constant (ms)" if in_ms else path)
        pair = [_numbers(side[path], path, in_ms) for side in (before, after)]
        _histograms(axes, pair[0], pair[1], label, bins)
    panels[0].set_ylabel("number of neurons")
    # beside the panels: inside it would cover bars
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False)
    return figure


def _numbers(value: Tensor, path: str, in_ms: bool) -> Tensor:
    numbers = value.detach().double().flatten().cpu()
    numbers = 1e3 / numbers if in_ms else numbers
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"{path!r} has values that are not finite.")
    return numbers


def _histograms(axes: Axes, before: Tensor, after: Tensor, label: str, bins: int) -> None:
    from matplotlib.ticker import MaxNLocator

    both = torch.cat([before, after])
    low, high = both.min().item(), both.max().item()
    if low == high:  # one constant: a bin around it
        low, high = low - 0.5 * abs(low or 1.0), high + 0.5 * abs(high or 1.0)
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64).tolist()
    axes.hist(before.tolist(), edges, color=_BEFORE, label="before training")
    axes.hist(
        after.tolist(), edges, histtype="step", color=_AFTER, linewidth=1.6, label="after training"
    )
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))  # it counts neurons
    axes.margins(x=0.02)
