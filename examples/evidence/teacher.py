"""Whether trained time constants find those of a teacher: a spiking network, and single filters.

First, 32 LIF neurons hear spoken digits as spikes: a mel band spikes where it has risen, or fallen,
by a threshold since its last spike. A teacher's time constants are log-uniform from 2 to 50 steps.
The student starts from the teacher's weights with noise and from equal time constants, and learns
the teacher's spike trains, low-pass filtered. Weights are trained in every arm. Their learning rate
and the initial time constant are tuned for the fixed arm, and the multiples of raw arms that say
so, on the validation part with other seeds; the test part is only reported.

Second, exponential filters of 1 to 100 ms are to be found from 20 ms by their response to noise.

    python examples/evidence/teacher.py --data DIR       # four minutes on two cores
    python examples/evidence/teacher.py --quick          # a minute, without data
    python examples/evidence/teacher.py --out examples/evidence/results    # the tables of the guide
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from network import DT, STORAGES, Network, Storage
from runs import Result, Runs, arguments, best
from tables import comparison_table, failures, paired, report, spread, table
from tasks import PARTS, spoken
from torch import Tensor, nn
from training import Value, neuron_parameters

from neuroparam import make_trainable

Inputs = dict[str, Tensor]  # part -> spikes of shape (utterances, frames, channels)

HIDDEN, BATCH = 32, 50
GAIN = 8.0  # of the teacher's weights: it then spikes in about every sixth frame
NOISE = 0.5  # of the student's first weights, over the teacher's
SHORTEST, LONGEST = 2.0, 50.0  # time constants of the teacher in steps
LOW_PASS = 4.0  # steps
MOVE = 0.1  # of a mel band, for a spike
SIZES = {"training": 800, "validation": 200, "test": 400}


def named(setting: Any) -> str:
    """The name of a result: the experiment, and what differs from its defaults."""
    given = asdict(setting)
    differs = {f.name: given[f.name] for f in fields(setting) if given[f.name] != f.default}
    return f"{type(setting).__name__} {differs!r}"


# --------------------------------------------------------------------------- teacher and student


@dataclass(frozen=True)
class Student:
    """One arm with its seeds, each of which has a teacher of its own."""

    arm: str  # fixed, raw or attached
    seeds: tuple[int, ...]
    lr: float  # of the weights
    storage: str = "tau"
    multiple: float = 1.0  # learning rate of the time constants, over that of the weights
    tau: float = 10.0  # at the start, in steps
    start: str = "equal"  # or other draws from the teacher's distribution, or the teacher's own
    source: str = "spoken"  # or random spikes
    epochs: int = 10

    def key(self) -> str:
        return named(self)


def moves(features: Tensor, threshold: float = MOVE) -> Tensor:
    """An on or an off spike where a band moved by a threshold since its last spike.

    From (utterances, frames, bands) to twice as many channels, on before off. Before the first
    frame there is silence, 0.
    """
    last = torch.zeros_like(features[:, 0])
    spikes = []
    for frame in features.unbind(1):
        up, down = frame - last >= threshold, last - frame >= threshold
        last = torch.where(up | down, frame, last)
        spikes.append(torch.cat([up, down], dim=-1))
    return torch.stack(spikes, dim=1).float()


@cache
def inputs_of(source: str, folder: Path | None) -> Inputs:
    """What teacher and student hear."""
    draw = torch.Generator().manual_seed(0)
    if source == "random":
        return {name: (torch.rand(100, 50, 40, generator=draw) < 0.08).float() for name in PARTS}
    found = {}
    for name, part in spoken(folder).items():
        index = torch.randperm(len(part.inputs), generator=draw)[: SIZES[name]]
        found[name] = moves(part.inputs[index])
    return found


def drawn(seeds: Sequence[int], first: int) -> Tensor:
    """Log-uniform time constants in steps, (seeds, 1, neurons)."""
    draws = [torch.Generator().manual_seed(first + seed) for seed in seeds]
    shares = torch.stack([torch.rand(1, HIDDEN, generator=draw) for draw in draws])
    return SHORTEST * (LONGEST / SHORTEST) ** shares


def pair(setting: Student, channels: int) -> tuple[Network, Network]:
    """The teachers and the students of all seeds."""
    seeds, sizes = setting.seeds, (channels, HIDDEN, 1)
    own, readout = drawn(seeds, 5000), torch.full((len(seeds), 1, 1), 10.0)
    teacher = Network(seeds, sizes, setting.storage, own, readout, GAIN)
    tau = {
        "equal": torch.full_like(own, setting.tau),
        "other draws": drawn(seeds, 7000),
        "the teacher's": own,
    }[setting.start]
    student = Network(seeds, sizes, setting.storage, tau, readout, GAIN)
    draws = [torch.Generator().manual_seed(6000 + seed) for seed in seeds]
    noise = torch.stack([torch.randn(channels, HIDDEN, generator=draw) for draw in draws])
    with torch.no_grad():
        student.first.mul_(1 + NOISE * noise)
    return teacher, student


def filtered(network: Network, inputs: Tensor) -> Tensor:
    """Hidden spike trains after a leaky integrator, all (seeds, frames, utterances, channels)."""
    spikes = network.spikes(inputs)
    frames = torch.arange(spikes.shape[1])
    age = frames.unsqueeze(1) - frames
    kernel = torch.where(age >= 0, (1 - 1 / LOW_PASS) ** age.clamp(min=0), 0.0)
    return torch.matmul(kernel, spikes.flatten(2)).view_as(spikes)


@torch.no_grad()
def responses(network: Network, inputs: Tensor) -> Tensor:
    """The same for a whole part, as (seeds, utterances, frames, neurons)."""
    seeds = len(network.first)
    several = [
        filtered(network, some.transpose(0, 1).expand(seeds, -1, -1, -1)).transpose(1, 2)
        for some in inputs.split(100)
    ]
    return torch.cat(several, dim=1)


def variance(target: Tensor) -> Tensor:
    """Of each seed's target, around the mean of each neuron."""
    return target.flatten(1, 2).var(dim=1, correction=0).mean(-1)


