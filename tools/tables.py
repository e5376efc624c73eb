"""Writes two pages of the guide: what trains in which module, and what leaves its domain.

python -m tools.tables modules     # seconds
python -m tools.tables native      # minutes; draws docs/images/native.png as well
python -m tools.tables picture     # seconds; draws that picture from the rows of the page
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn

from neuroparam import find, make_trainable
from tests.support.cases import Case, all_cases, built, spikes
from tests.support.inside import (
    Kind,
    Place,
    Refused,
    Trains,
    attached,
    bounds_of,
    survey,
)

TITLES = {
    "norse": "Norse",
    "snntorch": "snnTorch",
    "spikingjelly": "SpikingJelly",
    "sinabs": "Sinabs",
    "rockpool": "Rockpool",
}
LEARNING_RATES = (1e-3, 1e-2, 1e-1, 1.0)
STEPS_OF_TRAINING, STEPS_OF_TIME = 200, 5

# what follows this line of a page is written by this script
MARK = "<!-- written by `python -m tools.tables`; what is above is not -->\n"
DOCS = Path(__file__).parents[1] / "docs"


def escaped(text: str) -> str:
    """Text that stands in a cell of a Markdown table."""
    return text.replace("|", "\\|")


def line(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(escaped, cells))} |"


def modules_table() -> str:
    """What trains in which module; modules with the same parameters share a row."""
    parts = []
    cases = all_cases()
    for library, title in TITLES.items():
        parts += [f"\n## {title}\n", line("module", "trains", "is refused")]
        parts.append("|---|---|---|")
        rows: dict[tuple[str, str], dict[str, None]] = {}
        for case in cases:
            if case.library == library:
                # SpikingJelly's nodes are the same in both step modes
                name = case.name.removesuffix(" (s)").removesuffix(" (m)")
                rows.setdefault(row_of(case), {})[name] = None
        parts += [line(", ".join(names), *row) for row, names in rows.items()]
    return "\n".join(parts) + "\n"


def row_of(case: Case) -> tuple[str, str]:
    """The cells "trains" and "is refused" of a module."""
    module = built(case)
    places = {place.path: place for place in survey(module)}
    trains = []
    for candidate in sorted(find(module), key=lambda candidate: candidate.path):
        place = places[candidate.path]
        unit = f", {candidate.unit}" if candidate.unit else ""
        mark = " ∂" if candidate.path in case.smooth else ""
        default = place.default
        low, high = bounds_of([default])
        within = f"{type(default).__name__} in ({low:.3g}, {high:.4g})"
        trains.append(f"`{candidate.path}`{mark} {candidate.meaning}{unit}: {within}")
    refused = [f"`{name}`: {reason_for(places.get(name))}" for name in case.refused]
    return "<br>".join(trains), "<br>".join(refused)


def reason_for(place: Place | None) -> str:
    """Why a value does not train, in the words of the catalogue where it has some."""
    if place is None:
        return "not stored, or None"
    row = place.row
    if isinstance(row, Trains) and row.mapped:
        return f"it trains as it is, or as {row.quantity!r}: {row.mapped}"
    return row.reason if isinstance(row, Refused) else "computed from other values"


# ----------------------------------------------------------------------------------- native

NO_WAY = "no way of its own"

PICTURE = (
    "![A square for each value and learning rate; orange and black ones, which left their domain "
    'or became NaN, are only in the native columns](images/native.png){ width="400" }'
)
DETAILS = (
    "The tables behind the picture have the step at which a value left, and the range that it went "
    "through; *stuck* out there means a gradient of exactly zero in more than half of these steps. "
    "The attached column has the whole range."
)

# library -> rows: module, value, domain, native at each learning rate, attached
Rows: TypeAlias = dict[str, list[list[str]]]

# what a user of the library would train; other modules store the same values in the same way
COMPARED: dict[str, tuple[str, ...]] = {
    "norse": ("LIFCell", "LSNNCell", "LIFAdExCell", "LICell"),
    "snntorch": (
        "Leaky",
        "Synaptic",
        "Alpha",
        "Lapicque",
        "StateLeaky",
        "LinearLeaky",
        "DeltaLeaky",
    ),
    "spikingjelly": (
        "LIFNode (m)",
        "KLIFNode (m)",
        "IzhikevichNode (m)",
        "CUBALIFNode",
        "DSRLIFNode",
    ),
    "sinabs": ("LIF", "LIF train_alphas", "ExpLeak", "ALIF", "IAF"),
    "rockpool": (
        "LIFTorch",
        "LIFTorch decays",
        "LIFTorch bitshifts",
        "aLIFTorch",
        "LIFNeuronTorch",
        "ExpSynTorch",
        "RateTorch",
        "UpDownTorch",
    ),
}


def native_parameter(module: nn.Module, path: str) -> nn.Parameter | None:
    """Makes a value trainable the library's own way; None if it has none."""
    (place,) = (place for place in survey(module) if place.path == path)
    if place.kind is Kind.NUMBER or (place.kind is Kind.TENSOR and not place.fields):
        return None
    if place.kind is Kind.PARAMETER:
        return place.value.requires_grad_()
    parameter = nn.Parameter(place.value.detach().clone())
    if place.fields:  # Norse's record
        record = getattr(place.owner, place.attribute)
        setattr(place.owner, place.attribute, record._replace(**{place.field: parameter}))
    else:  # what `learn_beta=True` and its like do
        del place.owner._buffers[place.attribute]
        place.owner.register_parameter(place.attribute, parameter)
    return parameter


