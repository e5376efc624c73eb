"""The adjoint of Norse's layers on latency-coded digits: accuracy, time and memory.

Each pixel of scikit-learn's handwritten digits spikes once, a bright one early, in a sequence of
100 steps of 1 ms. A recurrent layer of 100 LIF neurons of Norse reads them. The membrane and
synaptic time constants and the threshold of each neuron train, attached with
neuroparam.make_trainable and its defaults. `v_leak` and `v_reset` stay: Norse wants one `v_leak`
for a layer, and there is no default for `v_reset`. The same training runs for each seed with

* Norse:    the code of Norse, and autograd,
* adjoint:  neuroparam.adjoint.use_adjoint(network),
* lean:     neuroparam.adjoint.use_adjoint(network, lean=True),

from the same weights and through the same batches. What differs is who computes the gradients of
the hidden layer, so that the arms are equal but for rounding. It may flip a spike, and then grows.
Time is that of the processor in training alone. Memory is resident memory on Linux, the median of
three training steps, each in a process of its own. With autograd it is two to three times what
torch asks for, because the free memory between many small tensors is of little use. Where each
tensor has pages of its own (MALLOC_MMAP_THRESHOLD_=16384 with glibc), it is nearly what torch asks
for, and the arms differ less.

Nothing was tuned on the test images, which are looked at only. The settings were tried out on
the last 238 training images, with the others to train on; the number of epochs is what fits in
the time.

    python examples/adjoint.py             # less than 3 minutes of one core
    python examples/adjoint.py --memory    # memory of a layer for 10 to 10,000 time steps
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import norse.torch as norse
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from neuroparam import make_trainable, param_groups
from neuroparam.adjoint import use_adjoint

ARMS = ("Norse", "adjoint", "lean")
PIXELS, HIDDEN, CLASSES = 64, 100, 10
STEPS, LATEST = 100, 60  # time steps of an image; that of the spike of a black pixel
DARK = 0.1  # a darker pixel does not spike
DT, TAU_MEM, TAU_SYN = 1e-3, 30e-3, 10e-3  # seconds; the time constants at the start
THRESHOLD = 0.5  # at the start
# of the first weights, so that the hidden neurons spike and hardly hear each other; of the outputs
INPUT_GAIN, RECURRENT_GAIN, OUTPUT_GAIN = 4.0, 0.1, 10.0
BATCH, EPOCHS, LR = 64, 14, 1e-2
# The gradient goes through each recurrent weight in each time step, and explodes where they grow.
RECURRENT_LR = 3e-4
# of --memory
LAYER_BATCH, TIMES, MOST = 64, (10, 30, 100, 300, 1000, 3000, 10_000), 2e9  # bytes
QUICK_TIMES = (10, 100)
PROCESSES = 3  # that measure the same


class Network(nn.Module):
    """Spikes -> recurrent LIF neurons -> linear -> leaky readouts, averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = norse.LIFRecurrent(
            PIXELS,
            HIDDEN,
            norse.LIFParameters(1 / TAU_SYN, 1 / TAU_MEM, v_th=torch.tensor(THRESHOLD)),
            input_weights=weights(HIDDEN, PIXELS, INPUT_GAIN),
            recurrent_weights=weights(HIDDEN, HIDDEN, RECURRENT_GAIN),
            dt=DT,
        )
        self.linear = nn.Linear(HIDDEN, CLASSES, bias=False)
        self.readout = norse.LI(dt=DT)

    def forward(self, spikes: Tensor) -> Tensor:
        """Spikes of shape (time, images, pixels)."""
        spikes, _ = self.hidden(spikes)
        voltages, _ = self.readout(self.linear(spikes))
        return OUTPUT_GAIN * voltages.mean(dim=0)


def weights(rows: int, columns: int, gain: float) -> nn.Parameter:
    return nn.Parameter(gain * torch.randn(rows, columns) / columns**0.5)


def build(arm: str, seed: int) -> tuple[Network, torch.optim.Optimizer]:
    """The network of an arm, whose neurons train, and its optimizer."""
    torch.manual_seed(seed)  # the same weights in every arm
    network = Network()
    names = ("tau_mem_inv", "tau_syn_inv", "v_th")
    make_trainable(network, [f"hidden.p.{name}" for name in names], shape=(HIDDEN,))
    if arm != "Norse":
        use_adjoint(network, lean=arm == "lean")
    recurrent = network.hidden.recurrent_weights
    groups = param_groups(network, lr=LR)
    for group in groups:
        group["params"] = [p for p in group["params"] if p is not recurrent]
    groups.append({"params": [recurrent], "lr": RECURRENT_LR})
    return network, torch.optim.Adam(groups)


