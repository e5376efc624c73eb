"""What trained time constants are worth on MNIST, one row of an image in each time step.

All arms have the same neurons: 28 inputs, 32 LIF neurons, 10 leaky readouts that are read after the
last row. Fixed arms are tuned on the validation part, raw and clamped ones too. The attached ones
have the weights' rate and the initial time constants of the best fixed network, and 3 times that
rate, which is not tuned. Tuning reads the validation accuracy of two networks alone; the test
accuracies in the tables are those of ten networks of other seeds.

    python examples/evidence/rows.py --data DIR          # an hour on two cores
    python examples/evidence/rows.py --quick             # digits, a minute, without data
    python examples/evidence/rows.py --out examples/evidence/results     # the tables of the guide
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from runs import Result, Runs, arguments
from tables import comparison_table, failures, paired, report, spread, table
from training import Setting, chosen, plain, train

STORAGES = ("1/tau", "tau", "decay")


@dataclass(frozen=True)
class Scale:
    """How large the experiment is."""

    task: str = "MNIST rows, all images"
    seeds: tuple[int, ...] = tuple(range(10))
    tuning_seeds: tuple[int, ...] = (100, 101)
    rates: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)
    taus: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0, 80.0)
    spreads: tuple[float, ...] = (0.25, 0.5, 1.0)
    multiples: tuple[float, ...] = (
        0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 300.0, 1000.0, 3000.0,
    )  # fmt: skip
    attached: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    wider: tuple[int, ...] = (64, 128)


QUICK = Scale(
    "digits rows", (0, 1, 2), (100,), (0.05,), (5.0, 10.0), (0.5,), (0.01, 1.0), (1.0, 3.0), (64,)
)


def fixed_arms(runs: Runs, scale: Scale) -> dict[str, Setting]:
    """The fixed arms, each tuned."""
    seeds = scale.tuning_seeds, scale.seeds
    one = plain(scale.task, scale.rates, scale.taus)
    equal = chosen(runs, one, *seeds)
    layers = [
        replace(equal, hidden_tau=hidden, readout_tau=readout)
        for hidden in scale.taus
        for readout in scale.taus
    ]
    unequal = [
        replace(setting, start="log-normal", spread=spread)
        for spread in scale.spreads
        for setting in (replace(equal, hidden_tau=tau, readout_tau=tau) for tau in scale.taus)
    ]
    weights_over_time = [replace(setting, weights_over_time=True) for setting in one]
    return {
        "fixed, one time constant": equal,
        "fixed, one a layer": chosen(runs, layers, *seeds),
        "fixed, log-normal": chosen(runs, unequal, *seeds),
        "fixed, one readout weight a time step and class": chosen(runs, weights_over_time, *seeds),
    }


def grid(runs: Runs, scale: Scale, start: Setting) -> dict[tuple[str, str, float], Result]:
    """Every arm, storage and multiple with the tuning seeds: read on the validation part."""
    keys = [
        (arm, storage, multiple)
        for arm in ("raw", "clamped", "attached")
        for storage in STORAGES
        for multiple in (scale.attached if arm == "attached" else scale.multiples)
    ]
    settings = [
        replace(start, arm=a, storage=s, multiple=m, seeds=scale.tuning_seeds) for a, s, m in keys
    ]
    return dict(zip(keys, runs(settings, train), strict=True))


def arms(scale: Scale, fixed: dict[str, Setting], tuned: dict) -> dict[str, Setting]:
    """All arms at their final settings."""
    start = fixed["fixed, one time constant"]
    attached = replace(start, arm="attached", storage="tau", multiple=3.0)
    found = dict(fixed)
    for storage in STORAGES:
        found[f"attached, {storage}"] = replace(attached, storage=storage)
    for arm in ("raw", "clamped"):
        for storage in STORAGES:
            several = {m: tuned[arm, storage, m] for m in scale.multiples}
            multiple = max(several, key=lambda m: statistics.fmean(several[m]["validation"]))
            found[f"{arm}, {storage}, tuned"] = replace(
                start, arm=arm, storage=storage, multiple=multiple
            )
    for storage in STORAGES:
        found[f"raw, {storage}, 3 x"] = replace(attached, arm="raw", storage=storage)
    unequal = fixed["fixed, log-normal"]
    weights_over_time = fixed["fixed, one readout weight a time step and class"]
    found |= {
        "attached, hidden layer alone": replace(attached, trained=("hidden",)),
        "attached, readout alone": replace(attached, trained=("readout",)),
        "attached, thresholds too": replace(attached, trained=("hidden", "readout", "threshold")),
        "attached, from log-normal": replace(
            attached,
            start=unequal.start,
            spread=unequal.spread,
            hidden_tau=unequal.hidden_tau,
            readout_tau=unequal.readout_tau,
        ),
        "attached hidden layer, one readout weight a time step and class": replace(
            weights_over_time, arm="attached", multiple=3.0, trained=("hidden",)
        ),
    }
    return found


def arm_table(settings: dict[str, Setting], results: dict[str, Result]) -> str:
    rows = []
    for name, setting in settings.items():
        result = results[name]
        multiple = "" if setting.arm == "fixed" else f"{setting.multiple:g} x"
        ever = f"{max(result['ever invalid'])} of {result['values']}"
        ever = "" if setting.arm in ("fixed", "clamped") else ever
        readout = "none" if setting.weights_over_time else f"{setting.readout_tau:g}"
        tau = f"{setting.hidden_tau:g}, {readout}"
        rows.append([name, f"{setting.lr:g}", multiple, tau, spread(result["test"], 2), ever])
    head = [
        "arm", "weights' rate", "neurons' rate", "initial steps: hidden, readout", "test, %",
        "ever invalid, worst seed",
    ]  # fmt: skip
    return table(head, rows)


def comparisons(results: dict[str, Result]) -> str:
    """The comparisons that were planned, corrected for their number together."""
    one = results["attached, tau"]["test"]
    against = [
        "fixed, one time constant",
        "fixed, one a layer",
        "fixed, log-normal",
        *(f"raw, {storage}, tuned" for storage in STORAGES),
        *(f"clamped, {storage}, tuned" for storage in STORAGES),
        "attached, hidden layer alone",
        "attached, readout alone",
        "attached, thresholds too",
        "attached, from log-normal",
        "fixed, one readout weight a time step and class",
    ]
    rows = [paired(f"attached, tau - {name}", one, results[name]["test"]) for name in against]
    readout = "one readout weight a time step and class"
    rows += [
        paired(
            f"attached hidden layer - fixed, both with {readout}",
            results[f"attached hidden layer, {readout}"]["test"],
            results[f"fixed, {readout}"]["test"],
        ),
        paired(
            "from log-normal: attached - fixed",
            results["attached, from log-normal"]["test"],
            results["fixed, log-normal"]["test"],
        ),
    ]
    return comparison_table(rows)


def wider(runs: Runs, scale: Scale, decay: float) -> str:
    """The same with more neurons, for which the fixed arm is tuned anew."""
    rows = []
    for hidden in (32, *scale.wider):
        one = plain(scale.task, scale.rates, scale.taus, hidden)
        fixed = chosen(runs, one, scale.tuning_seeds, scale.seeds)
        several = {
            "fixed": fixed,
            "raw": replace(fixed, arm="raw", storage="decay", multiple=decay),
            "attached": replace(fixed, arm="attached", multiple=3.0),
        }
        found = dict(zip(several, runs(several.values(), train), strict=True))
        c = paired("", found["attached"]["test"], found["fixed"]["test"])
        cells = [spread(result["test"], 2) for result in found.values()]
        rows.append([str(hidden), *cells, f"{c.difference:+.2f} ± {c.half_width:.2f}"])
    head = [
        "hidden neurons", "fixed, tuned", f"raw decay, {decay:g} x", "attached, tau, 3 x",
        "attached - fixed, 95 % interval",
    ]  # fmt: skip
    return table(head, rows)


def grid_table(results: dict[tuple[str, str, float], Result], scale: Scale) -> str:
    multiples = sorted({*scale.multiples, *scale.attached})
    rows = []
    for arm in ("attached", "raw", "clamped"):
        for storage in STORAGES:
            several = {m: results.get((arm, storage, m)) for m in multiples}
            top = max(
                (m for m in multiples if several[m]),
                key=lambda m: statistics.fmean(several[m]["validation"]),
            )
            cells = []
            for m in multiples:
                if several[m] is None:
                    cells.append("")
                    continue
                mean = f"{statistics.fmean(several[m]['validation']):.1f}"
                ever = max(several[m]["ever invalid"])
                invalid = f" ({ever})" if ever and arm != "clamped" else ""
                cells.append((f"**{mean}**" if m == top else mean) + invalid)
            rows.append([f"{arm}, {storage}", *cells])
    raw = (result for (arm, _, _), result in results.items() if arm == "raw")
    text = table(["arm", *(f"{m:g} x" for m in multiples)], rows)
    return f"{text}\n\n{failures(raw)} raw networks of this table gave NaN."


def main() -> None:
    args, runs = arguments(__doc__, "rows")
    scale = QUICK if args.quick else Scale()
    fixed = fixed_arms(runs, scale)
    tuned = grid(runs, scale, fixed["fixed, one time constant"])
    settings = arms(scale, fixed, tuned)
    results = dict(zip(settings, runs(settings.values(), train), strict=True))
    decay = settings["raw, decay, tuned"].multiple
    texts = {
        "rows": arm_table(settings, results),
        "comparisons": comparisons(results),
        "rates": grid_table(tuned, scale),
        "wider": wider(runs, scale, decay),
    }
    report(texts, runs, args.write)


if __name__ == "__main__":
    main()
