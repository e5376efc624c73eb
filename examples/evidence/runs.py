"""Runs the settings of an experiment, each once, and keeps what came out."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

Result = dict[str, Any]


class Keyed(Protocol):
    """A setting, which names its result."""

    def key(self) -> str: ...


class Runs:
    """The results of one experiment, in a file with a line for each.

    A setting whose result is there is not run again, so that an experiment which was stopped goes
    on where it was. A key names the setting alone, and not what all settings share: the epochs and
    the gain of a task, the size of a batch, the code. Whoever changes one of these starts with
    another file, or finds the results of before.

    Args:
        path: the file, made when the first result comes.
        data: folder of the data sets.
        processes: how many settings are run at a time.
    """

    def __init__(self, path: Path, data: Path | None, processes: int):
        self.path, self.data, self.processes = path, data, processes
        lines = path.read_text().splitlines() if path.exists() else []
        self.found = {result["key"]: result for result in map(json.loads, lines)}

    def __call__(
        self, settings: Iterable[Keyed], work: Callable[[Any, Path | None], Result]
    ) -> list[Result]:
        """The results of settings, in their order; those that lack are computed."""
        from tqdm import tqdm

        wanted = list(settings)
        missing = list({s.key(): s for s in wanted if s.key() not in self.found}.values())
        if missing:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            context = multiprocessing.get_context("spawn")
            with (
                ProcessPoolExecutor(self.processes, context, initializer=one_thread) as pool,
                tqdm(total=len(missing), desc=self.path.stem, unit="run") as bar,
            ):
                futures = [pool.submit(work, setting, self.data) for setting in missing]
                for future in as_completed(futures):
                    result = future.result()
                    with self.path.open("a") as file:
                        file.write(json.dumps(result) + "\n")
                    self.found[result["key"]] = result
                    bar.update()
        return [self.found[setting.key()] for setting in wanted]

    def seconds(self) -> float:
        """Time that the runs of all results took, with one thread each."""
        return sum(result["seconds"] for result in self.found.values())


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def arguments(doc: str | None, name: str) -> tuple[argparse.Namespace, Runs]:
    """What every experiment takes on the command line."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("NEUROPARAM_DATA"),
        help="folder that holds MNIST/raw and the spoken digits; default: $NEUROPARAM_DATA",
    )
    parser.add_argument("--out", type=Path, default=Path("evidence-results"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument(
        "--quick",
        action="store_true",
        help="digits alone, few seeds and settings: to see that the script works, not to learn "
        "from its numbers",
    )
    parser.add_argument("--write", action="store_true", help="put the table into the guide")
    args = parser.parse_args()
    data = None if args.data is None else Path(args.data)
    file = args.out / f"{name}{'-quick' if args.quick else ''}.jsonl"
    return args, Runs(file, data, args.processes)


def best(results: Sequence[Result]) -> int:
    """Which result has the highest mean accuracy on the validation part."""
    return max(range(len(results)), key=lambda i: statistics.fmean(results[i]["validation"]))
