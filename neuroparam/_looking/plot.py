"""Pictures of trained values. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._ground.real import why_not_real

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
        InvalidArgumentError: the two name different values, or none; a value is not finite;
            `rates_in_ms` or `labels` names others; or `bins` is no positive integer.

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
    paths = list(before) if isinstance(before, Mapping) else []
    if not paths:
        raise InvalidArgumentError(
            "before", before, "must be what neuroparam.values gives, and not empty"
        )
    if not isinstance(after, Mapping) or after.keys() != before.keys():
        raise InvalidArgumentError(
            "after", after, f"must be the values of the same paths as before, {paths}"
        )
    for argument, named in (("rates_in_ms", rates_in_ms), ("labels", labels or {})):
        if isinstance(named, str) or not all(path in paths for path in named):
            raise InvalidArgumentError(
                argument, named, f"must be about paths that before names, {paths}"
            )
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InvalidArgumentError("bins", bins, "must be a positive integer")
    # A figure that is not pyplot's leaves no global state behind and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(before), 2.9), layout="constrained")
    panels = figure.subplots(1, len(before), squeeze=False)[0]
    for axes, path in zip(panels, before, strict=True):
        in_ms = path in rates_in_ms
        label = (labels or {}).get(path, f"{path}, as time constant (ms)" if in_ms else path)
        pair = [_numbers(side[path], path, in_ms) for side in (before, after)]
        _histograms(axes, pair[0], pair[1], label, bins)
    panels[0].set_ylabel("number of neurons")
    # Inside a panel the legend would cover bars.
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False)
    return figure


def _numbers(value: Tensor, path: str, in_ms: bool) -> Tensor:
    wanted = "must be a tensor of finite real numbers"
    if not isinstance(value, Tensor) or why_not_real(value) is not None or value.is_meta:
        raise InvalidArgumentError(repr(path), value, wanted)
    numbers = value.detach().double().flatten().cpu()
    numbers = 1e3 / numbers if in_ms else numbers
    if not bool(torch.isfinite(numbers).all()):
        raise InvalidArgumentError(repr(path), value, f"{wanted}, and a rate not 0")
    return numbers


def _histograms(axes: Axes, before: Tensor, after: Tensor, label: str, bins: int) -> None:
    from matplotlib.ticker import MaxNLocator

    both = torch.cat([before, after])
    low, high = both.min().item(), both.max().item()
    if low == high:  # The values are all equal, and get a bin around them.
        low, high = low - 0.5 * abs(low or 1.0), high + 0.5 * abs(high or 1.0)
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64).tolist()
    axes.hist(before.tolist(), edges, color=_BEFORE, label="before training")
    axes.hist(
        after.tolist(), edges, histtype="step", color=_AFTER, linewidth=1.6, label="after training"
    )
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))  # Neurons are counted.
    axes.margins(x=0.02)
