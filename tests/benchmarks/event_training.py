"""Does training with the event rule work? Digits in latency code, one hidden layer of spikes.

A pixel spikes once, the earlier the brighter it is. The hidden layer is Norse's, with input and,
in one table, recurrent weights; the readout is a leaky integrator, and the largest value over time
of each class is its logit. The learning rate is chosen for each arm on validation data, over all
seeds, and the test data are looked at once.

python -m tests.benchmarks.event_training             # about 15 minutes on one core
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import norse.torch as norse
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from neuroparam import make_trainable
from neuroparam.adjoint import use_adjoint
from tests.benchmarks.measures import Table
from tests.support.inside import EventLIF

HIDDEN, CLASSES, PIXELS, DURATION = 80, 10, 64, 0.03
BATCH = 100
SEEDS = (0, 1, 2)
RATES = (1e-3, 3e-3, 1e-2, 3e-2)


@dataclass(frozen=True)
class Arm:
    """What is trained, and how."""

    rule: str
    trained: bool
    dt: float = 1e-3
    recurrent: bool = False
    decoding: str = "max over time"
    least_slope: float = EventLIF.least_slope
    epochs: int = 40

    def cells(self) -> tuple[str, ...]:
        kind = "recurrent" if self.recurrent else "feed-forward"
        neurons = "trained" if self.trained else "fixed"
        slope = f"{self.least_slope:g}" if self.rule == "event" else ""
        return (kind, self.decoding, f"{self.dt * 1e3:g}", self.rule, neurons, slope)


@dataclass(frozen=True)
class Result:
    """Accuracies after the last epoch in percent, and what went wrong."""

    validation: float
    test: float
    largest_norm: float
    not_finite: int
    silent: float


class Classifier(nn.Module):
    def __init__(self, arm: Arm):
        super().__init__()
        self._arm = arm
        parameters = norse.LIFParameters(
            tau_mem_inv=torch.tensor(100.0), tau_syn_inv=torch.tensor(200.0), v_th=torch.tensor(0.6)
        )
        # The scale at which a neuron spikes a few times, with inputs that are mostly excitatory.
        weights = torch.randn(HIDDEN, PIXELS) * 0.25 + 0.1
        self.hidden: nn.Module
        self.inner: nn.Module
        if arm.recurrent:
            self.hidden = norse.LIFRecurrent(
                PIXELS,
                HIDDEN,
                parameters,
                input_weights=nn.Parameter(weights),
                recurrent_weights=nn.Parameter(torch.randn(HIDDEN, HIDDEN) * 0.05),
                dt=arm.dt,
            )
            self.inner = nn.Identity()
        else:
            self.inner = nn.Linear(PIXELS, HIDDEN, bias=False)
            self.inner.weight.data = weights
            self.hidden = norse.LIF(parameters, dt=arm.dt)
        self.outer = nn.Linear(HIDDEN, CLASSES, bias=False)
        self.outer.weight.data = torch.randn(CLASSES, HIDDEN) / math.sqrt(HIDDEN)
        self.readout = norse.LI(norse.LIParameters(tau_mem_inv=100.0, tau_syn_inv=200.0), dt=arm.dt)
        if arm.trained:
            names = ["tau_mem_inv", "tau_syn_inv", "v_th"]
            make_trainable(self.hidden, names, shape=(HIDDEN,))
        use_adjoint(self.hidden, rule=arm.rule)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spikes, _ = self.hidden(self.inner(x))
        if self._arm.decoding == "count":
            return self.outer(spikes.sum(0)), spikes
        traces, _ = self.readout(self.outer(spikes))
        return 4 * traces.max(0).values, spikes


def _latencies(pixels: Tensor, dt: float) -> Tensor:
    """Spikes of shape (time, batch, pixels), within the first 20 ms."""
    steps = torch.round((1 - pixels) * 0.02 / dt).long()
    spikes = torch.zeros(round(DURATION / dt), *pixels.shape)
    return spikes.scatter_(0, steps[None], 1.0) * (pixels > 0.05)


def _data(dt: float) -> dict[str, tuple[Tensor, Tensor]]:
    digits: Any = load_digits()
    order = torch.randperm(len(digits.data), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(digits.data / 16, dtype=torch.float32)[order]
    labels = torch.tensor(digits.target)[order]
    parts = {"train": slice(0, 1000), "validation": slice(1000, 1300), "test": slice(1300, None)}
    return {name: (_latencies(pixels[p], dt), labels[p]) for name, p in parts.items()}


def train(arm: Arm, rate: float, seed: int) -> Result:
    torch.manual_seed(seed)
    data = _data(arm.dt)
    network = Classifier(arm)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    inputs, labels = data["train"]
    largest, not_finite = 0.0, 0
    with patch.object(EventLIF, "least_slope", arm.least_slope):
        for _ in range(arm.epochs):
            for part in torch.randperm(len(labels)).split(BATCH):
                optimizer.zero_grad()
                logits, _ = network(inputs[:, part])
                nn.functional.cross_entropy(logits, labels[part]).backward()
                norm = float(nn.utils.clip_grad_norm_(network.parameters(), 5.0))
                if not math.isfinite(norm):
                    not_finite += 1
                    continue
                largest = max(largest, norm)
                optimizer.step()
    accuracies = {}
    with torch.no_grad():
        for name in ("validation", "test"):
            logits, spikes = network(data[name][0])
            right = (logits.argmax(1) == data[name][1]).float().mean()
            accuracies[name] = 100 * float(right)
        silent = float((spikes.sum((0, 1)) == 0).float().mean())
    return Result(accuracies["validation"], accuracies["test"], largest, not_finite, silent)


def row(arm: Arm) -> tuple[str, ...]:
    runs = {rate: [train(arm, rate, seed) for seed in SEEDS] for rate in RATES}
    best = max(RATES, key=lambda rate: statistics.mean(r.validation for r in runs[rate]))
    tests = [r.test for r in runs[best]]
    tried = list(itertools.chain(*runs.values()))
    return (
        *arm.cells(),
        f"{best:g}",
        f"{statistics.mean(tests):.1f} ({min(tests):.1f} to {max(tests):.1f})",
        f"{max(r.largest_norm for r in tried):.2g}",
        str(sum(r.not_finite for r in tried)),
        f"{100 * statistics.mean(r.silent for r in runs[best]):.0f}",
    )


COLUMNS = (
    "layer",
    "decoding",
    "dt, ms",
    "rule",
    "neuron parameters",
    "least slope",
    "learning rate",
    "test accuracy, %",
    "largest norm",
    "steps not finite",
    "silent, %",
)


def arms() -> dict[str, list[Arm]]:
    plain = [Arm(rule, trained) for rule in ("surrogate", "event") for trained in (False, True)]
    return {
        "rules": plain,
        "recurrent": [replace(arm, recurrent=True) for arm in plain],
        "counts": [replace(arm, decoding="count") for arm in plain if arm.trained],
        "slopes": [Arm("event", True, least_slope=least) for least in (1e-4, 1e-1, 1.0)],
        "fine": [replace(arm, dt=2e-4, epochs=20) for arm in plain if arm.trained],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(arms()))
    chosen = parser.parse_args().sections or list(arms())
    print(Table(COLUMNS, []), flush=True)
    for name in chosen:
        for arm in arms()[name]:
            print(f"| {' | '.join(row(arm))} |", flush=True)


if __name__ == "__main__":
    main()
