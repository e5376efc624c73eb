"""Trains one arm of an experiment, all of its seeds at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from network import STORAGES, Network
from runs import Runs, best
from tasks import TASKS, Data, Part
from torch import Tensor, nn

from neuroparam import Softplus, make_trainable

BATCH = 100
THRESHOLD_FLOOR = 0.01  # what somebody who clamps thresholds after each step would write


@dataclass(frozen=True)
class Setting:
    """One arm with its seeds. Equal settings give equal results."""

    task: str
    arm: str  # fixed, raw, clamped (raw, and clamped after each step) or attached
    seeds: tuple[int, ...]
    lr: float  # of the weights
    storage: str = "tau"
    multiple: float = 1.0  # learning rate of the neuron values, over that of the weights
    trained: tuple[str, ...] = ("hidden", "readout")  # which values; "threshold" is another
    hidden_tau: float = 10.0  # initial, in time steps
    readout_tau: float = 10.0
    start: str = "equal"  # or log-normal, gamma: how the initial values of a layer differ
    spread: float = 0.0  # standard deviation over mean, in either distribution
    hidden: int = 32
    longer: int = 1  # times the epochs of the task
    weights_over_time: bool = False
    coupled: bool = False  # inputs are multiplied with 1 - decay, over its initial value

    def key(self) -> str:
        """What differs from the defaults, as the name of a result.

        It lacks what is the same for all settings: see Runs.
        """
        given = asdict(self)
        return repr({f.name: given[f.name] for f in fields(self) if given[f.name] != f.default})


def initial_tau(setting: Setting, mean: float, neurons: int, layer: int) -> Tensor:
    """Time constants in steps, (seeds, 1, neurons), around their mean."""
    rows = []
    for seed in setting.seeds:
        draw = torch.Generator().manual_seed(2000 + 2 * seed + layer)
        rows.append(samples(setting.start, setting.spread, neurons, draw))
    return mean * torch.stack(rows)


def samples(start: str, spread: float, neurons: int, draw: torch.Generator) -> Tensor:
    """Positive factors with a mean of 1, of shape (1, neurons)."""
    if start == "equal":
        return torch.ones(1, neurons)
    if start == "log-normal":
        sigma = math.sqrt(math.log(1 + spread**2))
        return torch.exp(sigma * torch.randn(1, neurons, generator=draw) - sigma**2 / 2)
    if start == "gamma":
        shape = 1 / spread**2
        return torch._standard_gamma(torch.full((1, neurons), shape), generator=draw) / shape
    raise ValueError(f"no start {start!r}")


@dataclass
class Value:
    """One neuron value of a network, as the experiment sees it."""

    owner: nn.Module
    name: str
    invalid: Callable[[Tensor], Tensor]
    clamped: tuple[float, float]
    parametrization: Callable[[], nn.Module]

    def now(self) -> Tensor:
        return getattr(self.owner, self.name)


def values_of(network: Network, setting: Setting) -> dict[str, Value]:
    """By path, those values that the setting trains."""
    storage = STORAGES[setting.storage]
    found = {}
    for part in setting.trained:
        if part == "threshold":
            found[part] = Value(
                network,
                part,
                lambda value: ~(value > 0),
                (THRESHOLD_FLOOR, math.inf),
                Softplus,
            )
        elif part == "hidden" or not setting.weights_over_time:
            found[f"{part}.value"] = Value(
                getattr(network, part),
                "value",
                storage.invalid,
                storage.clamped,
                storage.parametrization,
            )
    return found


def neuron_parameters(network: Network, values: dict[str, Value], arm: str) -> list[nn.Parameter]:
    """Makes the values trainable in the way of the arm."""
    if arm == "fixed":
        return []
    if arm == "attached":
        weights = {id(parameter) for parameter in network.parameters()}
        make_trainable(network, {path: v.parametrization() for path, v in values.items()})
        return [p for p in network.parameters() if id(p) not in weights]
    parameters = []
    for value in values.values():
        parameter = nn.Parameter(value.now().clone())
        delattr(value.owner, value.name)
        value.owner.register_parameter(value.name, parameter)
        parameters.append(parameter)
    return parameters


def build(setting: Setting, data: Data) -> Network:
    training = data["training"]
    classes = int(training.labels.max()) + 1
    steps, inputs = training.inputs.shape[1:]
    return Network(
        setting.seeds,
        (inputs, setting.hidden, classes),
        setting.storage,
        initial_tau(setting, setting.hidden_tau, setting.hidden, 0),
        initial_tau(setting, setting.readout_tau, classes, 1),
        TASKS[setting.task].gain,
        steps if setting.weights_over_time else None,
        setting.coupled,
    )


def train(setting: Setting, folder: Path | None) -> dict[str, Any]:
    """Trains the networks of a setting; returns accuracies and invalid values, seed by seed."""
    begin = time.perf_counter()
    task = TASKS[setting.task]
    data = task.load(folder)
    inputs, labels = data["training"].inputs, data["training"].labels
    network = build(setting, data)
    values = values_of(network, setting)
    neurons = neuron_parameters(network, values, setting.arm)
    known = {id(parameter) for parameter in neurons}
    weights = [p for p in network.parameters() if id(p) not in known]
    groups: list[dict[str, Any]] = [{"params": weights, "lr": setting.lr}]
    if neurons:
        groups.append({"params": neurons, "lr": setting.lr * setting.multiple})
    optimizer = torch.optim.Adam(groups)
    batches = len(labels) // BATCH
    steps = task.epochs * setting.longer * batches
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draws = [torch.Generator().manual_seed(seed) for seed in setting.seeds]
    seeds = len(setting.seeds)
    ever = {path: value.invalid(value.now().detach()) for path, value in values.items()}
    failed = torch.zeros(seeds, dtype=torch.bool)

    for _ in range(task.epochs * setting.longer):
        order = torch.stack([torch.randperm(len(labels), generator=draw) for draw in draws])
        for index in order[:, : batches * BATCH].split(BATCH, dim=1):
            outputs = network(inputs[index].transpose(1, 2))
            losses = nn.functional.cross_entropy(
                outputs.flatten(0, 1), labels[index].flatten(), reduction="none"
            )
            losses = losses.view(seeds, BATCH).mean(1)
            failed |= ~losses.isfinite()
            optimizer.zero_grad()
            torch.where(losses.isfinite(), losses, 0.0).sum().backward()
            if setting.arm in ("raw", "clamped"):
                # one seed that fails must not end the others
                for parameter in network.parameters():
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()
            if setting.arm == "clamped":
                with torch.no_grad():
                    for value in values.values():
                        value.now().clamp_(*value.clamped)
            if setting.arm != "fixed":
                for path, value in values.items():
                    ever[path] |= value.invalid(value.now().detach())

    return {
        "key": setting.key(),
        "validation": accuracy(network, data["validation"]),
        "test": accuracy(network, data["test"]),
        "values": sum(mask[0].numel() for mask in ever.values()),
        "ever invalid": per_seed(ever),
        "invalid at the end": per_seed(
            {path: value.invalid(value.now().detach()) for path, value in values.items()}
        ),
        "NaN": failed.tolist(),
        "seconds": round(time.perf_counter() - begin, 2),
    }


def per_seed(masks: dict[str, Tensor]) -> list[int]:
    return torch.stack([mask.flatten(1).sum(1) for mask in masks.values()]).sum(0).tolist()


@torch.no_grad()
def accuracy(network: Network, part: Part) -> list[float]:
    """Percent of the examples that are classified correctly, for each seed."""
    seeds = len(network.bias)
    right = torch.zeros(seeds)
    for inputs, labels in zip(part.inputs.split(500), part.labels.split(500), strict=True):
        outputs = network(inputs.transpose(0, 1).expand(seeds, -1, -1, -1))
        right += (outputs.nan_to_num(-math.inf).argmax(-1) == labels).sum(1)
    return [round(100 * share, 2) for share in (right / len(part.labels)).tolist()]


def chosen(
    runs: Runs, settings: Iterable[Setting], tuning: tuple[int, ...], final: tuple[int, ...]
) -> Setting:
    """The best setting on the validation part with the tuning seeds, with the final seeds."""
    some = [replace(setting, seeds=tuning) for setting in settings]
    return replace(some[best(runs(some, train))], seeds=final)


def plain(
    task: str,
    rates: Iterable[float],
    taus: Iterable[float],
    hidden: int = 32,
    coupled: bool = False,
) -> list[Setting]:
    """Fixed arms with one time constant for all neurons, to choose from."""
    return [
        Setting(
            task, "fixed", (), lr, hidden_tau=tau, readout_tau=tau, hidden=hidden, coupled=coupled
        )
        for lr in rates
        for tau in taus
    ]
