"""What is measured: each function returns a table of the guide's page."""

from __future__ import annotations

import copy
import math
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType

from neuroparam import ExpScaledLog, cached, make_trainable
from tests.benchmarks.networks import (
    LIBRARIES,
    Library,
    arms,
    inputs,
    training_step,
    tutorial_arms,
)
from tests.benchmarks.timing import Ratio, Step, Timings, interleaved, timed
from tests.support.inside import (
    Evaluated,
    NeuronParameter,
    attached,
    evaluate,
    reads_replaced,
)


@dataclass(frozen=True)
class Options:
    """How thoroughly, and where."""

    rounds: int
    device: str


@dataclass(frozen=True)
class Table:
    """A heading, the columns and the rows, as text."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def __str__(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def milliseconds(seconds: float) -> str:
    ms = 1e3 * seconds
    return f"{ms:,.0f}" if ms >= 1000 else f"{ms:.3g}"


def _verdict(ratio: Ratio, goal: float) -> str:
    """Whether the goal lies above the median, or at least within the quartiles."""
    if ratio.median <= goal:
        return "met"
    return "within the quartiles" if ratio.low <= goal else f"missed by {ratio.median - goal:.3f}"


# --------------------------------------------------------------------------- training steps

_COLUMNS = (
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
    rows = [_row("Norse, the tutorial", 32, 256, "nn.Parameters", tutorial_arms, 1.03, options)]
    for steps in (100, 1000):
        for name, library in LIBRARIES.items():
            made = partial(arms, library, steps, 64)
            # 1 against a way of its own, where the library has one
            goal = 1.05 if name == "Norse" else 1.0
            rows.append(_row(name, steps, 64, library.raw, made, goal, options))
    return Table(_COLUMNS, rows)


def _row(
    name: str,
    steps: int,
    batch: int,
    raw: str,
    make: Callable[[str], dict[str, Step]],
    goal: float,
    options: Options,
) -> tuple[str, ...]:
    # the same again, in other memory: what the machine makes of two equal networks
    made = {**make(options.device), "again": make(options.device)["raw"]}
    timings = interleaved(made, options.rounds, 0.3)
    ratio = timings.ratio("attached", "raw")
    return (
        name,
        raw,
        f"{steps}, {batch}",
        milliseconds(timings.median("raw")),
        milliseconds(timings.median("attached")),
        str(ratio),
        f"{goal:g}: {_verdict(ratio, goal)}",
        str(timings.ratio("again", "raw")),
    )


class Reader(nn.Module):
    """Reads its time constant as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.ones(100))

    def forward(self, count: int) -> Tensor | None:
        for _ in range(count):
            self.tau  # noqa: B018 - the read is all that is wanted
        return self.tau.sum() if count else None


def _added(count: int, rounds: int) -> float:
    """Seconds that a forward with so many reads takes longer when the value is attached."""
    made = {"raw": Reader(), "attached": make_trainable(Reader(), {"tau": ExpScaledLog()})}
    for reader in made.values():
        reader(1).backward()  # what the guard looks at
    timings = interleaved({arm: partial(r, count) for arm, r in made.items()}, rounds)
    return timings.median("attached") - timings.median("raw")


def _in_place(layer: nn.Module, x: Tensor) -> tuple[int, float, float, float]:
    """How often one training step reads values, and the seconds of reads, maps, and backwards.

    Where they stand, amid other work that drives them out of the caches: several times slower
    than in a loop of their own.
    """
    parameters = [a.parameter for a in attached(layer)]
    reads, reading, evaluating = 0, 0.0, 0.0
    evaluated: set[Evaluated] = set()
    backward: list[float] = []

    def read(parameter: Evaluated, raw: Tensor) -> Tensor:
        nonlocal reads, reading, evaluating
        start = time.perf_counter()
        value = evaluate(parameter, raw)
        took = time.perf_counter() - start
        reads += 1
        if parameter in evaluated:
            reading += took
        else:
            evaluating += took
            evaluated.add(parameter)
        return value

    def note(*_: object) -> None:
        backward.append(time.perf_counter())

    ends = [parameter.raw.register_post_accumulate_grad_hook(note) for parameter in parameters]
    with (
        reads_replaced(read),
        patch.object(NeuronParameter, "gradient_came", note),
    ):
        layer(x).square().mean().backward()
    for end in ends:
        end.remove()
    return reads, reading, evaluating, max(backward) - min(backward)


