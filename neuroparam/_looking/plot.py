"""Pictures of trained values. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._ground.real import why_not_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    _Ranges = dict[str, tuple[float, float]]

__all__ = ["distributions"]

_BEFORE, _AFTER, _OUTSIDE = "0.65", "#1f6fb4", "#f6d9c4"


def distributions(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    *,
    rates_in_ms: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    forbidden: Mapping[str, tuple[float, float]] | None = None,
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
        limits: path -> range of the axis, in the unit that is shown, so that pictures can be
            compared. The first and the last bin count what lies beyond as well, the infinite
            time constant of a rate of 0 included; the label says so. Default: the range of both.
        forbidden: path -> the open domain, in the unit that is shown; its ends may be infinite.
            What lies outside is shaded.
        bins: number of bins over the range of the axis.

    Returns:
        A matplotlib figure; save it with `figure.savefig(...)`.

    Raises:
        InvalidArgumentError: the two name different values, or none; a value is not finite;
            `rates_in_ms`, `labels`, `limits` or `forbidden` names others; the two numbers of a
            range do not rise; or `bins` is no positive integer.

    Examples:
        >>> import torch
        >>> figure = distributions(
        ...     {"p.tau_mem_inv": torch.linspace(80.0, 120.0, 50)},
        ...     {"p.tau_mem_inv": torch.linspace(60.0, 200.0, 50)},
        ...     rates_in_ms=["p.tau_mem_inv"],
        ...     limits={"p.tau_mem_inv": (0.0, 30.0)},
        ...     forbidden={"p.tau_mem_inv": (1.0, float("inf"))},
        ... )
        >>> print(figure.axes[0].get_xlabel())
        p.tau_mem_inv, as time constant (ms)
        (end bins: and beyond)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['before training', 'after training', 'outside the domain']
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
    limits = _ranges("limits", limits, paths, finite=True)
    forbidden = _ranges("forbidden", forbidden, paths, finite=False)
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InvalidArgumentError("bins", bins, "must be a positive integer")
    # A figure that is not pyplot's leaves no global state behind and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(before), 2.9), layout="constrained")
    panels = figure.subplots(1, len(before), squeeze=False)[0]
    for axes, path in zip(panels, before, strict=True):
        in_ms, limit = path in rates_in_ms, limits.get(path)
        label = (labels or {}).get(path, f"{path}, as time constant (ms)" if in_ms else path)
        old, new = (_numbers(side[path], path, in_ms, bool(limit)) for side in (before, after))
        axes.set_xlabel(f"{label}\n(end bins: and beyond)" if limit else label)
        _histograms(axes, old, new, limit or _range(torch.cat([old, new])), bins)
        if path in forbidden:
            _shade(axes, *forbidden[path])
    panels[0].set_ylabel("number of neurons")
    # Inside a panel the legend would cover bars. What several panels show has one entry.
    entries = {
        name: handle
        for axes in panels
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(), entries, loc="outside upper right", ncols=len(entries), frameon=False
    )
    return figure


def _ranges(argument: str, ranges: object, paths: list[str], *, finite: bool) -> _Ranges:
    """The ranges that a caller has given, checked."""
    if ranges is None:
        return {}
    if not isinstance(ranges, Mapping) or not all(path in paths for path in ranges):
        raise InvalidArgumentError(
            argument, ranges, f"must map paths that before names, {paths}, to two numbers"
        )
    for path, pair in ranges.items():
        if not _rises(pair, finite):
            numbers = "two finite numbers" if finite else "two numbers"
            raise InvalidArgumentError(
                f"{argument}[{path!r}]", pair, f"must be {numbers}, the lower one first"
            )
    return dict(ranges)


def _rises(pair: object, finite: bool) -> bool:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return False
    if any(isinstance(end, bool) or not isinstance(end, (int, float)) for end in pair):
        return False
    return pair[0] < pair[1] and not (finite and math.inf in map(abs, pair))


def _numbers(value: Tensor, path: str, in_ms: bool, limited: bool) -> Tensor:
    wanted = "must be a tensor of finite real numbers"
    if not isinstance(value, Tensor) or why_not_real(value) is not None or value.is_meta:
        raise InvalidArgumentError(repr(path), value, wanted)
    numbers = value.detach().double().flatten().cpu()
    finite = bool(torch.isfinite(numbers).all())
    numbers = 1e3 / numbers if in_ms else numbers
    # On a limited axis, the infinite time constant of a rate 0 counts as beyond the end.
    if not finite or not (limited or bool(torch.isfinite(numbers).all())):
        raise InvalidArgumentError(repr(path), value, f"{wanted}, and a rate not 0")
    return numbers


def _range(numbers: Tensor) -> tuple[float, float]:
    low, high = numbers.min().item(), numbers.max().item()
    if low == high:  # The values are all equal, and get a bin around them.
        return low - 0.5 * abs(low or 1.0), high + 0.5 * abs(high or 1.0)
    return low, high


def _histograms(
    axes: Axes, before: Tensor, after: Tensor, limit: tuple[float, float], bins: int
) -> None:
    from matplotlib.ticker import MaxNLocator

    edges = torch.linspace(*limit, bins + 1, dtype=torch.float64).tolist()
    old, new = (numbers.clamp(*limit).tolist() for numbers in (before, after))
    axes.hist(old, edges, color=_BEFORE, label="before training")
    axes.hist(new, edges, histtype="step", color=_AFTER, linewidth=1.6, label="after training")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))  # Neurons are counted.
    axes.margins(x=0.02)


def _shade(axes: Axes, low: float, high: float) -> None:
    """Shades what of the axis lies outside (low, high)."""
    left, right = axes.get_xlim()
    for start, end in ((left, min(low, right)), (max(high, left), right)):
        if start < end:
            axes.axvspan(start, end, color=_OUTSIDE, lw=0, zorder=0, label="outside the domain")
    axes.set_xlim(left, right)