class Watched:
    """What became of one value in a training run."""

    def __init__(self, bounds: tuple[float, float]):
        self.low, self.high = bounds
        self.least, self.most = math.inf, -math.inf
        self.left: int | None = None
        self.nan: int | None = None
        self.zeros = self.zeros_outside = self.outside = 0

    def see(self, step: int, value: Tensor, gradient: Tensor | None) -> None:
        if self.nan is not None:
            return
        if not bool(value.isfinite().all()):
            self.nan = step
            return
        self.least = min(self.least, value.min().item())
        self.most = max(self.most, value.max().item())
        beyond = bool(((value <= self.low) | (value >= self.high)).any())
        none = gradient is None or bool((gradient == 0).all())
        self.zeros += none
        if beyond:
            self.left = step if self.left is None else self.left
            self.outside += 1
            self.zeros_outside += none

    def __str__(self) -> str:
        went = f"{self.least:.3g} to {self.most:.3g}"
        if self.nan is not None:
            left = f"left at step {self.left} ({went}), " if self.left is not None else ""
            return f"**{left}NaN at step {self.nan}**"
        if self.left is not None:
            stuck = ", stuck" if self.zeros_outside > self.outside / 2 else ""
            return f"**left at step {self.left}{stuck} ({went})**"
        return "inside, stuck" if self.zeros > STEPS_OF_TRAINING / 2 else "inside"


def trained(
    case: Case,
    module: nn.Module,
    parameters: list[nn.Parameter],
    read: Callable[[], Tensor],
    watched: Watched,
    learning_rate: float,
) -> Watched:
    """Adam pushes the mean output up, then down."""
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    for step in range(STEPS_OF_TRAINING):
        x = spikes(step % 4)[: None if case.fixed_length else STEPS_OF_TIME]
        try:
            output = case.run(module, x)
        except Exception:
            watched.nan = step if watched.nan is None else watched.nan
            break
        optimizer.zero_grad()
        loss = (output.mean() - (2.0 if step < STEPS_OF_TRAINING / 2 else 0.0)) ** 2
        if not bool(loss.isfinite()):
            watched.nan = step if watched.nan is None else watched.nan
            break
        if not loss.requires_grad:
            break
        loss.backward()
        gradient = parameters[0].grad
        optimizer.step()
        with torch.no_grad():
            watched.see(step + 1, read(), gradient)
    return watched


