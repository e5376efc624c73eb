"""What is measured in time and memory: each function returns a table of the guide's page."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from neuroparam import ExpScaledLog, make_trainable
from tests.benchmarks.counted import CHAINS, Holder
from tests.benchmarks.networks import (
    LIBRARIES,
    Leak,
    Library,
    arms,
    inputs,
    installed,
    leaks,
    norse_from_zeros,
    outside,
    training_step,
    tutorial_arms,
)
from tests.benchmarks.timing import Ratio, Step, Timings, interleaved


@dataclass(frozen=True)
class Options:
    """How thoroughly, and where."""

    rounds: int
    device: str


@dataclass(frozen=True)
class Table:
    """The columns and the rows, as text."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def __str__(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def milliseconds(seconds: float) -> str:
    ms = 1e3 * seconds
    return f"{ms:,.0f}" if ms >= 1000 else f"{ms:.3g}"


def verdict(measured: Ratio | float, goal: float | None) -> str:
    """A goal, and whether the median is at most that, or at least the lower quartile."""
    if goal is None:
        return ""
    ratio = measured if isinstance(measured, Ratio) else Ratio(measured, measured, measured)
    if ratio.median <= goal:
        return f"{goal:g}: met"
    missed = f"missed by {float(f'{ratio.median - goal:.2g}'):g}"
    return f"{goal:g}: {'within the quartiles' if ratio.low <= goal else missed}"


# --------------------------------------------------------------------------- training steps

COLUMNS = (
    "network",
    "raw is",
    "T, batch",
    "raw, ms",
    "attached, ms",
    "attached over raw",
    "goal",
    "raw over raw",
)


def training_steps(options: Options) -> Table:
    """Forward, backward and optimizer step: attached over raw."""
    made = partial(tutorial_arms, options.device)
    rows = [row("Norse, the tutorial", "32, 256", "nn.Parameters", made, 1.02, options)]
    for steps in (100, 1000):
        x = inputs(steps, 64, options.device)
        for name, library in installed().items():
            made = partial(arms, library, x)
            rows.append(row(name, f"{steps}, 64", library.raw, made, library.goal, options))
    return Table(COLUMNS, rows)


def row(
    name: str,
    size: str,
    raw: str,
    make: Callable[[], Mapping[str, Step]],
    goal: float | None,
    options: Options,
    most: float = 120.0,
) -> tuple[str, ...]:
    """One row of such a table; `most` is what `interleaved` makes of it."""
    # The same again, in other memory: what the machine makes of two equal networks.
    made = {**make(), "again": make()["raw"]}
    timings = interleaved(made, options.rounds, 0.3, most)
    ratio = timings.ratio("attached", "raw")
    return (
        name,
        raw,
        size,
        milliseconds(timings.median("raw")),
        milliseconds(timings.median("attached")),
        str(ratio),
        verdict(ratio, goal),
        str(timings.ratio("again", "raw")),
    )


# ---------------------------------------------------------------------------- a loop outside


def loops(options: Options) -> Table:
    """A loop over single steps that the user writes around a cell, T 100, batch 64."""
    rows = []
    x = inputs(100, 64, options.device)
    for name, library in installed().items():
        if library.by_steps is None:
            continue
        timings = interleaved(outside(library, x), options.rounds, 0.3)
        ratio = timings.ratio("attached", "raw")
        rows.append(
            (
                name,
                milliseconds(timings.median("raw")),
                str(ratio),
                verdict(ratio, 1.1),
                str(timings.ratio("cached", "raw")),
                str(timings.ratio("network", "raw")),
            )
        )
    return Table(
        (
            "cell",
            "raw, ms",
            "cell attached, over raw",
            "goal",
            "in a `cached()` block",
            "network attached, loop in its forward",
        ),
        rows,
    )


# ------------------------------------------------------------------------------------ scale

# what grows -> (its sizes, (neurons, steps, layers) at a size)
GROWING: dict[str, tuple[Sequence[int], Callable[[int], tuple[int, int, int]]]] = {
    "neurons": ([10**k for k in range(8)], lambda n: (n, 4, 1)),
    "time steps": ([1, 10, 100, 1000, 10_000], lambda n: (100, n, 1)),
    "layers": ([1, 10, 100, 1000], lambda n: (100, 4, n)),
}
LAYERS = {1: 1.2, 100: 1.18, 1000: 1.05}  # the goals, attached over raw


def scale(options: Options) -> dict[str, list[tuple[int, Timings]]]:
    """Training steps of `Leak` layers of growing size."""
    results: dict[str, list[tuple[int, Timings]]] = {}
    for growing, (sizes, at) in GROWING.items():
        for size in sizes:
            made = leaking(*at(size), options.device)
            # The long ones say little more when repeated.
            timings = interleaved(made, options.rounds, most=20)
            results.setdefault(growing, []).append((size, timings))
    return results


def leaking(neurons: int, steps: int, layers: int, device: str) -> dict[str, Step]:
    """Training steps of `Leak` layers, raw and attached."""
    x = torch.rand(steps, 1, neurons, device=device)
    nets = {arm: net.to(device) for arm, net in leaks(neurons, layers).items()}
    return {arm: training_step(net, partial(net, x)) for arm, net in nets.items()}


