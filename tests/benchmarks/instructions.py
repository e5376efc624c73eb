"""Counts the instructions that a step takes.

Times repeat within some per cent on a busy machine, and counts within 1 per cent. They are those
of callgrind, a tool of valgrind, which runs a process in a machine of its own, thirty times slower.
They say nothing about waiting for memory, so that times belong beside them.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from tests.benchmarks.timing import Step

__all__ = ["Arm", "count", "count_here", "is_available"]

_NAMES = "NEUROPARAM_COUNTED"
# Vector instructions beyond SSE are slow there, and some are not known. One thread is counted.
_SIMPLE = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable,-FMA_Usable,-AVX2,-FMA",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


class Arm(NamedTuple):
    """What is counted: the mean of so many calls of a step, after some that are not counted."""

    name: str
    step: Step
    repeats: int = 10
    warm: int = 3


def is_available() -> bool:
    """Whether valgrind is installed."""
    return all(shutil.which(tool) for tool in ("valgrind", "callgrind_control"))


def count(module: str, *arguments: str) -> dict[str, float]:
    """The instructions of each arm that a module counts, by its name.

    Args:
        module: a module that calls `count_here` when it is run.
        arguments: what is given to it on the command line.
    """
    with tempfile.TemporaryDirectory() as folder:
        names, out = Path(folder) / "names", Path(folder) / "out"
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "-q", "--instr-atstart=no"),
                *("--collect-atstart=no", f"--callgrind-out-file={out}"),
                *(sys.executable, "-m", module, *arguments),
            ],
            check=True,
            env={**os.environ, **_SIMPLE, _NAMES: str(names)},
        )
        counted: dict[str, int] = json.loads(names.read_text())
        return {
            name: _total(Path(f"{out}.{index}")) / repeats
            for index, (name, repeats) in enumerate(counted.items(), start=1)
        }


def _total(dump: Path) -> int:
    lines = dump.read_text().splitlines()
    return int(next(line for line in lines if line.startswith("totals:")).split()[1])


def count_here(arms: Iterable[Arm]) -> None:
    """Counts each arm, in the process that `count` has started."""
    counted: dict[str, int] = {}
    for name, step, repeats, warm in arms:
        for _ in range(warm):
            step()
        gc.collect()
        gc.disable()  # A collection would fall on any arm.
        _instrument("on")
        step()  # Once more, counted by nobody: valgrind translates what it has not run yet.
        torch._C._valgrind_toggle()
        for _ in range(repeats):
            step()
        torch._C._valgrind_toggle_and_dump_stats()
        _instrument("off")  # What builds the next arm runs faster.
        gc.enable()
        counted[name] = repeats
    Path(os.environ[_NAMES]).write_text(json.dumps(counted))


def _instrument(state: str) -> None:
    """Tells valgrind to look at every instruction from now on, or no longer."""
    command = ["callgrind_control", "-i", state, str(os.getpid())]
    subprocess.run(command, check=True, capture_output=True)
