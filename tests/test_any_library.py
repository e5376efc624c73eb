"""The example of one recipe for five libraries: each library trains, and the script runs."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from neuroparam import Quantity, values

SCRIPT = Path(__file__).parents[1] / "examples" / "any_library.py"
LIBRARIES = ("norse", "snntorch", "spikingjelly", "sinabs", "rockpool")
WEIGHTS = ("linear.weight", "readout.weight")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # as the script does: on a busy machine, threads that wait for each other take minutes
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("any_library", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(example: ModuleType) -> dict[str, Tensor]:
    return example.digits()


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # Rockpool's import of samna runs pip, see the example
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return pytest.importorskip(request.param).__name__


each_library = pytest.mark.parametrize("library", LIBRARIES, indirect=True)


@each_library
def test_attaching_leaves_the_network_as_it_is(
    example: ModuleType, data: dict[str, Tensor], library: str
) -> None:
    plain, attached = (example.build(library, seed=0) for _ in range(2))
    example.attach(attached)
    for name in WEIGHTS:
        torch.testing.assert_close(attached.get_parameter(name), plain.get_parameter(name))
    assert {name for name, p in plain.named_parameters() if p.requires_grad} == set(WEIGHTS)
    tau, threshold = (values(attached, q) for q in (Quantity.TAU_MEM, Quantity.THRESHOLD))
    assert list(tau.values()) == [pytest.approx(torch.full((64,), 20e-3))]
    assert list(threshold.values()) == [pytest.approx(torch.ones(64))]

    # a spike may fall the other way where a voltage meets the threshold but for rounding
    spikes = data["test spikes"][:, :100]
    rates = [example.firing_rate(network, spikes) for network in (plain, attached)]
    assert rates[1] == pytest.approx(rates[0], rel=1e-3)
    assert 0.05 < rates[0] < 0.1


@each_library
def test_training_moves_the_values(
    example: ModuleType, data: dict[str, Tensor], library: str
) -> None:
    network = example.attach(example.build(library, seed=0))
    before = example.neuron_values(network)
    losses = example.train(
        network,
        data["train spikes"][:, :320],
        data["train labels"][:320],
        epochs=3,
        lr=2e-3,
        neuron_lr=2e-2,
        seed=0,
    )
    assert len(losses) == 15
    assert statistics.fmean(losses[-5:]) < 0.8 * statistics.fmean(losses[:5])
    after = example.neuron_values(network)
    for quantity, floor in (("TAU_MEM", 0.0), ("THRESHOLD", 0.05)):
        assert len(after[quantity]) == 64
        assert all(floor < value < math.inf for value in after[quantity])
        # a neuron that never comes near its threshold stays
        moved = sum(
            abs(a - b) > 0.01 * b for a, b in zip(after[quantity], before[quantity], strict=True)
        )
        assert moved > 32


@each_library
def test_each_run_starts_from_rest(
    example: ModuleType, data: dict[str, Tensor], library: str
) -> None:
    network = example.attach(example.build(library, seed=0))
    first, second = (network(data["test spikes"][:, :20]) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.skipif(
    any(importlib.util.find_spec(library) is None for library in LIBRARIES),
    reason="not all five libraries are installed",
)
def test_the_script_prints_a_row_for_each_library(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--epochs", "1", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("library "))
    assert [line.split()[0] for line in lines[head + 1 : head + 6]] == list(LIBRARIES)

    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["library"] for result in results] == list(LIBRARIES)
    for result in results:
        assert sum(result["trained"].values()) == 128
        assert result["before"]["TAU_MEM"] == pytest.approx([20e-3] * 64)
        assert result["after"]["TAU_MEM"] != result["before"]["TAU_MEM"]
        assert 0 <= result["accuracy before"] < 50
        assert min(result["accuracy fixed"], result["accuracy trained"]) > 50
