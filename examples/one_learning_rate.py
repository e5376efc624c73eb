"""One learning rate for any unit: time constants of Norse, snnTorch and a module of one's own.

Small spiking networks read scikit-learn's handwritten digits, one row of 8 pixels in two time
steps. They store their time constants as the library does: Norse as a rate 1/tau, snnTorch as a
decay per step, the module of one's own as tau in seconds. Their weights start alike, and train at
the same learning rate. The time constants are

* fixed,
* raw:      plain nn.Parameters,
* clamped:  the same, clamped into their valid range after each step of the optimizer,
* attached: with neuroparam.make_trainable and its defaults,

and train at a multiple of the weights' learning rate, from 0.001 to 100 times.

    python examples/one_learning_rate.py          # about a minute on two cores
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import norse.torch as norse
import snntorch
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from neuroparam import make_trainable, param_groups

ARMS = ("raw", "clamped", "attached")
MULTIPLES = (0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 100.0)
INPUTS, HIDDEN, CLASSES = 8, 32, 10
VALUES = HIDDEN + CLASSES  # time constants in a network
DT = 1e-3  # seconds of a time step
DECAY = 0.9  # of a membrane in a step, at the start
LR, EPOCHS, BATCH = 0.05, 20, 100
GAIN = 4.0  # of the first weights, so that hidden neurons spike from the start


class Network(nn.Module):
    """Rows of an image -> linear -> LIF neurons -> linear -> leaky readouts, read at the end.

    The networks of several seeds are computed as one, with tensors of shape (seeds, batch, ...).
    A subclass has the neurons of one library.
    """

    form: str  # in which the library stores a time constant
    paths: tuple[str, str]  # of the time constants of both layers
    domain: tuple[float, float]
    clamp: tuple[float, float]

    def __init__(self, seeds: list[int], trained: bool):
        super().__init__()
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.first = weights(INPUTS, HIDDEN, draws, GAIN)
        self.second = weights(HIDDEN, CLASSES, draws)
        self.bias = nn.Parameter(torch.zeros(len(seeds), 1, CLASSES))
        decays = (torch.full((len(seeds), 1, n), DECAY) for n in (HIDDEN, CLASSES))
        self.hidden, self.readout = self.layers(*decays, trained)

    def layers(self, hidden: Tensor, readout: Tensor, trained: bool) -> tuple[nn.Module, nn.Module]:
        """The library's LIF neurons and leaky readouts with these decays, trained as Parameters."""
        raise NotImplementedError

    def raw(self) -> list[nn.Parameter]:
        """The time constants, where they are trained as Parameters."""
        return [self.get_parameter(path) for path in self.paths]

    def time_constants(self) -> list[Tensor]:
        """The time constants as they are stored."""
        found = []
        for path in self.paths:
            owner: object = self
            for name in path.split("."):
                owner = getattr(owner, name)
            found.append(owner.detach())
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (seeds, batch, time steps, pixels)."""
        currents = self.given(self.hidden, images @ self.first.unsqueeze(1))
        state, spikes = self.initial(currents[0]), []
        for current in currents:
            spike, state = self.hidden(current, state)
            spikes.append(spike)
        currents = self.given(self.readout, torch.stack(spikes, 2) @ self.second.unsqueeze(1))
        state = self.initial(currents[0])
        for current in currents:
            _, state = self.readout(current, state)
        return self.membrane(state) + self.bias

    def given(self, layer: nn.Module, currents: Tensor) -> tuple[Tensor, ...]:
        """What a layer is given in each time step, so that its membranes gain the currents."""
        return currents.unbind(2)

    def initial(self, current: Tensor) -> object:
        return torch.zeros_like(current)

    def membrane(self, state) -> Tensor:
        return state


def weights(rows: int, columns: int, draws: list[torch.Generator], gain: float = 1.0):
    """One matrix for each seed, drawn as nn.Linear draws."""
    drawn = torch.stack([torch.rand(rows, columns, generator=draw) for draw in draws])
    return nn.Parameter(gain * (2 * drawn - 1) / math.sqrt(rows))


class NorseNetwork(Network):
    """Forward Euler, `v += dt * tau_mem_inv * (input - v)`.

    The input is divided by what it is multiplied with, so that a longer time constant makes the
    membrane remember and not also deaf, as in the other two forms. Resets and surrogate gradients
    are each library's own, so that the networks of the three forms still differ in these.
    """

    form = "1/tau in 1/s (Norse)"
    paths = ("hidden.p.tau_mem_inv", "readout.p.tau_mem_inv")
    domain = (0.0, 1 / DT)  # above, the membrane overshoots
    clamp = (1.0, 1 / DT)

    def layers(self, hidden: Tensor, readout: Tensor, trained: bool) -> tuple[nn.Module, nn.Module]:
        rates = [(1 - decay) / DT for decay in (hidden, readout)]
        if trained:
            rates = [nn.Parameter(rate) for rate in rates]
            # Norse keeps its parameters in a tuple, where no optimizer finds them
            self.rates = nn.ParameterList(rates)
        threshold = torch.tensor(1.0)
        return (
            norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=rates[0], v_th=threshold), dt=DT),
            norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=rates[1]), dt=DT),
        )

    def raw(self) -> list[nn.Parameter]:
        return list(self.rates)

    def given(self, layer: nn.Module, currents: Tensor) -> tuple[Tensor, ...]:
        return (currents / (DT * layer.p.tau_mem_inv).unsqueeze(2)).unbind(2)

    def initial(self, current: Tensor) -> None:
        return None  # Norse begins at rest

    def membrane(self, state) -> Tensor:
        return state.v


class SnnTorchNetwork(Network):
    """`mem = beta * mem + input`, which clamps beta between 0 and 1 as it reads it."""

    form = "decay per step (snnTorch)"
    paths = ("hidden.beta", "readout.beta")
    domain = (0.0, 1.0)
    clamp = (0.0, 0.999)

    def layers(self, hidden: Tensor, readout: Tensor, trained: bool) -> tuple[nn.Module, nn.Module]:
        surrogate = snntorch.surrogate.fast_sigmoid(slope=5)
        return (
            snntorch.Leaky(hidden, spike_grad=surrogate, learn_beta=trained),
            snntorch.Leaky(
                readout, spike_grad=surrogate, learn_beta=trained, reset_mechanism="none"
            ),
        )


class OwnNetwork(Network):
    """`v = exp(-dt / tau) * v + input`."""

    form = "tau in s (own module)"
    paths = ("hidden.tau", "readout.tau")
    domain = (0.0, math.inf)
    clamp = (DT / 5, 10.0)

    def layers(self, hidden: Tensor, readout: Tensor, trained: bool) -> tuple[nn.Module, nn.Module]:
        taus = [-DT / decay.log() for decay in (hidden, readout)]
        if trained:
            taus = [nn.Parameter(tau) for tau in taus]
        return Leaky(taus[0], spikes=True), Leaky(taus[1], spikes=False)


class Leaky(nn.Module):
    """Neurons with a time constant in seconds; they spike above 1, and are reset by 1."""

    def __init__(self, tau: Tensor, spikes: bool):
        super().__init__()
        self.tau = tau
        self.spikes = snntorch.surrogate.fast_sigmoid(slope=5) if spikes else None

    def forward(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = torch.exp(-DT / self.tau) * v + current
        if self.spikes is None:
            return v, v
        spike = self.spikes(v - 1.0)
        return spike, v - spike


LIBRARIES = {"norse": NorseNetwork, "snntorch": SnnTorchNetwork, "own": OwnNetwork}


class Run(NamedTuple):
    """One training, of all seeds at once."""

    library: str
    arm: str
    multiple: float
    seeds: list[int]
    epochs: int


def data() -> list[tuple[Tensor, Tensor]]:
    """1438 training and 359 test images of shape (16, 8), and their labels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 8, 8) / 16
    images = images.repeat_interleave(2, dim=1)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return [(images[index], torch.tensor(labels)[index]) for index in order.split(1438)]