def explained(network: Network, inputs: Tensor, target: Tensor) -> list[float]:
    """R² of each seed."""
    error = (responses(network, inputs) - target).square().flatten(1).mean(1)
    return [round(r, 5) for r in (1 - error / variance(target)).tolist()]


@torch.no_grad()
def log_errors(student: Network, teacher: Network, storage: Storage) -> list[float | None]:
    """Root mean square error of ln tau for each seed, over the values that are valid at the end.

    In every storage tau is 1 / (1 - decay) steps here.
    """
    steps = [-torch.log(1 - network.hidden()) for network in (student, teacher)]
    square = (steps[0] - steps[1]).square()
    valid = ~storage.invalid(student.hidden.value) & square.isfinite()
    pairs = zip(square, valid, strict=True)
    return [round(s[v].mean().sqrt().item(), 4) if v.any() else None for s, v in pairs]


def learn(setting: Student, folder: Path | None) -> Result:
    """Trains the students of a setting; returns R² and invalid values, seed by seed."""
    begin = time.perf_counter()
    inputs = inputs_of(setting.source, folder)
    training = inputs["training"]
    teacher, student = pair(setting, training.shape[-1])
    targets = {name: responses(teacher, part) for name, part in inputs.items()}
    target, scale = targets["training"], variance(targets["training"])
    storage, weights = STORAGES[setting.storage], student.first
    value = Value(
        student.hidden,
        "value",
        storage.invalid,
        storage.clamped,
        storage.parametrization,
    )
    neurons = neuron_parameters(student, {"hidden.value": value}, setting.arm)
    groups: list[dict[str, Any]] = [{"params": [weights], "lr": setting.lr}]
    if neurons:
        groups.append({"params": neurons, "lr": setting.lr * setting.multiple})
    optimizer = torch.optim.Adam(groups)
    batches = len(training) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.epochs * batches)
    draws = [torch.Generator().manual_seed(seed) for seed in setting.seeds]
    rows = torch.arange(len(setting.seeds)).unsqueeze(1)
    ever = value.invalid(value.now().detach())
    failed = torch.zeros(len(setting.seeds), dtype=torch.bool)

    for _ in range(setting.epochs):
        order = torch.stack([torch.randperm(len(training), generator=draw) for draw in draws])
        for index in order[:, : batches * BATCH].split(BATCH, dim=1):
            outputs = filtered(student, training[index].transpose(1, 2)).transpose(1, 2)
            losses = (outputs - target[rows, index]).square().flatten(1).mean(1) / scale
            failed |= ~losses.isfinite()
            optimizer.zero_grad()
            torch.where(losses.isfinite(), losses, 0.0).sum().backward()
            if setting.arm == "raw":
                # one seed that fails must not end the others
                for parameter in (weights, *neurons):
                    failed |= ~parameter.grad.flatten(1).isfinite().all(1)
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()
            if setting.arm != "fixed":
                ever |= value.invalid(value.now().detach())

    return {
        "key": setting.key(),
        "validation": explained(student, inputs["validation"], targets["validation"]),
        "test": explained(student, inputs["test"], targets["test"]),
        "log errors": log_errors(student, teacher, storage),
        "ever invalid": ever.flatten(1).sum(1).tolist(),
        "invalid at the end": value.invalid(value.now().detach()).flatten(1).sum(1).tolist(),
        "NaN": failed.tolist(),
        "teacher's rate": round(spike_rate(teacher, inputs["validation"]), 4),
        "seconds": round(time.perf_counter() - begin, 2),
    }