def native_row(case: Case, path: str) -> list[str]:
    """Module, value, domain, native at each learning rate, attached."""
    (place,) = (place for place in survey(built(case)) if place.path == path)
    assert isinstance(place.row, Trains)
    bounds = bounds_of([place.default])
    cells = []
    for learning_rate in LEARNING_RATES:
        module = built(case)
        parameter = native_parameter(module, path)
        if parameter is None:
            cells = [NO_WAY] * len(LEARNING_RATES)
            break
        watched = Watched(bounds)
        cells.append(
            str(trained(case, module, [parameter], lambda p=parameter: p, watched, learning_rate))
        )
    module = make_trainable(built(case), path)
    (a,) = attached(module)
    watched = Watched(bounds)
    trained(case, module, [a.parameter.raw], a.parameter, watched, LEARNING_RATES[-1])
    went = f"{watched}, {watched.least:.3g} to {watched.most:.3g}"
    domain = f"({bounds[0]:.3g}, {bounds[1]:.4g})"
    return [case.name, f"`{path}`", domain, *cells, went]


def native_rows() -> Rows:
    """What becomes of values trained as plain Parameters, and attached."""
    torch.set_num_threads(1)
    return {
        library: [
            native_row(case, path)
            for case in all_cases()
            if case.library == library and case.name in names
            for path in case.trains
        ]
        for library, names in COMPARED.items()
    }


def native_text(rows: Rows, versions: str) -> str:
    """The count, the picture, the versions, and a table for each library, collapsed."""
    every = [row for part in rows.values() for row in part]
    natively = [row[3:-1] for row in every if row[3] != NO_WAY]
    lost = [sum("**" in cell for cell in column) for column in zip(*natively, strict=True)]
    counts = ", ".join(
        f"{n} at a learning rate of {rate:g}" for n, rate in zip(lost, LEARNING_RATES, strict=True)
    )
    kept = sum("**" not in row[-1] for row in every)
    parts = [
        f"\nOf {len(natively)} values that a library can train its own way, these left their "
        f"domain or became NaN: {counts}; of the {len(every)} attached ones {kept} stayed inside.\n"
        f"\n{PICTURE}\n\nVersions: {versions}.\n\n{DETAILS}"
    ]
    rates = (f"native, lr {rate:g}" for rate in LEARNING_RATES)
    head = ("module", "value", "domain", *rates, "attached, lr 1")
    for library, part in rows.items():
        table = [line(*head), "|---" * len(head) + "|", *(line(*row) for row in part)]
        parts.append("\n".join([f'\n??? note "{TITLES[library]}"\n', *(f"    {r}" for r in table)]))
    return "\n".join(parts) + "\n"


def rows_of(text: str) -> Rows:
    """The rows that `native_text` wrote."""
    rows: Rows = {}
    for library, title in TITLES.items():
        block = text.partition(f'??? note "{title}"\n')[2].partition("\n???")[0]
        lines = [row.strip() for row in block.splitlines() if row.strip()]
        # the first two are the head of the table
        rows[library] = [row.strip("| ").split(" | ") for row in lines[2:]]
    return rows


# ----------------------------------------------------------------------------------- picture

HEAD = 2.2  # rows that the name of a library and those of the columns take
GAP = 0.15  # between the native columns and the attached one, in columns
HATCH = "////"
# light to dark, in colours that the colour-blind tell apart
COLOURS = {
    "inside": "#d9e4ee",
    "inside, stuck": "#6baed6",
    "left": "#e07b00",
    "NaN": "#3b0f3b",
    NO_WAY: "white",
}
LEGEND = {
    "inside": "inside its domain",
    "inside, stuck": "inside, but stuck",
    "left": "left its domain",
    "NaN": "NaN",
    NO_WAY: "no way of its own",
}