def train(run: Run) -> dict:
    """Test accuracy of each seed, and how many values were ever outside their domain."""
    begin = time.perf_counter()
    (images, labels), test = data()
    network = LIBRARIES[run.library](run.seeds, trained=run.arm in ("raw", "clamped"))
    if run.arm == "attached":
        make_trainable(network, list(network.paths))
    optimizer = torch.optim.Adam(groups(network, run))
    batches = len(labels) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.epochs * batches)
    draws = [torch.Generator().manual_seed(seed) for seed in run.seeds]
    ever = outside(network)
    for _ in range(run.epochs):
        orders = torch.stack([torch.randperm(len(labels), generator=draw) for draw in draws])
        for index in orders[:, : batches * BATCH].split(BATCH, dim=1):
            outputs = network(images[index])
            losses = nn.functional.cross_entropy(
                outputs.flatten(0, 1), labels[index].flatten(), reduction="none"
            ).view(len(run.seeds), -1)
            optimizer.zero_grad()
            # a seed whose network gives NaN must not end the training of those beside it
            torch.where(losses.isfinite(), losses, 0.0).mean(1).sum().backward()
            for parameter in network.parameters():
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()
            if run.arm == "clamped":
                for value in network.raw():
                    value.data.clamp_(*network.clamp)
            ever |= outside(network)
    return {
        **run._asdict(),
        "accuracies": accuracies(network, *test),
        "ever outside": ever.sum(1).tolist(),
        "seconds": time.perf_counter() - begin,
    }


