"""The example scripts, run as a user runs them."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script: str, *arguments: object, fails: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        # beside other tests, threads that wait for each other take minutes
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout + done.stderr


def results(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())


def test_mnist_on_digits(tmp_path: Path) -> None:
    output = run("mnist.py", "--epochs", 4, "--seeds", 0, 1, "--out", tmp_path)
    assert "tau_mem_inv moved %" in output
    assert "BoundedSigmoid(lower=0, upper=1000, spacing='linear')" in output
    runs = results(tmp_path)
    assert [(r["arm"], r["seed"]) for r in runs] == [
        (arm, seed) for seed in (0, 1) for arm in ("fixed", "raw", "reparametrised")
    ]
    tau = "lif.p.tau_mem_inv"
    for fixed, raw, reparametrised in (runs[:3], runs[3:]):
        # the arms start alike
        assert fixed["before"] == raw["before"]
        torch.testing.assert_close(
            torch.tensor(reparametrised["before"][tau]), torch.tensor(fixed["before"][tau])
        )
        assert fixed["movement"][tau] == 0
        assert reparametrised["movement"][tau] > 10 * raw["movement"][tau] > 0
        assert all(r["accuracies"][-1] > 50 for r in (fixed, raw, reparametrised))
        assert sum(reparametrised["ever invalid"].values()) == 0
    for arm in ("fixed", "raw", "reparametrised"):
        assert (tmp_path / f"digits-{arm}.png").stat().st_size > 10_000
    run("mnist.py", "--draw", tmp_path / "results.json", "--out", tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        f"digits-{arm}.png" for arm in ("fixed", "raw", "reparametrised")
    }


def test_a_high_learning_rate_breaks_only_the_raw_arm(tmp_path: Path) -> None:
    arms = ("--arms", "raw", "reparametrised", "--neuron-lr", 0.5, "--init", "lognormal")
    run("mnist.py", "--epochs", 4, "--out", tmp_path, *arms)
    raw, reparametrised = (sum(r["ever invalid"].values()) for r in results(tmp_path))
    assert raw > 0
    assert reparametrised == 0


def idx(path: Path, data: torch.Tensor) -> None:
    """Writes the format of the MNIST files: magic number, sizes, bytes."""
    head = struct.pack(f">I{data.ndim}I", 0x0800 + data.ndim, *data.shape)
    path.write_bytes(head + bytes(data.flatten().tolist()))


def test_mnist_reads_what_torchvision_reads(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        idx(raw / f"{part}-images-idx3-ubyte", torch.randint(0, 256, (count, 28, 28)))
        idx(raw / f"{part}-labels-idx1-ubyte", torch.randint(0, 10, (count,)))
    out = tmp_path / "out"
    arguments = ("--dataset", "mnist", "--data", tmp_path, "--epochs", 1, "--out", out)
    output = run("mnist.py", *arguments, "--arms", "reparametrised")
    assert "40 training and 20 test images" in output
    assert len(results(out)) == 1


def test_missing_data_is_a_clear_error(tmp_path: Path) -> None:
    output = run("mnist.py", "--dataset", "mnist", fails=True)
    assert "needs --data FOLDER" in output
    output = run("mnist.py", "--dataset", "mnist", "--data", tmp_path, fails=True)
    assert f"no MNIST below {tmp_path}" in output
    assert "--download" in output
    assert "Traceback" not in output


# pictures that other scripts draw
ELSEWHERE = ("mnist", "cost", "native", "one-learning-rate", "adjoint")


def test_the_pictures_of_the_guide(tmp_path: Path) -> None:
    run("figures.py", "--out", tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    shown = {path.name for path in (EXAMPLES.parent / "docs" / "images").glob("*.png")}
    assert drawn == {name for name in shown if not name.startswith(ELSEWHERE)}


def test_one_learning_rate(tmp_path: Path) -> None:
    output = run(
        "one_learning_rate.py", "--seeds", 0, "--epochs", 3, "--multiples", 1, 100,
        "--processes", 1, "--out", tmp_path,
    )  # fmt: skip
    assert "Shown: at one learning rate" in output
    assert "Not shown: that attached values are better" in output
    runs = results(tmp_path)
    assert len(runs) == 3 + 3 * 3 * 2
    assert all(r["ever outside"] == [0] for r in runs if r["arm"] in ("fixed", "attached"))
    assert any(r["ever outside"][0] > 20 for r in runs if r["arm"] == "raw")
    assert (tmp_path / "one-learning-rate.png").stat().st_size > 10_000


def test_adjoint(tmp_path: Path) -> None:
    output = run("adjoint.py", "--quick", "--out", tmp_path)
    assert "The accuracy curves of the three arms lie at most" in output
    found = json.loads((tmp_path / "adjoint.json").read_text())
    norse, adjoint, lean = found["runs"]
    # one seed and few epochs: rounding has hardly flipped a spike
    for each in (adjoint, lean):
        assert each["accuracies"] == pytest.approx(norse["accuracies"], abs=3)
    assert norse["accuracies"][-1] > 80
    units = [each["units"] for each in found["memory"]]
    assert units == sorted(units, reverse=True)
    assert (tmp_path / "adjoint.png").stat().st_size > 10_000


def test_memory_of_the_adjoint_over_time(tmp_path: Path) -> None:
    output = run("adjoint.py", "--memory", "--quick", "--out", tmp_path)
    assert "A unit is the size of its spikes" in output
    found = json.loads((tmp_path / "memory.json").read_text())["memory"]
    saved = {arm: [r["saved"] for r in found if r["arm"] == arm] for arm in ("Norse", "lean")}
    assert saved["Norse"][1] > 9 * saved["Norse"][0]
    assert saved["lean"][1] < 8 * saved["lean"][0]
    assert (tmp_path / "memory.png").stat().st_size > 10_000


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_help(script: str) -> None:
    assert "--out" in run(script, "--help")
