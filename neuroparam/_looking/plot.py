"""Pictures of values. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._ground.real import why_not_real
from neuroparam._looking.recorder import Recorder
from neuroparam._looking.values import in_seconds, values
from neuroparam._maps.base import bounds_of
from neuroparam._value.place import attached
from neuroparam._value.with_units import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["distributions", "histories"]

_Ranges: TypeAlias = "dict[str, tuple[float, float]]"
_Shown: TypeAlias = "nn.Module | Mapping[str, Tensor]"

_FIRST, _OUTSIDE = "0.65", "#f6d9c4"
_LATER = ("#1f6fb4", "#c2571a", "#2f8f5b", "#8a4fb0", "#b8860b")
_COLUMNS = 4


@dataclass
class _Set:
    """What is drawn in one colour.

    Attributes:
        label: its entry in the legend.
        numbers: path -> values, as they were given, or in seconds.
        units: path -> the unit of these, where one is known.
        domains: path -> what may be, where the network says it.
    """

    label: str
    numbers: Mapping[str, Tensor]
    units: Mapping[str, str] = field(default_factory=dict)
    domains: _Ranges = field(default_factory=dict)


def distributions(
    before: _Shown | Mapping[str, _Shown],
    after: _Shown | None = None,
    *,
    dt: float | None = None,
    rates_in_ms: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    forbidden: Mapping[str, tuple[float, float]] | None = None,
    bins: int = 24,
) -> Figure:
    """Histograms of values, one panel a value: of one network, before and after, or of several.

    Time constants are shown in ms, whatever a library stores: those of networks, where the time
    step is known, and those of `values(net, Quantity.TAU_MEM)`. Of a network, what lies outside
    the domain of a value is shaded.

    Args:
        before: a network with attached values, or what `neuroparam.values` gives. Or several of
            these by their labels: `{"epoch 0": first, "epoch 9": last}`.
        after: the same after training; the same paths.
        dt: the time step in seconds, for networks whose time constants were attached by their
            paths in a library without a time step of its own.
        rates_in_ms: paths whose values are rates in 1/s (Norse's `tau_*_inv`), to be shown as
            time constants in ms. What is known to be something else is refused.
        labels: path -> label of the axis, with its unit. Default: the path and the unit.
        limits: path -> range of the axis, in the unit that is shown, so that pictures can be
            compared. The first and the last bin count what lies beyond as well, the infinite
            time constant of a rate of 0 included; the label says so. Default: the range of all.
        forbidden: path -> the open domain, in the unit that is shown; its ends may be infinite.
            What lies outside is shaded.
        bins: number of bins over the range of the axis.

    Returns:
        A matplotlib figure; save it with `figure.savefig(...)`.

    Raises:
        InvalidArgumentError: the sets name different values, or none; a value is not finite;
            `rates_in_ms`, `labels`, `limits` or `forbidden` names others; a rate is none; the two
            numbers of a range do not rise; or `bins` is no positive integer.
        ImportError: matplotlib is not installed.

    Examples:
        >>> import snntorch
        >>> from neuroparam import Quantity, make_trainable
        >>> net = make_trainable(snntorch.Leaky(beta=0.9), Quantity.TAU_MEM, dt=1e-3, shape=(5,))
        >>> distributions(net).axes[0].get_xlabel()
        'beta, as time constant (ms)'
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
    sets = _sets(before, after, dt)
    paths = list(sets[0].numbers)
    for argument, named in (("rates_in_ms", rates_in_ms), ("labels", labels or {})):
        if isinstance(named, str) or not all(path in paths for path in named):
            raise InvalidArgumentError(
                argument, named, f"must be about paths that before names, {paths}"
            )
    for path in rates_in_ms:
        _refuse_no_rate(path, [each.units.get(path) for each in sets])
    limits = _ranges("limits", limits, paths, finite=True)
    forbidden = {**sets[0].domains, **_ranges("forbidden", forbidden, paths, finite=False)}
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InvalidArgumentError("bins", bins, "must be a positive integer")
    figure, panels = _panels(len(paths))
    for axes, path in zip(panels, paths, strict=True):
        unit = "rate" if path in rates_in_ms else sets[0].units.get(path, "")
        limit = limits.get(path)
        label = (labels or {}).get(path, _label(path, unit))
        shown = [_numbers(each.numbers[path], path, unit, bool(limit)) for each in sets]
        axes.set_xlabel(f"{label}\n(end bins: and beyond)" if limit else label)
        names = [each.label for each in sets]
        _histograms(axes, names, shown, limit or _range(torch.cat(shown)), bins)
        if path in forbidden:
            _shade(axes, *forbidden[path])
    panels[0].set_ylabel("number of neurons")
    _legend(figure, panels)
    return figure


def histories(
    recorder: Recorder,
    *,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """How values went over the records of a `Recorder`, one panel a value.

    A line is the median over the neurons, and the band holds four fifths of them.

    Args:
        recorder: with at least one record.
        labels: path -> label of the axis, with its unit. Default: the unit.

    Returns:
        A matplotlib figure; save it with `figure.savefig(...)`.

    Raises:
        InvalidArgumentError: it is no recorder, or has no record; `labels` names others.
        ImportError: matplotlib is not installed.

    Examples:
        >>> import torch
        >>> from neuroparam import Recorder, make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> recorder = Recorder(make_trainable(module, "tau"))
        >>> for epoch in range(3):
        ...     module.tau = 20.0 + epoch
        ...     _ = recorder.record()
        >>> histories(recorder).axes[0].get_title("left")
        'tau'
    """
    if not isinstance(recorder, Recorder) or not recorder.steps:
        raise InvalidArgumentError("recorder", recorder, "must be a Recorder with a record")
    history = recorder.history
    if not all(path in history for path in labels or {}):
        raise InvalidArgumentError("labels", labels, f"must be about {list(history)}")
    figure, panels = _panels(len(history))
    for axes, (path, recorded) in zip(panels, history.items(), strict=True):
        unit = recorder.units.get(path, "")
        numbers = recorded.double().reshape(len(recorded), -1) * (1e3 if unit == "s" else 1.0)
        low, middle, high = numbers.quantile(torch.tensor([0.1, 0.5, 0.9]).double(), dim=1).tolist()
        if recorded[0].numel() > 1:
            axes.fill_between(recorder.steps, low, high, color=_LATER[0], alpha=0.25, lw=0)
        axes.plot(recorder.steps, middle, color=_LATER[0])
        axes.set_title(path, loc="left", fontsize="medium")
        axes.set_ylabel((labels or {}).get(path, "time constant (ms)" if unit == "s" else unit))
        axes.set_xlabel("record" if recorder.counts else "step")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _sets(before: Any, after: Any, dt: float | None) -> list[_Set]:
    """The sets of values that are drawn, each with the same paths."""
    wanted = "must be a network with attached values, or what neuroparam.values gives"
    several = isinstance(before, Mapping) and all(_is_set(each) for each in before.values())
    if several and before and after is None:
        given_as = [(f"before[{label!r}]", str(label), each) for label, each in before.items()]
    elif after is None:
        given_as = [("before", "values", before)]
    else:
        given_as = [("before", "before training", before), ("after", "after training", after)]
    found = [_set(label, given, dt) for _, label, given in given_as]
    first = found[0]
    for (argument, _, given), each in zip(given_as, found, strict=True):
        if not each.numbers:
            raise InvalidArgumentError(argument, given, f"{wanted}, and not empty")
        if each.numbers.keys() != first.numbers.keys():
            raise InvalidArgumentError(
                argument,
                given,
                f"must be the values of the same paths as {given_as[0][0]}, {list(first.numbers)}",
            )
        for path in each.numbers:
            if each.units.get(path) != first.units.get(path):
                raise InvalidArgumentError(
                    argument, given, f"must have {path!r} in the same unit as {given_as[0][0]}"
                )
    return found


def _is_set(given: object) -> bool:
    return isinstance(given, (Mapping, nn.Module))


def _set(label: str, given: Any, dt: float | None) -> _Set:
    if isinstance(given, nn.Module):
        return _of_network(label, given, dt)
    if isinstance(given, Values):
        return _Set(label, given, given.units)
    return _Set(label, given if isinstance(given, Mapping) else {})


def _of_network(label: str, network: nn.Module, dt: float | None) -> _Set:
    """The values of a network, its time constants in seconds where that is known."""
    stored, seconds = values(network), in_seconds(network, dt)
    found = _Set(label, {**stored, **seconds}, {**stored.units, **dict.fromkeys(seconds, "s")})
    for place in attached(network):
        low, high = place.parameter.bounds
        if place.path not in seconds:
            found.domains[place.path] = low, high
        elif place.parameter.unit is not None:
            low, high = bounds_of(place.parameter.before_unit)
            found.domains[place.path] = low * 1e3, high * 1e3
        elif place.trains is not None and place.trains.stored_as is None:
            found.domains[place.path] = low * 1e3, high * 1e3
        # Of a rate or a decay that is shown as a time constant, no domain is shown.
    return found


def _refuse_no_rate(path: str, units: list[str | None]) -> None:
    """Raises if a value is known to be no rate.

    Raises:
        InvalidArgumentError: saying in which unit it is.
    """
    for unit in units:
        if unit is not None and unit != "1/s":
            known = f"is in {unit}" if unit else "has no unit"
            ms = ", and is shown in ms without it" if unit == "s" else ""
            raise InvalidArgumentError(
                "rates_in_ms", path, f"must be rates in 1/s, and {path!r} {known}{ms}"
            )


def _label(path: str, unit: str) -> str:
    if unit in ("s", "rate"):
        return f"{path}, as time constant (ms)"
    return f"{path} ({unit})" if unit else path


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each value, at most four in a row."""
    try:
        # A figure that is not pyplot's leaves no global state behind and needs no display.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'neuroparam.plot draws with matplotlib: pip install "neuroparam[plot]"'
        ) from error

    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    figure: Any = Figure(figsize=(3.4 * columns, 2.9 * rows), layout="constrained")
    # A notebook shows figures of pyplot by itself, and asks others how they look.
    figure._repr_png_ = partial(_as_png, figure)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _as_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _legend(figure: Figure, panels: list[Axes]) -> None:
    # Inside a panel the legend would cover bars. What several panels show has one entry.
    entries = {
        name: handle
        for axes in panels
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if list(entries) != ["values"]:  # A single set needs no name.
        figure.legend(
            entries.values(), entries, loc="outside upper right", ncols=len(entries), frameon=False
        )


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


def _numbers(value: Tensor, path: str, unit: str, limited: bool) -> Tensor:
    """The numbers to show: time constants in ms."""
    wanted = "must be a tensor of finite real numbers"
    if not isinstance(value, Tensor) or why_not_real(value) is not None or value.is_meta:
        raise InvalidArgumentError(repr(path), value, wanted)
    numbers = value.detach().double().flatten().cpu()
    finite = bool(torch.isfinite(numbers).all())
    if unit == "rate":
        numbers = 1e3 / numbers
    elif unit == "s":
        numbers = 1e3 * numbers
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
    axes: Axes, names: list[str], sets: list[Tensor], limit: tuple[float, float], bins: int
) -> None:
    """The first set as bars, and the others as outlines over it."""
    from matplotlib.ticker import MaxNLocator

    edges = torch.linspace(*limit, bins + 1, dtype=torch.float64).tolist()
    first, *later = (numbers.clamp(*limit).tolist() for numbers in sets)
    axes.hist(first, edges, color=_FIRST, label=names[0])
    for index, (name, numbers) in enumerate(zip(names[1:], later, strict=True)):
        colour = _LATER[index % len(_LATER)]
        axes.hist(numbers, edges, histtype="step", color=colour, linewidth=1.6, label=name)
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