def data() -> list[tuple[Tensor, Tensor]]:
    """1438 training and 359 test images of 64 pixels from 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32) / 16
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return [(images[index], torch.tensor(labels)[index]) for index in order.split(1438)]


def latency(images: Tensor) -> Tensor:
    """One spike of each pixel that is not dark, of shape (time, images, pixels)."""
    steps = ((1 - images) * LATEST).round().long()
    spikes = torch.zeros(STEPS, *images.shape).scatter_(0, steps[None], 1.0)
    return spikes * (images > DARK)


# ---------------------------------------------------------------------------- training


def train(arm: str, seed: int, epochs: int) -> dict:
    """Test accuracy after each epoch, and the processor time of the training alone."""
    (images, labels), test = data()
    network, optimizer = build(arm, seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    draw = torch.Generator().manual_seed(seed)
    accuracies, seconds = [], 0.0
    for _ in range(epochs):
        begin = time.process_time()
        for index in torch.randperm(len(labels), generator=draw).split(BATCH):
            spikes = latency(images[index])
            update(optimizer, lambda x=spikes, y=labels[index]: loss(network, x, y))
        seconds += time.process_time() - begin
        schedule.step()
        accuracies.append(accuracy(network, *test))
    return {"arm": arm, "seed": seed, "accuracies": accuracies, "seconds": seconds}


def loss(network: Network, spikes: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(spikes), labels)


def update(optimizer: torch.optim.Optimizer, forward: Callable[[], Tensor]) -> None:
    """One training step."""
    optimizer.zero_grad()
    forward().backward()
    optimizer.step()


@torch.no_grad()
def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    """Percent of the images that are classified correctly."""
    right = network(latency(images)).argmax(-1) == labels
    return 100 * right.float().mean().item()


# ---------------------------------------------------------------------------- memory


class Job(NamedTuple):
    """Whose memory to measure: of the whole network on digits, or of the hidden layer alone."""

    arm: str
    steps: int = STEPS
    batch: int = BATCH
    layer: bool = False


def measured(job: Job, processes: int) -> dict:
    """The memory of one training step, in so many new processes; the median of the peaks."""
    found = []
    for _ in range(processes):
        with multiprocessing.get_context("spawn").Pool(1, one_thread) as pool:
            found.append(pool.apply(measure, (job,)))
    peaks = sorted(r["peak"] for r in found if r["peak"] is not None)
    peak = statistics.median(peaks) if peaks else None
    return {**found[0], "peak": peak, "peaks": peaks}


def measure(job: Job) -> dict:
    """Bytes that the graph keeps, and by which the resident memory grows at its peak."""
    network, optimizer = build(job.arm, seed=0)
    spikes, forward = layer_alone(network, job) if job.layer else digits(network, job)
    update(optimizer, lambda: forward(spikes[:2]))  # what a first step allocates
    peak = peak_memory(lambda: update(optimizer, lambda: forward(spikes)))
    saved = saved_bytes(lambda: forward(spikes), [spikes, *network.parameters()])
    unit = spikes[..., 0].numel() * HIDDEN * spikes.element_size()
    return {**job._asdict(), "saved": saved, "peak": peak, "units": saved / unit}


def digits(network: Network, job: Job) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    images, labels = (each[: job.batch] for each in data()[0])
    return latency(images), lambda spikes: loss(network, spikes, labels)


def layer_alone(network: Network, job: Job) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The hidden layer, and a linear readout without memory, through which a gradient comes."""
    draw = torch.Generator().manual_seed(0)
    spikes = (torch.rand(job.steps, job.batch, PIXELS, generator=draw) < 0.01).float()
    return spikes, lambda spikes: network.linear(network.hidden(spikes)[0]).square().mean()


def peak_memory(step: Callable[[], None]) -> int | None:
    """By how many bytes the resident memory grows at most during a step; None if unknown."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)  # free memory, which a step would use again unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
        highest = resident
    except OSError:
        import resource

        def highest() -> int:
            return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = highest()
    step()
    return highest() - before


def resident() -> int:
    """The highest number of resident bytes since it was last reset."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def saved_bytes(forward: Callable[[], Tensor], known: list[Tensor]) -> int:
    """Bytes of the tensors that the graph keeps, each memory counted once, without known ones."""
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    for tensor in known:
        found.pop(tensor.untyped_storage().data_ptr(), None)
    del output  # until here it holds what was saved, so that no memory is used again
    return sum(found.values())