def groups(network: Network, run: Run) -> list[dict]:
    """The weights and the time constants, each with their learning rate."""
    if run.arm in ("fixed", "attached"):
        return param_groups(network, lr=LR, neuron_lr=run.multiple * LR)
    raw = network.raw()
    others = [p for p in network.parameters() if all(p is not r for r in raw)]
    return [{"params": others, "lr": LR}, {"params": raw, "lr": run.multiple * LR}]


def outside(network: Network) -> Tensor:
    """Which time constants are outside their domain, or NaN; of shape (seeds, values)."""
    low, high = network.domain
    values = torch.cat([value.flatten(1) for value in network.time_constants()], dim=1)
    # at 1 / dt a membrane takes its input and forgets the rest, which is still valid
    return ~((values > low) & (values <= high if high == 1 / DT else values < high))


@torch.no_grad()
def accuracies(network: Network, images: Tensor, labels: Tensor) -> list[float]:
    """Percent of the images that each seed classifies correctly."""
    outputs = network(images.expand(len(network.bias), *images.shape))
    right = outputs.nan_to_num(-math.inf).argmax(-1) == labels
    return [round(100 * share, 2) for share in right.float().mean(1).tolist()]


# ---------------------------------------------------------------------------- table, picture


def table(results: list[dict]) -> str:
    """Accuracy and values that left their domain, one column for each multiple."""
    multiples = sorted({r["multiple"] for r in results if r["arm"] != "fixed"})
    lines = ["".join([" " * 34, *(f"{f'x{m:g}':>16}" for m in multiples)])]
    for library, network in LIBRARIES.items():
        (fixed,) = (r for r in results if (r["library"], r["arm"]) == (library, "fixed"))
        lines.append(f"{network.form}, fixed: {spread(fixed['accuracies'])}")
        for arm in ARMS:
            cells = []
            for multiple in multiples:
                found = one(results, library, arm, multiple)
                outside = f"({max(found['ever outside'])})" if arm != "clamped" else ""
                cells.append(f"{spread(found['accuracies'])} {outside:>4}".rjust(16))
            lines.append("".join([f"{'':24}{arm:10}", *cells]))
    return "\n".join(lines)


def one(results: list[dict], library: str, arm: str, multiple: float) -> dict:
    (found,) = (
        r for r in results if (r["library"], r["arm"], r["multiple"]) == (library, arm, multiple)
    )
    return found


def spread(numbers: list[float]) -> str:
    mean = statistics.fmean(numbers)
    return f"{mean:.1f}+-{statistics.stdev(numbers):.1f}" if len(numbers) > 1 else f"{mean:.1f}"


