"""Where training time constants gains little, or may; and unequal time constants at the start.

* cells that multiply their input with the rate, as Norse's, SpikingJelly's and Sinabs' do: a
  longer time constant makes them remember, and hear less;
* digits that are spoken, played forward or reversed: 20 classes;
* networks whose time constants differ from the start, log-normal or gamma, fixed and attached.

The learning rate of the weights and the time constants of the fixed arm are tuned on the
validation part of each task; attached and raw arms take the same, and the same learning rate.

    python examples/evidence/no_gain.py --data DIR          # 15 minutes on two cores
    python examples/evidence/no_gain.py --quick             # a minute, without data
    python examples/evidence/no_gain.py --out examples/evidence/results     # the guide's tables
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runs import Runs, arguments
from tables import comparison_table, paired, report, spread, table
from training import Setting, chosen, plain, train


@dataclass(frozen=True)
class Scale:
    """How large the experiment is."""

    coupled: tuple[str, ...] = ("digits rows", "digits columns", "MNIST rows", "spoken digits")
    decoupled: tuple[str, ...] = (*coupled, "spoken direction")
    starts: tuple[str, ...] = ("digits rows", "MNIST rows")
    seeds: tuple[int, ...] = tuple(range(10))
    tuning_seeds: tuple[int, ...] = (100, 101, 102)
    rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    taus: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)
    spreads: tuple[float, ...] = (0.5, 1.0)


QUICK = Scale(
    ("digits rows",), ("digits rows",), ("digits rows",), (0, 1), (100,), (0.05,), (10.0,), (0.5,)
)


def gains(runs: Runs, scale: Scale) -> tuple[str, str]:
    """The arms of each task, and the attached arm against the fixed one."""
    rows, comparisons = [], []
    cells = [(task, False) for task in scale.decoupled] + [(task, True) for task in scale.coupled]
    for task, coupled in cells:
        some = plain(task, scale.rates, scale.taus, coupled=coupled)
        fixed = chosen(runs, some, scale.tuning_seeds, scale.seeds)
        name = f"{task}, input times rate" if coupled else task
        arms = [
            fixed,
            replace(fixed, arm="raw", storage="1/tau"),
            replace(fixed, arm="attached"),
            replace(fixed, arm="attached", multiple=3.0),
        ]
        results = runs(arms, train)
        tuned = f"{fixed.lr:g}, {fixed.hidden_tau:g}"
        rows.append([name, tuned, *(spread(result["test"]) for result in results)])
        comparisons.append(
            paired(f"{name}: attached - fixed", results[2]["test"], results[0]["test"])
        )
    head = [
        "task", "weights' rate, steps", "fixed, tuned", "raw 1/tau, 1 x", "attached, 1 x",
        "attached, 3 x",
    ]  # fmt: skip
    return table(head, rows), comparison_table(comparisons)


def starts(runs: Runs, scale: Scale) -> tuple[str, str]:
    """Equal, log-normal and gamma time constants at the start, each tuned as a fixed arm."""
    rows, comparisons = [], []
    for task in scale.starts:
        equal = chosen(runs, plain(task, scale.rates, scale.taus), scale.tuning_seeds, scale.seeds)
        arms: dict[str, Setting] = {"equal": equal}
        for start in ("log-normal", "gamma"):
            some = [
                replace(equal, start=start, spread=spread, hidden_tau=tau, readout_tau=tau)
                for spread in scale.spreads
                for tau in scale.taus
            ]
            arms[start] = chosen(runs, some, scale.tuning_seeds, scale.seeds)
        fixed = runs(arms.values(), train)
        trained = runs([replace(arm, arm="attached") for arm in arms.values()], train)
        rows.append([task, *(spread(result["test"]) for result in [*fixed, *trained])])
        comparisons += [
            paired(f"{task}, fixed: {name} - equal", result["test"], fixed[0]["test"])
            for name, result in list(zip(arms, fixed, strict=True))[1:]
        ]
        comparisons += [
            paired(f"{task}, attached: {name} - equal", result["test"], trained[0]["test"])
            for name, result in list(zip(arms, trained, strict=True))[1:]
        ]
    head = ["task"] + [f"{kind}, {name}" for kind in ("fixed", "attached") for name in arms]
    return table(head, rows), comparison_table(comparisons)


def main() -> None:
    args, runs = arguments(__doc__, "no_gain")
    scale = QUICK if args.quick else Scale()
    texts = dict(zip(("gains", "gain comparisons"), gains(runs, scale), strict=True))
    texts |= dict(zip(("starts", "start comparisons"), starts(runs, scale), strict=True))
    report(texts, runs, args.write)


if __name__ == "__main__":
    main()
