"""Checkpoints restore values, or raise; nothing loads into another value in silence."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from neuroparam import BoundedSigmoid, ExpScaledLog, Softplus, errors, make_trainable, values
from tests.modules import STORAGES, FromRecord, Pair
from tests.test_make_trainable import INPUT


def build(init: float = 4.0, **keywords) -> nn.Module:
    maps = {"tau": ExpScaledLog(), "gain": Softplus()} | keywords
    return make_trainable(FromRecord(Pair()), maps, init={"tau": init}, shape=(3,))


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_restores_the_values(assign: bool) -> None:
    trained, fresh = build(7.0), build(2.0)
    fresh.load_state_dict(through_a_file(trained.state_dict()), strict=True, assign=assign)
    for path, value in values(trained).items():
        assert torch.equal(values(fresh)[path], value)
    assert fresh.p.parametrizations["tau"][0].reference == 7.0
    fresh(INPUT).sum().backward()
    fresh.p.tau = 3.0


def test_other_constants_raise_before_anything_is_loaded() -> None:
    trained = build(7.0, tau=ExpScaledLog(reference=10.0))
    fresh = build(2.0, tau=ExpScaledLog(reference=20.0))
    before = values(fresh)
    with pytest.raises((errors.CheckpointError, RuntimeError), match=r"reference=10\.0.*20\.0"):
        fresh.load_state_dict(trained.state_dict())
    assert torch.equal(values(fresh)["p.tau"], before["p.tau"])
    other = build(2.0, tau=BoundedSigmoid(1.0, 100.0))
    with pytest.raises(errors.CheckpointError):
        other.load_state_dict(trained.state_dict())


@pytest.mark.parametrize("name", ["parameter", "buffer", "vector parameter"])
def test_a_checkpoint_of_the_plain_module_loads(name: str) -> None:
    plain, path = STORAGES[name][0](), STORAGES[name][1]
    with torch.no_grad():
        plain.tau.mul_(1.5)
    module = make_trainable(STORAGES[name][0](), path)
    module.load_state_dict(through_a_file(plain.state_dict()), strict=True)
    torch.testing.assert_close(values(module)["tau"], plain.tau.detach())
    wrong = plain.state_dict()
    wrong["tau"] = -plain.tau.detach()
    with pytest.raises(errors.OutOfDomainError, match="'tau'"):
        module.load_state_dict(wrong)
    torch.testing.assert_close(values(module)["tau"], plain.tau.detach())


def test_deepcopy_copies_share_nothing() -> None:
    module = build()
    module(INPUT).sum().backward()
    other = copy.deepcopy(module)
    other.p.tau = 9.0
    assert (module.p.tau == 4.0).all()
    make_trainable(nn.Sequential(other), "0.steps")
    assert "steps" not in values(module)
    module(INPUT).sum().backward()
    assert type(copy.deepcopy(module).p) is type(module.p)


def test_averaging_keeps_both_working() -> None:
    module = build()
    average = torch.optim.swa_utils.AveragedModel(module)
    module.p.tau = 9.0
    average.update_parameters(module)
    average(INPUT)
    assert isinstance(values(average)["module.p.tau"], Tensor)
    module(INPUT).sum().backward()


@pytest.mark.parametrize("name", ["number", "buffer", "named tuple, tensors, in a network"])
def test_pickle_and_torch_save_keep_a_module_whole(name: str) -> None:
    store, path = STORAGES[name]
    del store
    module = FromRecord(Pair())
    network = make_trainable(nn.Sequential(module), {"tau": ExpScaledLog()}, shape=(3,))
    network(INPUT)
    for copied in (
        pickle.loads(pickle.dumps(network)),
        _saved(network),
        copy.copy(network),
    ):
        assert torch.equal(copied(INPUT), network(INPUT))
        assert type(copied[0].p) is type(network[0].p)
        copied(INPUT).sum().backward()
    assert path


def _saved(network: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_ensembles_stack() -> None:
    modules = [build(init) for init in (2.0, 4.0, 8.0)]
    assert len({type(m) for m in modules}) == 1
    parameters, buffers = torch.func.stack_module_state(modules)
    skeleton = copy.deepcopy(modules[0]).to("meta")

    def one(p: dict, b: dict, x: Tensor) -> Tensor:
        return torch.func.functional_call(skeleton, (p, b), (x,))

    # the fitted reference differs, so each member is attached with the same constants
    same = [build(i, tau=ExpScaledLog(reference=4.0), gain=Softplus(scale=2.0)) for i in (2.0, 8.0)]
    parameters, buffers = torch.func.stack_module_state(same)
    skeleton = copy.deepcopy(same[0]).to("meta")
    stacked = torch.vmap(one, in_dims=(0, 0, None))(parameters, buffers, INPUT)
    torch.testing.assert_close(stacked, torch.stack([m(INPUT) for m in same]))