def profile(options: Options) -> str:
    """Where the difference comes from, T 100: reads of values, and the maps."""
    rows = []
    x = inputs(100, 64, options.device)
    for name, library in LIBRARIES.items():
        layer = library.layer(raw=False).to(options.device)
        layer(x).sum().backward()  # what the guard looks at
        layer(x).sum().backward()
        steps = [_in_place(layer, x) for _ in range(options.rounds)]
        reads, *seconds = (statistics.median(column) for column in zip(*steps, strict=True))
        reading, evaluating, backward = map(milliseconds, seconds)
        maps = len(list(attached(layer)))
        rows.append((name, f"{reads:.0f}", reading, str(maps), evaluating, backward))
    columns = (
        "network",
        "reads",
        "their time, ms",
        "maps",
        "evaluating them, ms",
        "their backward, ms",
    )
    count = 20_000
    a_read = _added(count, options.rounds) / count
    return (
        f"{Table(columns, rows)}\n\n"
        f"Many in a row, a read of an attached value takes {1e6 * a_read:.2f} us longer than one "
        f"of an `nn.Parameter`. Entering and leaving a forward takes "
        f"{1e6 * _added(0, options.rounds):.1f} us."
    )


# ---------------------------------------------------------------------------- a loop outside


def loops(options: Options) -> Table:
    """A loop over single-step cells that the user writes, T 100, batch 64."""
    rows = []
    x = inputs(100, 64, options.device)
    for name in ("Norse", "snnTorch", "SpikingJelly, single steps"):
        library = LIBRARIES[name]
        network = library.layer(raw=False).to(options.device)
        timings = interleaved(
            {
                "raw": _outside(library, x, raw=True),
                "without": _outside(library, x),
                "cached": _outside(library, x, scope=cached),
                "network": training_step(network, partial(network, x)),
            },
            options.rounds,
        )
        ratios = (str(timings.ratio(arm, "raw")) for arm in ("without", "cached", "network"))
        rows.append((name, milliseconds(timings.median("raw")), *ratios))
    return Table(
        (
            "cell",
            "raw, ms",
            "cell attached, without `cached()`",
            "cell attached, with `cached()`",
            "network attached, loop in its forward",
        ),
        rows,
    )


def _outside(
    library: Library,
    x: Tensor,
    *,
    raw: bool = False,
    scope: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Step:
    """The loop of a user who attaches a cell alone."""
    torch.manual_seed(0)
    linear, cell = nn.Linear(x.shape[-1], x.shape[-1]), library.build(raw)
    if not raw:
        make_trainable(cell, library.names)
    both = nn.ModuleList([linear, cell]).to(x.device)

    def forward() -> Tensor:
        with scope():
            return library.over_time(cell, linear(x))

    return training_step(both, forward)


# ------------------------------------------------------------------------------------ scale


class Leak(nn.Module):
    """A leaky integrator that reads its time constant at every step; the cheapest neuron."""

    def __init__(self, neurons: int):
        super().__init__()
        self.tau = nn.Parameter(torch.linspace(10.0, 20.0, neurons))

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x[0])
        outputs = []
        for part in x:
            v = v + (part - v) / self.tau
            outputs.append(v)
        return torch.stack(outputs)


# what grows -> (its sizes, (neurons, steps, layers) at a size)
GROWING: dict[str, tuple[Sequence[int], Callable[[int], tuple[int, int, int]]]] = {
    "neurons": ([10**k for k in range(8)], lambda n: (n, 4, 1)),
    "time steps": ([1, 10, 100, 1000, 10_000], lambda n: (100, n, 1)),
    "layers": ([1, 10, 100, 1000], lambda n: (100, 4, n)),
}


