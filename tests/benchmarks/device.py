"""What is measured on a GPU.

On a CPU the same code runs, with operators in the place of kernels, to see that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from tests.benchmarks.measures import COLUMNS, Options, Table, leaking, row, verdict
from tests.benchmarks.networks import arms, inputs, installed
from tests.benchmarks.timing import Step, synchronize

# What is counted is none of the 1st, 2nd, 4th and 8th step, in which values are compared with
# copies, to find code that has written into them.
WARM = 4
SECONDS = 25.0  # for each network, so that all of it takes less than eight minutes


class Network(NamedTuple):
    """One row: the network, T and batch, the raw arm in words, its arms, and the goal."""

    name: str
    size: str
    raw: str
    make: Callable[[], Mapping[str, Step]]
    goal: float | None


def networks(device: str) -> Iterator[Network]:
    x = inputs(100, 64, device)
    for name, library in installed().items():
        yield Network(name, "100, 64", library.raw, partial(arms, library, x), library.goal)
    for neurons in (100_000, 10_000_000):
        name = f"{neurons:,} leaky integrators"
        yield Network(name, "4, 1", "nn.Parameters", partial(leaking, neurons, 4, 1, device), None)


def _measured(network: Network, measure: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """A row, or what went wrong: it must not cost the other rows, which take a GPU's time too."""
    try:
        return measure()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        return network.name, f"failed: {type(error).__name__}: {reason}"


def ratios(options: Options) -> Table:
    """Training steps: attached over raw."""
    rows = [
        _measured(each, partial(row, *each, options, SECONDS)) for each in networks(options.device)
    ]
    return Table(COLUMNS, rows)


def kernels(options: Options) -> Table:
    """Kernels launched in one training step, and numbers read back, which the CPU waits for."""
    rows = [_measured(each, partial(_counted, each)) for each in networks(options.device)]
    launched = "kernels" if options.device == "cuda" else "operators"
    return Table(
        (
            "network",
            f"{launched}, raw",
            "attached",
            "added",
            "read back, raw",
            "attached",
            "added",
            "goal",
        ),
        rows,
    )


def _counted(network: Network) -> tuple[str, ...]:
    raw, attached = (_profiled(step) for step in network.make().values())
    (launched, read), (launched_attached, read_attached) = raw, attached
    added = read_attached - read
    # On a CPU, where nobody waits, a sum tells after each step whether raw values are finite.
    goal = 0 if torch.cuda.is_available() else None
    return (
        network.name,
        f"{launched:,}",
        f"{launched_attached:,}",
        f"{launched_attached - launched:,}",
        f"{read}",
        f"{read_attached}",
        f"{added}",
        verdict(added, goal),
    )


def _profiled(step: Step) -> tuple[int, int]:
    """Of one step: kernels, or operators on a CPU, and copies to the host, or numbers read."""
    cuda = torch.cuda.is_available()
    for _ in range(WARM):
        step()
    synchronize()
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    with torch.profiler.profile(activities=activities) as seen:
        step()
        synchronize()
    device = DeviceType.CUDA if cuda else DeviceType.CPU
    counts = {
        event.key: event.count
        for event in seen.key_averages()
        if event.device_type == device and not event.is_user_annotation
    }
    if not cuda:
        counts = {name: count for name, count in counts.items() if name.startswith("aten::")}
    reading = "DtoH" if cuda else "_local_scalar_dense"
    return sum(counts.values()), sum(n for name, n in counts.items() if reading in name)
