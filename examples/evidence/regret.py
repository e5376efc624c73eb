"""Regret of one default: what a learning rate that is not tuned for a task costs there.

The same networks store their time constants in three ways, 1/tau, tau and decay, and train them
raw, raw and clamped after each step, or attached. The learning rate of the weights and the initial
time constant are tuned for the fixed network of each task. The time constants' learning rate is a
multiple of the weights', given by a rule. Some rules need no tuning, others are tuned on the
other tasks, and are then tried on a task that they have not seen.

    python examples/evidence/regret.py --data DIR        # 40 minutes on two cores
    python examples/evidence/regret.py --quick           # a minute, without data
    python examples/evidence/regret.py --out examples/evidence/results     # the table of the guide
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runs import Result, Runs, arguments, best
from tables import failures, report, spread, table
from training import Setting, chosen, plain, train

TASKS = (
    "digits rows",
    "digits columns",
    "digits delayed",
    "digits latency",
    "MNIST rows",
    "MNIST columns",
    "spoken digits",
    "spoken digits reversed",
)
STORAGES = ("1/tau", "tau", "decay")
TUNING_SEEDS, SEEDS = (100, 101, 102), (0, 1, 2, 3, 4)
RATES, TAUS = (0.005, 0.01, 0.02, 0.05, 0.1), (5.0, 10.0, 20.0, 40.0)
MULTIPLES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
ATTACHED = MULTIPLES[3:10]
SLOWER = 0.2


@dataclass(frozen=True)
class Scale:
    """How large the experiment is."""

    tasks: tuple[str, ...] = TASKS
    seeds: tuple[int, ...] = SEEDS
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    rates: tuple[float, ...] = RATES
    taus: tuple[float, ...] = TAUS
    multiples: tuple[float, ...] = MULTIPLES
    attached: tuple[float, ...] = ATTACHED
    longer: int = 4


QUICK = Scale(
    ("digits rows", "digits columns"), (0, 1), (100,), (0.05,), (10.0,), (0.01, 1.0), (1.0, 3.0), 1
)

Chosen = dict[str, Setting]  # task -> its fixed network, tuned
Grid = dict[tuple[str, str, str, float], Result]  # task, arm, storage, multiple


def tuned(runs: Runs, scale: Scale) -> Chosen:
    """Weights' learning rate and time constant of the fixed network of each task."""
    several = {task: plain(task, scale.rates, scale.taus) for task in scale.tasks}
    # all at once, so that no process waits
    runs([replace(s, seeds=scale.tuning_seeds) for some in several.values() for s in some], train)
    return {
        task: chosen(runs, some, scale.tuning_seeds, scale.seeds) for task, some in several.items()
    }


def grid(
    runs: Runs, start: Chosen, scale: Scale, arms: Sequence[str] = ("attached",), longer: int = 1
) -> Grid:
    """Each arm with every storage and multiple, on every task."""
    keys = [
        (task, arm, storage, multiple)
        for task in start
        for arm in arms
        for storage in STORAGES
        for multiple in (scale.attached if arm == "attached" else scale.multiples)
    ]
    settings = [
        replace(start[task], arm=arm, storage=storage, multiple=multiple, longer=longer)
        for task, arm, storage, multiple in keys
    ]
    return dict(zip(keys, runs(settings, train), strict=True))


def mean(result: Result, part: str) -> float:
    return statistics.fmean(result[part])


class Regret:
    """How far each result is below the one that the validation part of its task says is best."""

    def __init__(self, results: Grid, part: str):
        self.results, self.part = results, part
        self.top = {
            task: mean(some[best(some)], part)
            for task in dict.fromkeys(key[0] for key in results)
            for some in [[result for key, result in results.items() if key[0] == task]]
        }

    def __call__(self, task: str, arm: str, storage: str, multiple: float) -> float:
        return self.top[task] - mean(self.results[task, arm, storage, multiple], self.part)


# a rule gives the multiple for a task and storage
Rule = Callable[[str, str], float]


def one(multiple: float) -> Rule:
    """The same number everywhere."""
    return lambda task, storage: multiple


def tuned_on_others(results: Grid, arm: str, storages: Sequence[str] | None = None) -> Rule:
    """The multiple with the least mean regret on the validation parts of the other tasks.

    Without `storages`, each storage has a multiple of its own.
    """
    regret = Regret(results, "validation")
    multiples = sorted({key[3] for key in results if key[1] == arm})

    def rule(task: str, storage: str) -> float:
        others = [t for t in regret.top if t != task]
        return min(
            multiples,
            key=lambda m: statistics.fmean(
                regret(t, arm, s, m) for t in others for s in storages or (storage,)
            ),
        )

    return rule


def rules(results: Grid, scale: Scale) -> list[tuple[str, str, int, Rule]]:
    """Name, arm, how many settings were tried to choose it, and the rule itself."""
    others = len(scale.tasks) - 1
    found: list[tuple[str, str, int, Rule]] = [
        (f"attached, {m:g} x everywhere", "attached", 0, one(m)) for m in scale.attached
    ]
    for arm in ("raw", "clamped"):
        found += [
            (f"{arm}, {m:g} x everywhere", arm, 0, one(m))
            for m in (0.1, 1.0, 3.0, 10.0)
            if m in scale.multiples
        ]
    for arm in ("attached", "raw", "clamped"):
        count = len(scale.attached if arm == "attached" else scale.multiples) * others
        found += [
            (f"{arm}, one multiple, tuned on the other tasks", arm, 3 * count,
             tuned_on_others(results, arm, STORAGES)),
            (f"{arm}, one multiple a storage, tuned on the other tasks", arm, 3 * count,
             tuned_on_others(results, arm)),
        ]  # fmt: skip
    return found