def slope(points: Sequence[tuple[int, float]]) -> float:
    """The exponent with which the time grows, over the larger half of the sizes."""
    upper = points[len(points) // 2 :]
    x = [math.log(size) for size, _ in upper]
    y = [math.log(seconds) for _, seconds in upper]
    return statistics.linear_regression(x, y).slope


def scale_table(results: dict[str, list[tuple[int, Timings]]]) -> Table:
    rows = []
    for growing, points in results.items():
        for size, timings in points:
            ratio = timings.ratio("attached", "raw")
            added = timings.median("attached") - timings.median("raw")
            rows.append(
                (
                    growing,
                    f"{size:,}",
                    milliseconds(timings.median("raw")),
                    milliseconds(timings.median("attached")),
                    str(ratio),
                    verdict(ratio, LAYERS.get(size) if growing == "layers" else None),
                    milliseconds(added),
                )
            )
        exponents = (
            f"{slope([(size, t.median(arm)) for size, t in points]):.2f}"
            for arm in ("raw", "attached")
        )
        rows.append((growing, "slope", *exponents, "", "", ""))
    return Table(
        ("grows", "size", "raw, ms", "attached, ms", "attached over raw", "goal", "difference, ms"),
        rows,
    )


def large(options: Options) -> Table:
    """A value of ten million numbers alone, forward and backward: over its maps one by one."""
    rows = []
    gradient = torch.ones(10_000_000, device=options.device)
    for name in ("ExpScaledLog", "Softplus", "BoundedSigmoid", "ExpScaledLog, Decay"):
        holder = make_trainable(Holder(CHAINS[name](), len(gradient)), {"tau": CHAINS[name]()})
        value = holder.to(options.device).parametrizations.tau

        def step(compute: Callable[[], Tensor], raw: nn.Parameter = value.original) -> None:
            raw.grad = None
            compute().backward(gradient)

        def one_by_one(value: ParametrizationList = value) -> Tensor:
            return reduce(lambda number, each: each(number), value, value.original)

        made = {"maps": partial(step, one_by_one), "value": partial(step, value)}
        timings = interleaved(made, options.rounds)
        ratio = timings.ratio("value", "maps")
        medians = (milliseconds(timings.median(arm)) for arm in made)
        rows.append((name, *medians, str(ratio), verdict(ratio, 0.45)))
    return Table(("maps", "one by one, ms", "the value, ms", "ratio", "goal"), rows)


# ---------------------------------------------------------------------------------- one time


def once(options: Options) -> Table:
    """What is paid once: attaching, memory, importing."""
    rows: list[tuple[str, str, str]] = []
    layers = 1000
    for growing, goal in ((100, None), (layers, 500)):
        ms = 1e3 * statistics.median(_attaching(growing) for _ in range(5))
        rows.append((f"attach {growing} layers, ms", f"{ms:.3g}", verdict(ms, goal)))
    tracemalloc.start()
    net = nn.Sequential(*(Leak(100) for _ in range(layers)))
    plain, _ = tracemalloc.get_traced_memory()
    make_trainable(net, {"*.tau": ExpScaledLog()})
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rows.append(
        (
            f"memory of {layers} attached values, kB each",
            f"{(kept - plain) / layers / 1e3:.3g}",
            f"none; a plain layer has {plain / layers / 1e3:.3g}, without the tensors",
        )
    )
    rows += _importing(options.rounds)
    return Table(("what", "cost", "goal"), rows)


def _attaching(layers: int) -> float:
    net = nn.Sequential(*(Leak(100) for _ in range(layers)))
    start = time.process_time()
    make_trainable(net, {"*.tau": ExpScaledLog()})
    return time.process_time() - start


_IMPORT = """
import time, tracemalloc, torch
{before}
start = time.process_time()
import neuroparam
{after}
"""


def _importing(rounds: int) -> list[tuple[str, str, str]]:
    """`import neuroparam` after `import torch`, in fresh processes."""

    # as a user has it, with the byte code written by the first import
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run(before: str, after: str) -> float:
        code = _IMPORT.format(before=before, after=after)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        return float(done.stdout)

    run("", "print(0)")
    seconds = [run("", "print(time.process_time() - start)") for _ in range(rounds)]
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    size = run("tracemalloc.start()", "print(tracemalloc.get_traced_memory()[0])")
    quartiles = f"{1e3 * middle:.1f} [{1e3 * low:.1f}, {1e3 * high:.1f}]"
    return [
        ("import, after torch, ms", quartiles, verdict(1e3 * middle, 30)),
        ("memory of the import, MB", f"{size / 1e6:.2f}", verdict(size / 1e6, 2)),
    ]


# --------------------------------------------------------------------------------- compiled


def compiled(options: Options) -> Table:
    """torch.compile with inductor: attached over raw."""
    # The code of the other libraries breaks the graph, attached or not.
    libraries = {
        "a leaky integrator": None,
        "Norse, given its first state": replace(LIBRARIES["Norse"], over_time=norse_from_zeros),
        "snnTorch": LIBRARIES["snnTorch"],
        "SpikingJelly": LIBRARIES["SpikingJelly"],
    }
    rows = []
    for name, library in libraries.items():
        raw = "nn.Parameters" if library is None else library.raw
        torch._dynamo.reset()
        made = partial(_compiled_arms, library, options.device)
        rows.append(row(name, "50, 64", raw, made, 1.02, options))
    return Table(COLUMNS, rows)


def _compiled_arms(library: Library | None, device: str) -> dict[str, Step]:
    x = inputs(50, 64, device)
    nets: dict[str, nn.Module] = {**leaks(x.shape[-1], 1)}
    if library is not None:
        nets = {arm: library.layer(arm == "raw") for arm in nets}
    made = {}
    for arm, net in nets.items():
        net.to(device)(x).sum().backward()  # Until a gradient has come, a value is watched.
        made[arm] = training_step(net, partial(torch.compile(net), x))
    return made