def memory_over_time(times: tuple[int, ...], processes: int) -> list[dict]:
    """The layer's memory in each arm, up to where a training step would need more than MOST."""
    results = []
    for arm in ARMS:
        of_one_step = 0.0
        for steps in tqdm(times, unit="length", desc=arm):
            if of_one_step * steps > MOST:
                tqdm.write(f"{arm}, {steps} steps: not measured, would take too much memory")
                continue
            found = measured(Job(arm, steps, LAYER_BATCH, layer=True), processes)
            results.append(found)
            of_one_step = (found["peak"] or found["saved"]) / steps
    return results


# ---------------------------------------------------------------------------- tables, pictures


def of(results: list[dict], arm: str) -> list[dict]:
    return [r for r in results if r["arm"] == arm]


def final(runs: list[dict]) -> list[float]:
    return [r["accuracies"][-1] for r in runs]


def seconds(runs: list[dict]) -> float:
    return statistics.fmean(r["seconds"] for r in runs)


def megabytes(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e6:.1f}"


def peak_range(memory: dict) -> str:
    """The median of the peaks, and the least and the greatest."""
    if memory["peak"] is None:
        return "-"
    least, most = megabytes(memory["peaks"][0]), megabytes(memory["peaks"][-1])
    return f"{megabytes(memory['peak'])} ({least} to {most})"


def table(runs: list[dict], memory: list[dict]) -> str:
    """One line for each arm."""
    lines = [
        f"{'':8}{'test accuracy, % (range)':>26}{'training, s (ratio)':>21}"
        f"{'peak memory, MB (range)':>27}{'saved, units':>14}"
    ]
    norse_seconds = seconds(of(runs, "Norse"))
    for arm in ARMS:
        found, (kept,) = of(runs, arm), of(memory, arm)
        shares = final(found)
        range_ = f"{statistics.fmean(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})"
        taken = f"{seconds(found):.1f} ({seconds(found) / norse_seconds:.2f})"
        lines.append(f"{arm:8}{range_:>26}{taken:>21}{peak_range(kept):>27}{kept['units']:>14.2f}")
    return "\n".join(lines)


def distances(runs: list[dict], arms: tuple[str, ...] = ARMS) -> list[float]:
    """How far the curves of the arms lie apart, in points, for each seed and epoch."""
    curves = zip(*([r["accuracies"] for r in of(runs, arm)] for arm in arms), strict=True)
    return [max(each) - min(each) for seed in curves for each in zip(*seed, strict=True)]


def apart(runs: list[dict]) -> str:
    """How far the curves of the arms lie apart, in a line."""
    found, shares = distances(runs), final(of(runs, "Norse"))
    equal = sum(distance == 0 for distance in found)
    return (
        f"The accuracy curves of the three arms lie at most {max(found):.1f} points apart, on "
        f"average {statistics.fmean(found):.1f}, over all epochs and seeds;\nthey are equal after "
        f"{equal} of {len(found)} epochs. Norse's seeds end up to {max(shares) - min(shares):.1f} "
        f"points apart."
    )


def memory_table(results: list[dict]) -> str:
    lines = [
        f"{'':8}{'time steps':>11}{'saved, MB':>12}{'saved, units':>15}{'peak, MB (range)':>27}"
    ]
    for r in results:
        lines.append(
            f"{r['arm']:8}{r['steps']:11}{megabytes(r['saved']):>12}{r['units']:15.2f}"
            f"{peak_range(r):>27}"
        )
    return "\n".join(lines)


COLORS = {"Norse": "#7a7a7a", "adjoint": "#1f6fb4", "lean": "#c1571b"}
LINES = {"Norse": (5.0, "-"), "adjoint": (2.2, "-"), "lean": (1.3, (0, (4, 3)))}