def conclusions(results: list[dict]) -> str:
    """What the numbers show, and what they do not, in a sentence each."""

    def mean(result: dict) -> float:
        return statistics.fmean(result["accuracies"])

    several = {arm: [r for r in results if r["arm"] == arm] for arm in ARMS}
    # the multiple that is best for all three forms together
    multiple = max(
        {r["multiple"] for r in several["attached"]},
        key=lambda m: sum(mean(r) for r in several["attached"] if r["multiple"] == m),
    )
    at = {arm: [one(results, library, arm, multiple) for library in LIBRARIES] for arm in ARMS}
    best = {
        arm: [
            max((r for r in several[arm] if r["library"] == library), key=mean)
            for library in LIBRARIES
        ]
        for arm in ("raw", "clamped")
    }

    def listed(some: list[dict]) -> str:
        return " / ".join(f"{mean(r):.1f}" for r in some)

    outside = max(count for r in several["attached"] for count in r["ever outside"])
    raw_outside = " / ".join(str(max(r["ever outside"])) for r in at["raw"])
    rates = " / ".join(f"x{r['multiple']:g}" for r in best["raw"])
    return (
        f"Shown: at one learning rate, x{multiple:g}, attached values reach "
        f"{listed(at['attached'])} % in the three forms, with at most\n{outside} of {VALUES} "
        f"outside their domain at any learning rate here; raw values reach {listed(at['raw'])} % "
        f"there, with at\nmost {raw_outside} of {VALUES} outside, and clamped ones "
        f"{listed(at['clamped'])} %.\n"
        f"Not shown: that attached values are better than raw or clamped ones whose learning rate "
        f"is tuned for their form;\nraw ones reach {listed(best['raw'])} % at {rates}, clamped "
        f"ones {listed(best['clamped'])} %. {len(results[0]['seeds'])} seeds, and no\nvalidation "
        f"part: the best multiples, x{multiple:g} of the attached arm too, are picked on the test "
        "images, so that\nthese accuracies are a little too high."
    )


COLORS = {"raw": "#c1571b", "clamped": "#7a7a7a", "attached": "#1f6fb4"}


def picture(results: list[dict]) -> Figure:
    """One column for each form: accuracy above, values outside their domain below."""
    figure = Figure(figsize=(9.0, 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 3, sharex=True, sharey="row", height_ratios=(2, 1))
    for column, (library, network) in enumerate(LIBRARIES.items()):
        above, below = panels[:, column]
        above.set_title(network.form, fontsize="medium")
        (fixed,) = (r for r in results if (r["library"], r["arm"]) == (library, "fixed"))
        above.axhline(
            statistics.fmean(fixed["accuracies"]), color="0.4", linestyle=":", label="fixed"
        )
        for arm, marker in zip(ARMS, "s^o", strict=True):
            runs = sorted(
                (r for r in results if (r["library"], r["arm"]) == (library, arm)),
                key=lambda r: r["multiple"],
            )
            multiples = [r["multiple"] for r in runs]
            means = torch.tensor([statistics.fmean(r["accuracies"]) for r in runs])
            deviations = torch.tensor(
                [statistics.stdev(r["accuracies"]) if len(r["seeds"]) > 1 else 0.0 for r in runs]
            )
            style = {"color": COLORS[arm], "marker": marker, "markersize": 4, "linewidth": 1.5}
            above.plot(multiples, means, label=arm, **style)
            above.fill_between(
                multiples, means - deviations, means + deviations, color=COLORS[arm], alpha=0.18,
                linewidth=0,
            )  # fmt: skip
            if arm != "clamped":
                below.plot(multiples, [max(r["ever outside"]) for r in runs], **style)
        below.set_xscale("log")
        below.minorticks_off()
        below.set_ylim(-2, VALUES + 2)
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="0.9")
    panels[0, 0].set_ylabel("test accuracy, %")
    panels[1, 0].set_ylabel(f"time constants ever\ninvalid, of {VALUES}")
    panels[1, 1].set_xlabel("learning rate of the time constants / learning rate of the weights")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    return figure


def one_thread() -> None:
    torch.set_num_threads(1)  # for tensors this small, threads wait longer than they work


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--multiples", type=float, nargs="+", default=list(MULTIPLES))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("one-learning-rate"))
    args = parser.parse_args()
    runs = [Run(name, "fixed", 0.0, args.seeds, args.epochs) for name in LIBRARIES] + [
        Run(name, arm, multiple, args.seeds, args.epochs)
        for name in LIBRARIES
        for arm in ARMS
        for multiple in args.multiples
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, context, initializer=one_thread) as pool:
        results = list(tqdm(pool.map(train, runs), total=len(runs), unit="run", desc="training"))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results))
    picture(results).savefig(args.out / "one-learning-rate.png", dpi=160)
    print(
        f"\nTest accuracy in %, mean +- standard deviation of {len(args.seeds)} seeds; in brackets "
        f"how many of {VALUES} time constants\nwere ever outside their domain, in the worst seed. "
        f"Columns: learning rate of the time constants over that of the\nweights.\n\n"
        f"{table(results)}\n\n{conclusions(results)}\n\n"
        f"picture: {args.out / 'one-learning-rate.png'}, all numbers: {args.out / 'results.json'}"
    )


if __name__ == "__main__":
    main()
