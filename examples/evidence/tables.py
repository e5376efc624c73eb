"""Tables of the guide: means with spread, paired comparisons, and where they are written."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runs import Result, Runs

PAGE = Path(__file__).parents[2] / "docs" / "benefit.md"


def spread(numbers: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation over the seeds."""
    mean = statistics.fmean(numbers)
    if len(numbers) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(numbers):.{digits}f}"


def failures(results: Iterable[Result]) -> str:
    """How many networks gave NaN, of how many."""
    failed = [each for result in results for each in result["NaN"]]
    return f"{sum(failed)} of {len(failed):,}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True)
class Comparison:
    """Two arms with the same seeds: the mean difference, its 95 % interval, and p of a t test."""

    name: str
    difference: float
    half_width: float
    p: float
    better: int  # seeds in which the first arm is better
    seeds: int


def paired(name: str, first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compares two arms seed by seed with a paired, two-sided t test."""
    from scipy.stats import t, ttest_rel

    differences = [a - b for a, b in zip(first, second, strict=True)]
    count = len(differences)
    error = statistics.stdev(differences) / count**0.5
    return Comparison(
        name,
        statistics.fmean(differences),
        float(t.ppf(0.975, count - 1)) * error,
        float(ttest_rel(first, second).pvalue),
        sum(d > 0 for d in differences),
        count,
    )


def corrected(comparisons: Sequence[Comparison]) -> list[float]:
    """The p values corrected for their number (Holm, Scandinavian Journal of Statistics, 1979)."""
    order = sorted(range(len(comparisons)), key=lambda i: comparisons[i].p)
    result, highest = [0.0] * len(comparisons), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, comparisons[i].p * (len(comparisons) - rank)))
        result[i] = highest
    return result


def comparison_table(comparisons: Sequence[Comparison], what: str = "points") -> str:
    """The differences with their intervals, and p values corrected for the whole table."""
    rows = [
        [
            c.name,
            f"{c.difference:+.{2 if abs(c.difference) < 1 else 1}f} ± {c.half_width:.2f}",
            f"{c.better} of {c.seeds}",
            "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}",
        ]
        for c, p in zip(comparisons, corrected(comparisons), strict=True)
    ]
    head = ["paired by seed", f"difference in {what}, 95 % interval", "better in", "p, corrected"]
    return table(head, rows)


def write(name: str, text: str) -> None:
    """Puts text between the marks of that name in the guide's page."""
    begin, end = f"<!-- {name}: written by", f"<!-- end of {name} -->"
    page = PAGE.read_text()
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{PAGE} has no place for {name}: it needs {begin} ... and {end}")
    mark, _, _ = rest.partition("\n")
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}{mark}\n\n{text}\n\n{end}{after}")


def report(texts: dict[str, str], runs: Runs, written: bool) -> None:
    """Prints the tables, and puts each into the guide's page if that is wanted."""
    print("\n\n".join(texts.values()))
    minutes = runs.seconds() / 60
    print(f"\n{len(runs.found)} trainings of {minutes:.0f} minutes, with one thread each")
    if written:
        for name, text in texts.items():
            write(name, text)