def picture(runs: list[dict], memory: list[dict]) -> Figure:
    """Accuracy over the epochs on the left; time and memory on the right."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained", facecolor="white")
    left, middle, right = figure.subplots(1, 3, width_ratios=(2.6, 1, 1))
    for arm in ARMS:
        curves = torch.tensor([r["accuracies"] for r in of(runs, arm)])
        epochs = range(1, curves.shape[1] + 1)
        width, dashes = LINES[arm]
        left.plot(
            epochs, curves.mean(0), color=COLORS[arm], linewidth=width, linestyle=dashes, label=arm
        )
        left.fill_between(
            epochs, curves.min(0).values, curves.max(0).values, color=COLORS[arm], alpha=0.12,
            linewidth=0,
        )  # fmt: skip
    left.set_xlabel("epoch")
    left.set_ylabel("test accuracy, %")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(loc="lower right", frameon=False)
    left.set_title(f"mean and range, {len(of(runs, 'Norse'))} seed(s)", fontsize="medium")
    bars(middle, {arm: seconds(of(runs, arm)) for arm in ARMS}, "processor time, s")
    peaks = {r["arm"]: r["peak"] for r in memory}
    if None not in peaks.values():
        bars(right, {arm: peaks[arm] / 1e6 for arm in ARMS}, "peak memory, MB")
    else:
        right.set_axis_off()
    plain(left, middle, right)
    return figure


def bars(axes: Axes, heights: dict[str, float], title: str) -> None:
    """One bar for each arm, with its number."""
    drawn = axes.bar(
        list(heights), list(heights.values()), color=[COLORS[arm] for arm in heights], width=0.65
    )
    axes.bar_label(drawn, fmt="%.1f", padding=2)
    axes.margins(y=0.12)
    axes.set_title(title, fontsize="medium")


def plain(*panels: Axes) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)


def memory_picture(results: list[dict]) -> Figure:
    """What the graph keeps, and the peak of a training step, against the number of time steps."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    titles = ("kept by the graph", "peak of a training step")
    longest = max(r["steps"] for r in results)
    for axes, key, title in zip(panels, ("saved", "peak"), titles, strict=True):
        for arm, marker in zip(ARMS, "s^o", strict=True):
            found = [r for r in of(results, arm) if r[key]]
            times, sizes = [r["steps"] for r in found], [r[key] / 1e6 for r in found]
            style = {"color": COLORS[arm], "linewidth": 1.5}
            axes.loglog(
                times, sizes, label=f"{arm}, measured", marker=marker, markersize=5, **style
            )
            if times and times[-1] < longest:  # each step takes as much as those before
                beyond = sizes[-1] * longest / times[-1]
                axes.loglog(
                    [times[-1], longest], [sizes[-1], beyond], linestyle=":",
                    label=f"{arm}, extrapolated", **style,
                )  # fmt: skip
            if key == "peak":
                least, most = ([r["peaks"][i] / 1e6 for r in found] for i in (0, -1))
                axes.vlines(times, least, most, color=COLORS[arm], linewidth=1.0)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("time steps")
    panels[0].set_ylabel("MB")
    plain(*panels)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    return figure


def one_thread() -> None:
    torch.set_num_threads(1)  # for tensors this small, threads wait longer than they work


def save(out: Path, name: str, figure: Figure, results: dict) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(results))
    figure.savefig(out / f"{name}.png", dpi=160)
    print(f"\npicture: {out / name}.png, all numbers: {out / name}.json")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=Path("adjoint"))
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs: seconds")
    parser.add_argument("--memory", action="store_true", help="memory over time; no training")
    args = parser.parse_args()
    one_thread()
    processes = 1 if args.quick else PROCESSES
    if args.memory:
        results = memory_over_time(QUICK_TIMES if args.quick else TIMES, processes)
        print(
            f"\nMemory of a training step of the hidden layer alone, batch {LAYER_BATCH}, {HIDDEN} "
            f"neurons. A unit is the size of its spikes.\n\n{memory_table(results)}"
        )
        save(args.out, "memory", memory_picture(results), {"memory": results})
        return
    seeds, epochs = ([0], 2) if args.quick else (args.seeds, args.epochs)
    memory = [measured(Job(arm), processes) for arm in ARMS]
    pairs = [(arm, seed) for seed in seeds for arm in ARMS]
    runs = [train(*pair, epochs) for pair in tqdm(pairs, unit="run", desc="training")]
    print(
        f"\n{len(seeds)} seed(s), {epochs} epochs, batches of {BATCH}. Peak memory is above what "
        f"was in use before a training step. Saved is\nwhat the graph keeps, without input and "
        f"parameters; a unit is the size of the hidden layer's spikes.\n\n"
        f"{table(runs, memory)}\n\n{apart(runs)}"
    )
    save(args.out, "adjoint", picture(runs, memory), {"runs": runs, "memory": memory})


if __name__ == "__main__":
    main()