@torch.no_grad()
def spike_rate(network: Network, inputs: Tensor) -> float:
    """Spikes per neuron and frame."""
    seeds = len(network.first)
    return network.spikes(inputs.transpose(0, 1).expand(seeds, -1, -1, -1)).mean().item()


# ------------------------------------------------------------------------------------- recovery

SAMPLES, TEACHERS, FIRST, CLOSE = 512, 21, 20e-3, 0.01
ARMS = {
    "raw tau, s": ("raw", "tau", 1.0),
    "raw tau, ms": ("raw", "tau", 1e-3),
    "raw 1/tau, 1/s": ("raw", "1/tau", 1.0),
    "raw decay": ("raw", "decay", 1.0),
    "attached tau": ("attached", "tau", 1.0),
    "attached 1/tau": ("attached", "1/tau", 1.0),
    "attached decay": ("attached", "decay", 1.0),
}


@dataclass(frozen=True)
class Recovery:
    """Filters, one for each teacher, that learn its time constant."""

    name: str  # of the arm
    lr: float
    steps: int = 2000

    def key(self) -> str:
        return named(self)


class Filters(nn.Module):
    """Exponential filters y(t) = a y(t - 1) + (1 - a) x(t), whose a is stored in some form.

    Args:
        storage: of the time constants.
        tau: of each filter, in seconds.
        unit: of the stored value, over the SI unit.
    """

    def __init__(self, storage: str, tau: Tensor, unit: float = 1.0):
        super().__init__()
        self.storage, self.unit = STORAGES[storage], unit
        self.value = self.storage.stored(torch.exp(-DT / tau)) / unit

    def kernels(self) -> Tensor:
        """Impulse responses, (filters, samples)."""
        decay = self.storage.decay(self.value * self.unit).unsqueeze(-1)
        return (1 - decay) * decay ** torch.arange(SAMPLES, dtype=decay.dtype)

    @torch.no_grad()
    def tau(self) -> Tensor:
        """The time constants of the decays, in seconds."""
        return -DT / torch.log(self.storage.decay(self.value * self.unit))


def response(kernels: Tensor, inputs: Tensor) -> Tensor:
    """Exact convolutions: padded, they do not wrap around."""
    spectra = torch.fft.rfft(kernels, 2 * SAMPLES) * torch.fft.rfft(inputs, 2 * SAMPLES)
    return torch.fft.irfft(spectra, 2 * SAMPLES)[..., :SAMPLES]


