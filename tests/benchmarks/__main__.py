"""Measures what training neuron parameters costs, and prints the tables.

python -m tests.benchmarks                         # all but what is for a GPU, about 40 minutes
python -m tests.benchmarks steps loops             # some
python -m tests.benchmarks --device cuda           # what is for a GPU, less than 8 minutes
python -m tests.benchmarks kernels ratios          # the same code on a CPU
python -m tests.benchmarks --write                 # into docs/cost.md and docs/images
python -m tests.benchmarks --write steps           # a part of it
"""

from __future__ import annotations

import argparse
import datetime
import logging
import platform
import textwrap
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from tests.benchmarks import counts, device, measures
from tests.benchmarks.measures import GROWING, Options, slope
from tests.benchmarks.networks import LIBRARIES, installed
from tests.benchmarks.timing import Timings

DOCS = Path(__file__).parents[2] / "docs"
MARK = "<!-- written by `python -m tests.benchmarks --write`; what is above is not -->\n"


def scale_with_picture(options: Options) -> str:
    results = measures.scale(options)
    return f"{measures.scale_table(results)}\n\n{_picture(results)}"


def _picture(results: dict[str, list[tuple[int, Timings]]]) -> str:
    from matplotlib.figure import Figure  # A machine with a GPU may have none.

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # each font it lacks
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots(1, len(GROWING), sharey=True)
    for growing, ax in zip(GROWING, axes, strict=True):
        sizes = [size for size, _ in results[growing]]
        for arm, style in (("raw", "o-"), ("attached", "x--")):
            seconds = [t.median(arm) for _, t in results[growing]]
            label = f"{arm}, slope {slope(list(zip(sizes, seconds, strict=True))):.1f}"
            points = [1e3 * s for s in seconds]
            ax.loglog(sizes, points, style, label=label, linewidth=1, markersize=4)
        ax.set(xlabel=growing)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize="x-small", loc="upper left")
    axes[0].set(ylabel="training step, ms")
    figure.savefig(DOCS / "images" / "cost-scale.png", dpi=200)
    return (
        "![Time of a training step against the number of neurons, time steps and layers, raw and "
        "attached: the lines are parallel, or meet](images/cost-scale.png)"
    )


# name on the command line -> (heading, measure)
SECTIONS: dict[str, tuple[str, Callable[[Options], object]]] = {
    "steps": ("Training steps", measures.training_steps),
    "counts": ("Instructions", counts.counts),
    "loops": ("A time loop of your own", measures.loops),
    "scale": ("Scale", scale_with_picture),
    "large": ("A large value alone", measures.large),
    "once": ("Paid once", measures.once),
    "compiled": ("torch.compile", measures.compiled),
    "kernels": ("Kernels and read-backs of a training step", device.kernels),
    "ratios": ("Training steps on this device", device.ratios),
}
FOR_A_GPU = ("kernels", "ratios")


def machine(options: Options) -> str:
    """Where, with what and when it was measured."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        processor = names[0].partition(": ")[2] if names else processor
    where = torch.cuda.get_device_name() if options.device == "cuda" else processor
    packages = dict.fromkeys(each.package for each in installed().values())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *packages))
    missing = dict.fromkeys(e.package for e in LIBRARIES.values() if e.package not in packages)
    left_out = f" Not installed, and left out: {', '.join(missing)}." if missing else ""
    return (
        f"Measured on {datetime.date.today()} on {where}, {torch.get_num_threads()} thread, "
        f"Python {platform.python_version()}; {versions}.{left_out} Every ratio of times: median "
        f"and quartiles of {options.rounds} rounds, or of fewer where a step takes long."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the guide's page")
    args = parser.parse_args()
    if unknown := [name for name in args.sections if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(args.threads)
    options = Options(args.rounds, args.device)
    chosen = args.sections or [s for s in SECTIONS if (s in FOR_A_GPU) == (args.device == "cuda")]

    print(machine(options))
    for name in chosen:
        heading, measure = SECTIONS[name]
        print(f"\n### {heading}\n", flush=True)
        start = time.monotonic()
        tables = str(measure(options))
        print(tables, f"\n{time.monotonic() - start:.0f} s", flush=True)
        if args.write:
            write(heading, f"{machine(options)}\n\n{tables}")


def write(heading: str, text: str) -> None:
    """Puts a section into the page, in the place of what it was, in the order of the sections."""
    page = DOCS / "cost.md"
    above, _, below = page.read_text().partition(MARK)
    found = dict(part.split("\n", 1) for part in f"\n{below}".split("\n### ")[1:])
    found[heading] = f'??? note "The figures"\n\n{textwrap.indent(text, "    ")}'
    present = [each for each, _ in SECTIONS.values() if each in found]
    sections = "\n".join(f"### {each}\n\n{found[each].strip()}\n" for each in present)
    page.write_text(f"{above}{MARK}\n{sections}")


if __name__ == "__main__":
    main()
