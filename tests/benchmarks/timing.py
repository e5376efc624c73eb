"""Several ways of doing one thing, timed in turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Step = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Seconds per step of each arm, round by round."""

    seconds: dict[str, list[float]]

    def median(self, arm: str) -> float:
        return statistics.median(self.seconds[arm])

    def ratio(self, arm: str, over: str) -> Ratio:
        """Round by round, so that what slows the machine for a while slows both."""
        pairs = zip(self.seconds[arm], self.seconds[over], strict=True)
        return Ratio(*statistics.quantiles([a / b for a, b in pairs], n=4, method="inclusive"))


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# Time of this process alone, which other processes do not lengthen. A GPU works outside of it.
_now = time.perf_counter if torch.cuda.is_available() else time.process_time


def timed(step: Step, repeats: int) -> float:
    synchronize()
    start = _now()
    for _ in range(repeats):
        step()
    synchronize()
    return (_now() - start) / repeats


def interleaved(
    arms: Mapping[str, Step], rounds: int, least: float = 0.1, most: float = 120.0
) -> Timings:
    """Times the arms in turns.

    Args:
        arms: name -> one step.
        rounds: how often each arm is timed; every round begins with another arm.
        least: seconds that one timing takes at least, by repeating the step.
        most: seconds after which there are fewer rounds, but five, or as many as are wanted.
    """
    for step in arms.values():  # warm up: lazy initialisation, the first watched forwards
        step(), step()
    once = [timed(step, 1) for step in arms.values()]
    repeats = max(1, round(least / min(once)))
    rounds = min(rounds, max(5, int(most / (repeats * sum(once)))))
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    gc.collect()
    gc.disable()  # a collection would fall on any arm
    try:
        for turn in range(rounds):
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                seconds[name].append(timed(arms[name], repeats))
            gc.collect()
    finally:
        gc.enable()
    return Timings(seconds)