def recover(setting: Recovery, folder: Path | None) -> Result:
    """Trains the filters; says from which step on each was close to its teacher, to the end.

    One teacher is within 1 % of where the students start. A raw decay is read clamped, as in
    STORAGES.
    """
    begin = time.perf_counter()
    arm, storage, unit = ARMS[setting.name]
    goal = torch.logspace(-3, -1, TEACHERS, dtype=torch.float64)
    target = Filters(storage, goal).kernels()
    students = Filters(storage, torch.full_like(goal, FIRST), unit)
    if arm == "attached":
        make_trainable(students, {"value": STORAGES[storage].parametrization()})
    else:
        start = students.value
        del students.value
        students.value = nn.Parameter(start)
    (parameter,) = students.parameters()
    optimizer = torch.optim.Adam([parameter], setting.lr)
    draw = torch.Generator().manual_seed(0)

    def invalid() -> Tensor:
        return STORAGES[storage].invalid(students.value.detach() * unit)

    ever, dead = invalid(), torch.zeros(TEACHERS, dtype=torch.bool)
    since = torch.full((TEACHERS,), -1)
    for step in range(1, setting.steps + 1):
        inputs = torch.randn(TEACHERS, SAMPLES, generator=draw, dtype=goal.dtype)
        before = parameter.detach().clone()
        # what the responses differ by is the response of what the kernels differ by
        losses = response(students.kernels() - target, inputs).square().mean(-1)
        optimizer.zero_grad()
        losses.sum().backward()
        # a filter that fails stays as it is, and must not end the others
        dead |= ~(losses.isfinite() & parameter.grad.isfinite())
        parameter.grad[dead] = 0.0
        optimizer.step()
        with torch.no_grad():
            parameter[dead] = before[dead]
        ever |= invalid()
        close = ((students.tau() / goal - 1).abs() < CLOSE) & ~dead & ~invalid()
        since = torch.where(close, torch.where(since < 0, step, since), -1)
    return {
        "key": setting.key(),
        "teachers": goal.tolist(),
        "close since": since.tolist(),
        "ever invalid": int(ever.sum()),
        "NaN": int(dead.sum()),
        "seconds": round(time.perf_counter() - begin, 2),
    }


# --------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Scale:
    """How large the experiments are."""

    source: str = "spoken"
    seeds: tuple[int, ...] = tuple(range(8))
    tuning_seeds: tuple[int, ...] = (100, 101, 102)
    epochs: int = 10
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    taus: tuple[float, ...] = (5.0, 10.0, 20.0)
    multiples: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {
            "1/tau": (30.0, 100.0, 300.0, 1000.0, 3000.0),
            "tau": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
            "decay": (0.03, 0.1, 0.3, 1.0, 3.0),
        }
    )
    attached: tuple[float, ...] = (1.0, 3.0)
    recovery_rates: tuple[float, ...] = (1e-2, 1e-1)
    recovery_steps: int = 2000


QUICK = Scale(
    "random", (0, 1, 2), (100, 101), 2, (0.01,), (5.0, 10.0),
    {"1/tau": (1.0, 300.0), "tau": (0.01, 1.0), "decay": (0.1, 1.0)},
    recovery_steps=200,
)  # fmt: skip


def tuned(runs: Runs, scale: Scale) -> tuple[Student, dict[str, float]]:
    """The fixed arm, and the multiple of each raw storage: best on the validation part."""
    plain = [
        Student("fixed", scale.tuning_seeds, lr, tau=tau, source=scale.source, epochs=scale.epochs)
        for lr in scale.rates
        for tau in scale.taus
    ]
    results = runs(plain, learn)
    fixed = plain[best(results)]
    several = {
        storage: [replace(fixed, arm="raw", storage=storage, multiple=m) for m in multiples]
        for storage, multiples in scale.multiples.items()
    }
    runs([setting for settings in several.values() for setting in settings], learn)
    found = {
        storage: settings[best(runs(settings, learn))].multiple
        for storage, settings in several.items()
    }
    return replace(fixed, seeds=scale.seeds), found