def rule_table(results: Grid, scale: Scale) -> str:
    regret = Regret(results, "test")
    rows = []
    for name, arm, tried, rule in rules(results, scale):
        found = {(t, s): regret(t, arm, s, rule(t, s)) for t in scale.tasks for s in STORAGES}
        worst = max(found, key=lambda key: found[key])
        several = [results[t, arm, s, rule(t, s)] for t, s in found]
        count = sum(result["values"] * len(result["test"]) for result in several)
        # clamped values are put back after each step, if only to the end of their domain
        ever = sum(sum(result["ever invalid"]) for result in several)
        rows.append(
            [
                name,
                str(tried),
                f"{statistics.fmean(found.values()):.1f}",
                f"{found[worst]:.1f} ({worst[0]}, {worst[1]})",
                *(
                    f"{statistics.fmean(v for (_, s), v in found.items() if s == storage):.1f}"
                    for storage in STORAGES
                ),
                "" if arm == "clamped" else f"{100 * ever / count:.0f} %",
            ]
        )
    return table(
        ["rule", "settings tried to tune it", "mean regret", "worst", *STORAGES, "ever invalid"],
        rows,
    )


def accuracy_table(results: Grid, fixed: dict[str, Result], scale: Scale) -> str:
    """Test accuracy, one column a storage and arm."""
    per_unit = {arm: tuned_on_others(results, arm) for arm in ("raw", "clamped")}
    columns: list[tuple[str, str, Rule]] = [
        ("attached", "attached, 1 x", one(1.0)),
        ("attached", "attached, 3 x", one(3.0)),
        ("raw", "raw, 1 x", one(1.0)),
        ("clamped", "clamped, 1 x", one(1.0)),
        ("raw", "raw, tuned for the unit", per_unit["raw"]),
        ("clamped", "clamped, tuned for the unit", per_unit["clamped"]),
    ]
    rows = []
    for task in scale.tasks:
        cells = [task, spread(fixed[task]["test"])]
        for arm, _, rule in columns:
            several = (results[task, arm, s, rule(task, s)] for s in STORAGES)
            cells.append(" / ".join(f"{mean(result, 'test'):.1f}" for result in several))
        rows.append(cells)
    return table(["task", "fixed, tuned", *(title for _, title, _ in columns)], rows)


def multiple_table(grids: dict[str, Grid], scale: Scale) -> str:
    """Mean regret of the attached arm at each multiple, under other conditions."""
    rows = []
    for name, results in grids.items():
        only = {key: result for key, result in results.items() if key[1] == "attached"}
        regret = Regret(only, "test")
        cells = []
        for m in scale.attached:
            found = [regret(t, "attached", s, m) for t in scale.tasks for s in STORAGES]
            cells.append(f"{statistics.fmean(found):.1f} ({max(found):.1f})")
        rows.append([name, *cells])
    return table(["trainings", *(f"{m:g} x" for m in scale.attached)], rows)


def sentences(grids: dict[str, Grid], scale: Scale) -> str:
    """What all attached networks have in common, in numbers, and how many raw ones failed."""
    attached = [r for g in grids.values() for key, r in g.items() if key[1] == "attached"]
    networks = sum(len(result["test"]) for result in attached)
    outside = sum(sum(result["ever invalid"]) for result in attached)
    failed = sum(sum(result["NaN"]) for result in attached)
    results = grids["as above"]
    raw = failures(result for (_, arm, _, _), result in results.items() if arm == "raw")
    apart = []
    for multiple in (1.0, 3.0):
        several = [
            [mean(results[task, "attached", storage, multiple], "test") for storage in STORAGES]
            for task in scale.tasks
        ]
        apart.append(max(max(means) - min(means) for means in several))
    rates = f"{scale.attached[0]:g} to {scale.attached[-1]:g} times the weights' rate"
    return (
        f"In these {networks:,} attached networks, at {rates}, {outside} values left their domain "
        f"after any step, and {failed} networks gave NaN.\nThe mean accuracies of the three "
        f"storages differ by at most {apart[0]:.1f} points on any task at 1 x, and by "
        f"{apart[1]:.1f} at 3 x.\n{raw} raw networks gave NaN."
    )


def chosen_table(start: Chosen) -> str:
    return table(
        ["task", "learning rate of the weights", "time constant, steps"],
        [[t, f"{s.lr:g}", f"{s.hidden_tau:g}"] for t, s in start.items()],
    )


def main() -> None:
    args, runs = arguments(__doc__, "regret")
    scale = QUICK if args.quick else Scale()
    start = tuned(runs, scale)
    fixed = dict(zip(start, runs(start.values(), train), strict=True))
    results = grid(runs, start, scale, ("raw", "clamped", "attached"))
    slower = {task: replace(s, lr=SLOWER * s.lr) for task, s in start.items()}
    grids = {
        "as above": results,
        f"{scale.longer} times the epochs": grid(runs, start, scale, longer=scale.longer),
        f"weights at {SLOWER:g} times their rate": grid(runs, slower, scale),
    }
    texts = {
        "rules": rule_table(results, scale),
        "attached": sentences(grids, scale),
        "multiples": multiple_table(grids, scale),
        "tasks": accuracy_table(results, fixed, scale),
        "weights": chosen_table(start),
    }
    report(texts, runs, args.write)


if __name__ == "__main__":
    main()