def scale(options: Options) -> dict[str, list[tuple[int, Timings]]]:
    """Training steps of `Leak` layers of growing size."""
    results: dict[str, list[tuple[int, Timings]]] = {}
    for growing, (sizes, at) in GROWING.items():
        for size in sizes:
            neurons, steps, layers = at(size)
            x = torch.rand(steps, 1, neurons, device=options.device)
            made = {}
            for arm in ("raw", "attached"):
                net = nn.Sequential(*(Leak(neurons) for _ in range(layers)))
                if arm == "attached":
                    make_trainable(net, {"*.tau": ExpScaledLog()})
                net = net.to(options.device)
                made[arm] = training_step(net, partial(net, x))
            # the long ones say little more when repeated
            rounds = options.rounds if timed(made["raw"], 1) < 1.0 else max(5, options.rounds // 4)
            results.setdefault(growing, []).append((size, interleaved(made, rounds)))
    return results


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
            added = timings.median("attached") - timings.median("raw")
            rows.append(
                (
                    growing,
                    f"{size:,}",
                    milliseconds(timings.median("raw")),
                    milliseconds(timings.median("attached")),
                    str(timings.ratio("attached", "raw")),
                    milliseconds(added),
                )
            )
        exponents = (
            f"{slope([(size, t.median(arm)) for size, t in points]):.2f}"
            for arm in ("raw", "attached")
        )
        rows.append((growing, "slope", *exponents, "", ""))
    return Table(("grows", "size", "raw, ms", "attached, ms", "ratio", "difference, ms"), rows)


# ---------------------------------------------------------------------------------- one time


def once(options: Options) -> Table:
    """What is paid once: attaching, the gradient guard, importing."""
    rows: list[tuple[str, str, str]] = []
    layers = 1000
    for growing in (100, layers):
        seconds = statistics.median(_attaching(growing) for _ in range(5))
        rows.append((f"attach {growing} layers", f"{1e3 * seconds:.3g} ms", ""))
    tracemalloc.start()
    net = nn.Sequential(*(Leak(100) for _ in range(layers)))
    plain, _ = tracemalloc.get_traced_memory()
    make_trainable(net, {"*.tau": ExpScaledLog()})
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rows.append(
        (
            f"memory of {layers} attached values",
            f"{(kept - plain) / layers / 1e3:.3g} kB each",
            f"a plain layer has {plain / layers / 1e3:.3g} kB; without the tensors",
        )
    )
    x = torch.rand(4, 1, 100)
    watched, free = [], []
    for _ in range(5):
        fresh = copy.deepcopy(net)
        for times in (watched, free):
            start = time.perf_counter()
            output = fresh(x)
            times.append(time.perf_counter() - start)
            output.sum().backward()
    rows.append(
        (
            f"first forward over the next one, {layers} layers",
            f"{statistics.median(watched) / statistics.median(free):.3g}",
            "it is watched until a gradient has come to each value",
        )
    )
    rows += _importing(options.rounds)
    return Table(("what", "cost", "goal"), rows)


def _attaching(layers: int) -> float:
    net = nn.Sequential(*(Leak(100) for _ in range(layers)))
    start = time.perf_counter()
    make_trainable(net, {"*.tau": ExpScaledLog()})
    return time.perf_counter() - start


_IMPORT = """
import time, tracemalloc, torch
{before}
start = time.perf_counter()
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
    seconds = [run("", "print(time.perf_counter() - start)") for _ in range(rounds)]
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    size = run("tracemalloc.start()", "print(tracemalloc.get_traced_memory()[0])")
    quartiles = f"{1e3 * middle:.1f} ms [{1e3 * low:.1f}, {1e3 * high:.1f}]"
    return [
        ("import, after torch", quartiles, "30 ms"),
        ("memory of the import", f"{size / 1e6:.2f} MB", "2 MB"),
    ]


# --------------------------------------------------------------------------------- compiled


def compiled(options: Options) -> Table:
    """torch.compile with inductor: attached over raw."""
    rows = []
    # Norse's own first state breaks the graph, attached or not
    for name, steps in (("a leaky integrator", 50), ("snnTorch", 50)):
        made = partial(_compiled_arms, name, steps)
        rows.append(_row(name, steps, 64, "nn.Parameters", made, 1.05, options))
    return Table(_COLUMNS, rows)


def _compiled_arms(name: str, steps: int, device: str) -> dict[str, Step]:
    x = inputs(steps, 64, device)
    made = {}
    for arm in ("raw", "attached"):
        if name in LIBRARIES:
            net = LIBRARIES[name].layer(arm == "raw")
        else:
            net = Leak(x.shape[-1])
            if arm == "attached":
                make_trainable(net, {"tau": ExpScaledLog()})
        net = net.to(device)
        net(x).sum().backward()  # the guard looks at a forward that is not compiled
        torch._dynamo.reset()
        made[arm] = training_step(net, partial(torch.compile(net), x))
        made[arm]()
    return made


# -------------------------------------------------------------------------------------- GPU


def kernels(options: Options) -> Table:
    """Kernels (and copies) launched in one training step on a GPU, T 100, batch 64."""
    rows = []
    for name, library in LIBRARIES.items():
        counts = []
        for step in arms(library, 100, 64, options.device).values():
            step(), step()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
                step()
                torch.cuda.synchronize()
            # not the calls that launch them, which are events of the CPU
            events = [e for e in seen.key_averages() if e.device_type == DeviceType.CUDA]
            counts.append(sum(event.count for event in events))
        raw, attached = counts
        rows.append((name, str(raw), str(attached), str(attached - raw)))
    return Table(("library", "raw", "attached", "difference"), rows)
