"""Two processes train as one: DDP, fully_shard, distributed checkpoints, the MNIST example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from neuroparam import values
from tests.support.cases import Case
from tests.support.distributed_worker import SHARDS, WAYS, built, joint_batch, train
from tests.support.subjects import ROCKPOOL, SIX, THREE

ROOT = Path(__file__).parents[2]
# One process of pytest runs the tests that look at the worker's results, so that it runs once.
pytestmark = pytest.mark.xdist_group("processes")
sharded = pytest.mark.skipif(not SHARDS, reason="fully_shard of this torch needs a GPU")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAINED = [(c, way) for c in SIX for way in WAYS if (c, way) != (ROCKPOOL, "fsdp by layers")]


def run(*arguments: object) -> str:
    """Runs a script of this repository to its end; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run of the worker in two processes has left."""
    folder = tmp_path_factory.mktemp("distributed")
    run(*TORCHRUN, ROOT / "tests" / "support" / "distributed_worker.py", folder)
    return folder


@pytest.fixture(scope="session")
def both(folder: Path) -> list[dict[str, Any]]:
    """The results of both processes."""
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("case", "way"), TRAINED, ids=lambda part: str(part).replace(" ", "-"))
def test_two_processes_train_as_one(both: list[dict[str, Any]], case: Case, way: str) -> None:
    first, second = (results[f"train {case} {way}"] for results in both)
    net = built(case)
    before = values(net)
    one = train(net, joint_batch())
    for kind in ("raw", "values", "gradients"):
        assert_same(first[kind], second[kind])
        for tensors in (first[kind], one[kind]):
            # Norse keeps neurons from exciting themselves by a hook on the Parameter, which
            # fully_shard exchanges
            if "neuron.recurrent_weights" in tensors:
                tensors["neuron.recurrent_weights"].fill_diagonal_(0.0)
        torch.testing.assert_close(first[kind], one[kind], rtol=1e-4, atol=1e-5)
    assert set(before) == set(first["values"])
    for path, value in first["values"].items():
        assert (value != before[path]).all()
    # three steps
    assert list(first["evaluations"].values()) == [3] * len(before)


@pytest.mark.parametrize("way", WAYS)
def test_values_can_be_assigned_and_shown(both: list[dict[str, Any]], way: str) -> None:
    for results in both:
        seen = results[f"assigned {way}"]
        torch.testing.assert_close(seen["values"]["neuron.p.tau"], torch.full((3,), 7.0))
        torch.testing.assert_close(seen["values"]["neuron.p.gain"], torch.arange(1.0, 4.0))
        tau, gain = seen["summary"].splitlines()[1:]
        assert tau.split()[2:8] == ["7", "7", "7", "(0,", "inf)", "3/3"]
        assert gain.split()[2:8] == ["1", "2", "3", "(0,", "inf)", "3/3"]
        assert seen["negative"].startswith("OutOfDomainError: 'neuron.p.tau': 3 of 3 values")


def test_fixing_a_copy_under_ddp(both: list[dict[str, Any]]) -> None:
    for results in both:
        assert results["fixed ddp"]["type"] == "Pair"
        torch.testing.assert_close(results["fixed ddp"]["tau"], torch.full((3,), 7.0))


@pytest.mark.parametrize("way", WAYS[1:])
def test_fixing_what_is_sharded_goes_by_its_state_dict(
    both: list[dict[str, Any]], way: str
) -> None:
    for results in both:
        seen = results[f"fixed {way}"]
        assert "get_model_state_dict with full_state_dict=True" in seen["refused"]
        assert "FSDP does not support deepcopy" in seen["copy refused"]  # torch's own
        torch.testing.assert_close(seen["tau"], torch.full((3,), 7.0))


@pytest.mark.parametrize("way", WAYS)
def test_the_guard_sees_what_gets_no_gradient(both: list[dict[str, Any]], way: str) -> None:
    for results in both:
        assert results[f"guarded {way}"].startswith(
            "NoGradientError: no gradient reaches\n  gain\n"
        )


def test_attaching_after_ddp_is_refused(both: list[dict[str, Any]]) -> None:
    for results in both:
        seen = results["late"]
        assert "is or holds a DistributedDataParallel" in seen["ddp"]
        for refused in ("module of ddp", "module of ddp, again"):
            assert "which therefore does not average the gradients" in seen[refused]
            assert "neuron.p.tau\n  neuron.p.gain\nCall make_trainable first" in seen[refused]
        assert seen["wrapped anew"] == "no error"
        assert "average the gradients of\n  neuron.p.gain\nCall" in seen["attached again"]


def test_attaching_after_fully_shard_is_refused(both: list[dict[str, Any]]) -> None:
    for results in both:
        seen = results["late"]
        for refused in ("fsdp", "part of fsdp"):
            assert "Call make_trainable before fully_shard" in seen[refused]
        assert not SHARDS or seen["fsdp trains on"] == "no error"


def test_constants_fitted_to_other_initial_values_do_not_part_the_processes(
    both: list[dict[str, Any]],
) -> None:
    first, second = (results["drawn apart"] for results in both)
    for seen in (first, second):
        torch.testing.assert_close(seen["ddp"]["neuron.p.tau"], torch.full((3,), 2.0))
    assert_same(first["ddp"], second["ddp"])
    # what the user gave is not overruled
    given = second["ddp, constants of the user"]
    assert given.startswith("CheckpointError: 'neuron.p.gain' in process 1 is not what it is in")


@sharded
def test_processes_that_share_a_tensor_must_have_the_same_constants(
    both: list[dict[str, Any]],
) -> None:
    second = both[1]["drawn apart"]
    assert "process 1 has attached with other constants" in second["fsdp"]
    assert "seed all processes alike before make_trainable" in second["fsdp"]


def test_check_gradients(both: list[dict[str, Any]]) -> None:
    for results in both:
        seen = results["checked"]
        assert (seen["ddp"], seen["module of ddp"], seen["ddp trains on"]) == ("no error",) * 3
        assert "Call check_gradients before fully_shard" in seen["fsdp"]


def test_what_fails_with_plain_modules_too(both: list[dict[str, Any]]) -> None:
    for results in both:
        assert "Change original to a 1D tensor with numel equal to 1" in results["scalar"]
        plain, attached = results["layer of Rockpool"]
        assert "object layout differs" in plain
        assert "object layout differs" in attached
        assert not SHARDS or (results["autapses of plain Norse"] != 0).any()


@pytest.mark.filterwarnings("ignore:torch.distributed is .*single process")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", THREE, ids=str)
def test_a_checkpoint_of_two_processes_loads_into_one(
    both: list[dict[str, Any]], folder: Path, case: Case, way: str
) -> None:
    wanted = both[0][f"saved {case} {way}"]
    assert_same(wanted["loaded"], wanted["saved"])
    net = built(case, init=0.6)  # other constants are fitted
    state = net.state_dict()
    dcp.load(state, checkpoint_id=folder / f"{case} {way}")
    net.load_state_dict(state)
    assert_same(values(net), wanted["saved"])


@pytest.mark.xdist_group("example in two processes")
def test_the_mnist_example_in_two_processes(tmp_path: Path) -> None:
    arguments = ("--epochs", 1, "--neuron-lr", 0.02, "--arms", "raw", "reparametrised")
    example = ROOT / "examples" / "mnist.py"
    alone = run(example, *arguments, "--out", tmp_path / "one")
    together = run(*TORCHRUN, example, *arguments, "--out", tmp_path / "two")
    # one process prints
    assert together.count("1437 training and 360 test images") == 1
    assert len(together.splitlines()) == len(alone.splitlines())
    one, two = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("one", "two"))
    assert len(one) == len(two) == 2
    for expected, result in zip(one, two, strict=True):
        assert result["before"] == expected["before"]
        # at most three of 360 test images otherwise
        torch.testing.assert_close(
            result["accuracies"], expected["accuracies"], rtol=0, atol=100 * 3 / 360
        )
        for path, after in expected["after"].items():
            torch.testing.assert_close(
                torch.tensor(result["after"][path]), torch.tensor(after), rtol=2e-3, atol=0
            )
