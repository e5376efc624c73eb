"""The tables of what is counted in instructions, where valgrind is installed."""

from __future__ import annotations

from tests.benchmarks import counted
from tests.benchmarks.counted import CHAINS, LAYERS
from tests.benchmarks.instructions import count, is_available
from tests.benchmarks.measures import LAYERS as GOALS_OF_LAYERS
from tests.benchmarks.measures import Options, Table, verdict
from tests.benchmarks.networks import installed


def counts(_: Options) -> str:
    """Instructions of maps, reads, networks, loops of one's own, layers and optimizers' steps."""
    if not is_available():
        return "Left out: valgrind, which counts them, is not installed."
    tables = (maps, reads, libraries, loops, layers, optimizers)
    return "\n\n".join(f"{table.__doc__}\n\n{table()}" for table in tables)


def _count(section: str) -> dict[str, float]:
    """Each section in a process of its own, which has no values of another one."""
    return count(counted.__name__, section)


def _thousands(instructions: float) -> str:
    return f"{instructions / 1e3:,.1f}"


def maps() -> Table:
    """A value of 100, forward and backward, beyond the start of autograd's engine, in thousands."""
    found = _count("maps")
    start = found["the engine's start"]
    rows = []
    for name, chain in CHAINS.items():
        beyond = found[name] - start
        goal = 300 if chain()[1:] else 150
        rows.append((name, _thousands(beyond), verdict(beyond / 1e3, goal)))
    return Table(("maps", "instructions", "goal"), rows)


def reads() -> Table:
    """One more read within a forward, in thousands."""
    found = _count("reads")
    each = {
        arm: (found[f"{arm}, 101 reads"] - found[f"{arm}, 1 reads"]) / 100
        for arm in ("raw", "attached")
    }
    goal = round(each["raw"] / 1e3, 1)
    return Table(
        ("of", "instructions", "goal"),
        [
            ("an `nn.Parameter`", _thousands(each["raw"]), ""),
            (
                "an attached value",
                _thousands(each["attached"]),
                verdict(each["attached"] / 1e3, goal),
            ),
        ],
    )


def libraries() -> Table:
    """A training step, T 100, batch 4, in millions."""
    found = _count("libraries")
    rows = []
    for name, library in installed().items():
        fixed, raw, attached = (found[f"{name} | {arm}"] for arm in ("fixed", "raw", "attached"))
        ratio = attached / raw
        rows.append(
            (
                name,
                *(f"{each / 1e6:.1f}" for each in (fixed, raw, attached)),
                f"{ratio:.3f}",
                verdict(ratio, library.goal),
            )
        )
    return Table(
        ("network", "not trained", "raw", "attached", "attached over raw", "goal"),
        rows,
    )


def loops() -> Table:
    """A training step with a loop of one's own around a cell, T 100, batch 4, over raw."""
    found = _count("loops")
    rows = []
    for name, library in installed().items():
        if library.by_steps is not None:
            raw = found[f"{name} | raw"]
            attached, cached, network = (
                found[f"{name} | {arm}"] / raw for arm in ("attached", "cached", "network")
            )
            rows.append(
                (
                    name,
                    f"{attached:.3f}",
                    verdict(attached, 1.1),
                    f"{cached:.3f}",
                    f"{network:.3f}",
                )
            )
    return Table(
        (
            "cell",
            "cell attached",
            "goal",
            "in a `cached()` block",
            "network attached, loop in its forward",
        ),
        rows,
    )


def layers() -> Table:
    """A training step of many small layers, four steps of 100 neurons each, in millions."""
    found = _count("layers")
    rows = []
    for size in LAYERS:
        raw, attached = (found[f"{size} | {arm}"] for arm in ("raw", "attached"))
        rows.append(
            (
                f"{size:,}",
                f"{raw / 1e6:.2f}",
                f"{attached / 1e6:.2f}",
                f"{attached / raw:.3f}",
                verdict(attached / raw, GOALS_OF_LAYERS.get(size)),
            )
        )
    return Table(("layers", "raw", "attached", "attached over raw", "goal"), rows)


def optimizers() -> Table:
    """A step of SGD: of a stranger beside attached values, and of their own, in thousands."""
    found = _count("optimizers")
    alone = found["stranger | 0"]
    rows = [("0", _thousands(alone), "", "", "")]
    for size in LAYERS:
        beside = found[f"stranger | {size}"]
        added = (found[f"attached | {size}"] - found[f"raw | {size}"]) / size
        rows.append(
            (
                f"{size:,}",
                _thousands(beside),
                verdict(beside / alone, 1.01),
                _thousands(added),
                verdict(added / 1e3, 2 if size == 100 else None),
            )
        )
    return Table(
        (
            "attached values",
            "a stranger's step",
            "goal, over the step beside none",
            "their own optimizer's step, added for each",
            "goal",
        ),
        rows,
    )