def arms(scale: Scale, fixed: Student, multiples: dict[str, float]) -> dict[str, Student]:
    """All arms at their final settings."""
    found = {
        "fixed, equal": fixed,
        "fixed, other draws": replace(fixed, start="other draws"),
        "fixed, the teacher's own": replace(fixed, start="the teacher's"),
    }
    for storage, multiple in multiples.items():
        raw = replace(fixed, arm="raw", storage=storage)
        found[f"raw {storage}, same rate"] = raw
        found[f"raw {storage}, tuned"] = replace(raw, multiple=multiple)
    for multiple in scale.attached:
        for storage in STORAGES:
            found[f"attached {storage}, {multiple:g} x"] = replace(
                fixed, arm="attached", storage=storage, multiple=multiple
            )
    return found


def arm_table(settings: dict[str, Student], results: dict[str, Result]) -> str:
    rows = []
    for name, setting in settings.items():
        result = results[name]
        errors = [e for e in result["log errors"] if e is not None]
        is_fixed = setting.arm == "fixed"
        rows.append(
            [
                name,
                "" if is_fixed else f"{setting.multiple:g} x",
                spread(result["test"], 3),
                spread(errors, 2) if errors else "none valid",
                "" if is_fixed else f"{sum(result['ever invalid'])}",
            ]
        )
    values = HIDDEN * len(next(iter(settings.values())).seeds)
    head = [
        "arm", "neurons' rate", "R², test", "rms error of ln tau", f"ever invalid, of {values}",
    ]  # fmt: skip
    fixed = settings["fixed, equal"]
    raw = failures(results[name] for name, setting in settings.items() if setting.arm == "raw")
    return (
        f"{table(head, rows)}\n\nIn every arm the weights train at {fixed.lr:g}; equal time "
        f"constants are {fixed.tau:g} steps at the start.\n{raw} raw students had a loss or a "
        "gradient that was NaN or inf."
    )


def comparisons(results: dict[str, Result]) -> str:
    """The comparisons that were planned, corrected for their number together."""
    hundredths = {name: [100 * r for r in result["test"]] for name, result in results.items()}
    one = "attached tau, 1 x"
    against = [
        "fixed, equal",
        *(f"raw {storage}, same rate" for storage in STORAGES),
        *(f"raw {storage}, tuned" for storage in STORAGES),
    ]
    rows = [paired(f"{one}, against {name}", hundredths[one], hundredths[name]) for name in against]
    return comparison_table(rows, what="R², hundredths")


def ranges(goal: Sequence[float], since: Sequence[int]) -> str:
    """The teachers that were found, in ms, neighbours as one range."""
    found: list[list[float]] = []
    for k, (tau, step) in enumerate(zip(goal, since, strict=True)):
        if step >= 0:
            if k and since[k - 1] >= 0:
                found[-1].append(tau)
            else:
                found.append([tau])
    ends = [dict.fromkeys([f"{1e3 * run[0]:.3g}", f"{1e3 * run[-1]:.3g}"]) for run in found]
    return ", ".join(" to ".join(end) for end in ends)


def recovery_table(settings: Sequence[Recovery], results: Sequence[Result]) -> str:
    rows = []
    for setting, result in zip(settings, results, strict=True):
        steps = [step for step in result["close since"] if step >= 0]
        rows.append(
            [
                setting.name,
                f"{setting.lr:g}",
                str(len(steps)),
                ranges(result["teachers"], result["close since"]),
                f"{statistics.median(steps):.0f}" if steps else "",
                str(result["ever invalid"]),
            ]
        )
    head = [
        "stored and trained", "learning rate", f"found, of {TEACHERS}", "which, ms",
        "median steps of these", f"ever invalid, of {TEACHERS}",
    ]  # fmt: skip
    return table(head, rows)


def main() -> None:
    args, runs = arguments(__doc__, "teacher")
    scale = QUICK if args.quick else Scale()
    fixed, multiples = tuned(runs, scale)
    settings = arms(scale, fixed, multiples)
    results = dict(zip(settings, runs(settings.values(), learn), strict=True))
    filters = [
        Recovery(name, lr, scale.recovery_steps) for lr in scale.recovery_rates for name in ARMS
    ]
    texts = {
        "teacher": arm_table(settings, results),
        "teacher comparisons": comparisons(results),
        "recovery": recovery_table(filters, runs(filters, recover)),
    }
    report(texts, runs, args.write)


if __name__ == "__main__":
    main()