def state_of(cell: str) -> str:
    """What a cell of the table says, as a key of COLOURS."""
    if "NaN at" in cell:
        return "NaN"
    if "left at" in cell:
        return "left"
    return next(state for state in (NO_WAY, "inside, stuck", "inside") if cell.startswith(state))


def native_picture(rows: Rows) -> Figure:
    """Every value, and what became of it at each learning rate, as a square of a colour."""
    heights = [len(part) + HEAD for part in rows.values()]
    figure = Figure(figsize=(4.0, 0.17 * sum(heights) + 0.7), facecolor="white")
    top = 1 - 0.75 / figure.get_figheight()
    areas = figure.subplots(
        len(rows),
        height_ratios=[len(part) for part in rows.values()],
        gridspec_kw={
            "left": 0.51,
            "right": 0.985,
            "bottom": 0.003,
            "top": top - HEAD * top / sum(heights),
            "hspace": HEAD * len(rows) / sum(map(len, rows.values())),
        },
    )
    for axes, (library, part) in zip(areas, rows.items(), strict=True):
        draw_library(axes, TITLES[library], part)
    patches = [
        Patch(facecolor=colour, edgecolor="0.6", label=LEGEND[state])
        for state, colour in COLOURS.items()
    ]
    patches[-1].set_hatch(HATCH)
    figure.legend(handles=patches, loc="upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def square(x: float, y: float, state: str) -> Rectangle:
    """A cell of the picture."""
    edge, hatch = ("0.75", HATCH) if state == NO_WAY else ("white", None)
    face = COLOURS[state]
    return Rectangle((x, y), 1, 1, facecolor=face, edgecolor=edge, linewidth=0.8, hatch=hatch)


def draw_library(axes: Axes, title: str, part: list[list[str]]) -> None:
    """The values of a library: a row each, four native columns and the attached one."""
    for y, row in enumerate(part):
        for x, cell in enumerate(row[3:]):
            apart = GAP if x == len(LEARNING_RATES) else 0.0
            axes.add_patch(square(x + apart, y, state_of(cell)))
    columns = len(LEARNING_RATES) + 1
    axes.set(xlim=(0, columns + GAP), ylim=(len(part), 0))
    axes.set_yticks(
        [y + 0.5 for y in range(len(part))],
        [f"{name}.{path.strip('`')}" for name, path, *_ in part],
        fontsize=7,
    )
    ticks = [x + 0.5 for x in range(columns - 1)] + [columns + GAP - 0.5]
    axes.xaxis.tick_top()
    rates = [f"native\n{rate:g}" for rate in LEARNING_RATES]
    axes.set_xticks(ticks, [*rates, "attached\n1"], fontsize=7)
    beside = axes.get_yaxis_transform()  # x in widths of the panel, y in rows
    axes.text(-1.04, -0.4, title, transform=beside, fontsize=9, fontweight="bold")
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def draw_native(rows: Rows) -> None:
    """Writes the picture into the guide."""
    native_picture(rows).savefig(DOCS / "images" / "native.png", dpi=200)


def native_table() -> str:
    """Trains everything, draws the picture, and returns what stands on the page."""
    rows = native_rows()
    draw_native(rows)
    return native_text(rows, ", ".join(f"{name} {version(name)}" for name in ("torch", *TITLES)))


TABLES: dict[str, Callable[[], str]] = {"modules": modules_table, "native": native_table}


def written(page: str) -> tuple[str, str]:
    """A page of the guide: what stands above the mark, and the table below it."""
    above, _, below = (DOCS / f"{page}.md").read_text().partition(MARK)
    return above, below


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in [*TABLES, "picture"]:
        sys.exit(__doc__)
    if sys.argv[1] == "picture":
        draw_native(rows_of(written("native")[1]))
        sys.exit()
    above, _ = written(sys.argv[1])
    (DOCS / f"{sys.argv[1]}.md").write_text(above + MARK + TABLES[sys.argv[1]]())
