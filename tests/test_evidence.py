"""The experiments of the guide: what they compute with, and that the guide shows their results."""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
EVIDENCE = ROOT / "examples" / "evidence"
SCRIPTS = ("regret", "rows", "teacher", "no_gain")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import each other as a script that is run does."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(EVIDENCE))
    yield
    for name in {path.stem for path in EVIDENCE.glob("*.py")} - before:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_guide_shows_what_the_results_say(script: str) -> None:
    done = subprocess.run(
        [sys.executable, EVIDENCE / f"{script}.py", "--out", EVIDENCE / "results"],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "NEUROPARAM_DATA"}
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "benefit.md").read_text()
    mark = rf"<!-- ([\w ]+): written by `examples/evidence/{script}\.py --write` -->"
    blocks = re.findall(rf"{mark}\n\n(.*?)\n\n<!-- end of \1 -->", page, flags=re.DOTALL)
    printed, _, _ = re.split(r"\n\n(\d+ trainings of)", done.stdout)
    assert "\n\n".join(text for _, text in blocks) == printed, (
        "run the script with --out examples/evidence/results --write"
    )


def test_the_three_storages_compute_the_same() -> None:
    from network import STORAGES, Network

    tau = 2 + 20 * torch.rand(2, 1, 8)
    inputs = torch.rand(2, 12, 5, 4) * 3
    outputs = [
        Network((0, 1), (4, 8, 3), storage, tau, tau[..., :3], gain=4.0)(inputs)
        for storage in STORAGES
    ]
    assert outputs[0].abs().sum() > 0
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0])


def test_seeds_do_not_know_of_each_other() -> None:
    from tasks import TASKS
    from training import Setting, build

    data = TASKS["digits rows"].load(None)
    inputs = data["validation"].inputs[:7].transpose(0, 1)
    both = Setting("digits rows", "fixed", (3, 4), 0.05, start="gamma", spread=0.5)
    alone = Setting("digits rows", "fixed", (4,), 0.05, start="gamma", spread=0.5)
    torch.testing.assert_close(
        build(both, data)(inputs.expand(2, -1, -1, -1))[1],
        build(alone, data)(inputs.unsqueeze(0))[0],
    )


@pytest.mark.parametrize("start", ["log-normal", "gamma"])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_unequal_starts_have_the_mean_and_spread_they_name(start: str, spread: float) -> None:
    from training import samples

    drawn = samples(start, spread, 100_000, torch.Generator().manual_seed(0))
    assert drawn.min() > 0
    assert drawn.mean() == pytest.approx(1.0, abs=0.03)
    assert drawn.std() == pytest.approx(spread, rel=0.1)


def test_invalid_values_are_those_outside_their_domain_and_nan() -> None:
    from network import DT, STORAGES

    values = torch.tensor([float("nan"), -1.0, 0.0, 0.5, 1.0, 1 / DT, 1 / DT + 1, float("inf")])
    assert STORAGES["1/tau"].invalid(values).tolist() == [1, 1, 1, 0, 0, 0, 1, 1]
    assert STORAGES["tau"].invalid(values).tolist() == [1, 1, 1, 0, 0, 0, 0, 1]
    assert STORAGES["decay"].invalid(values).tolist() == [1, 1, 1, 0, 1, 1, 1, 1]


def test_p_values_are_corrected_as_holm_does() -> None:
    from tables import Comparison, corrected

    p = [0.01, 0.04, 0.03, 0.005]
    comparisons = [Comparison("", 0.0, 0.0, each, 0, 5) for each in p]
    assert corrected(comparisons) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_an_experiment_goes_on_where_it_was(tmp_path: Path) -> None:
    from runs import Runs
    from training import Setting, train

    path = tmp_path / "some.jsonl"
    setting = Setting("digits rows", "attached", (0, 1), 0.05)
    path.write_text(json.dumps({"key": setting.key(), "seconds": 1.5}) + "\n")
    runs = Runs(path, None, 1)
    assert runs([setting, setting], train) == [{"key": setting.key(), "seconds": 1.5}] * 2
    assert runs.seconds() == 1.5


def test_mnist_is_read_packed_and_unpacked(tmp_path: Path) -> None:
    from tasks import idx

    image = torch.randint(0, 256, (3, 2, 4))
    content = struct.pack(">I3I", 0x0803, 3, 2, 4) + bytes(image.flatten().tolist())
    (tmp_path / "plain").write_bytes(content)
    with gzip.open(tmp_path / "packed.gz", "wb") as file:
        file.write(content)
    assert torch.equal(idx(tmp_path / "plain").long(), image)
    assert torch.equal(idx(tmp_path / "packed").long(), image)
    with pytest.raises(SystemExit, match="--data must name"):
        idx(tmp_path / "absent")


def test_spoken_digits_are_divided_by_their_takes(tmp_path: Path) -> None:
    from tasks import spoken

    (tmp_path / "recordings").mkdir()
    for digit, take in ((0, 3), (1, 12), (2, 40)):
        with wave.open(str(tmp_path / "recordings" / f"{digit}_somebody_{take}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(struct.pack("<2000h", *range(-1000, 1000)))
    data = spoken(tmp_path)
    assert {name: part.labels.tolist() for name, part in data.items()} == {
        "test": [0],
        "validation": [1],
        "training": [2],
    }
    assert data["training"].inputs.shape == (1, 50, 20)
    with pytest.raises(SystemExit, match="no spoken digits below"):
        spoken(tmp_path / "recordings")


def test_each_pixel_of_the_latency_code_spikes_once_and_the_brightest_first() -> None:
    from tasks import latency

    images = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    spikes = latency(images)
    assert spikes.shape == (1, 16, 4)
    assert spikes.sum(1).tolist() == [[0, 1, 1, 1]]
    first = spikes.argmax(1)[0].tolist()
    assert first[3] == 0 < first[2] < first[1]
