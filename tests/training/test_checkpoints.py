"""Checkpoints restore values, or raise; nothing loads into another value in silence."""

from __future__ import annotations

import copy
import io
import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Softplus,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    plain_state_dict,
    values,
)
from tests.support.cases import Case, spikes
from tests.support.modules import INPUT, STORAGES, FromRecord, Pair
from tests.support.subjects import (
    NORSE,
    ROCKPOOL,
    SINABS,
    SIX,
    SNNTORCH,
    SPIKINGJELLY,
    Network,
    network,
)

every_network = pytest.mark.parametrize("case", SIX, ids=str)


def build(init: float = 4.0, **keywords) -> nn.Module:
    maps = {"tau": ExpScaledLog(), "gain": Softplus()} | keywords
    return make_trainable(FromRecord(Pair()), maps, init={"tau": init}, shape=(3,))


def moved(case: Case) -> Network:
    """A network with other values, weights and fitted constants than a fresh one."""
    module = network(case)
    with torch.no_grad():
        for parameter in nn.Module.parameters(module):
            parameter.add_(0.01 * torch.rand_like(parameter) + 0.01)
    return module


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_same_values(one: nn.Module, other: nn.Module) -> None:
    assert values(one).keys() == values(other).keys()
    for path, value in values(one).items():
        assert torch.equal(values(other)[path], value), path


@every_network
@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_restores_the_values(case: Case, assign: bool) -> None:
    trained, fresh = moved(case), network(case)
    fresh.load_state_dict(through_a_file(trained.state_dict()), strict=True, assign=assign)
    assert_same_values(fresh, trained)
    assert torch.equal(fresh(spikes()), trained(spikes()))
    fresh(spikes()).sum().backward()
    assert all(raw.grad is not None for raw in neuron_parameters(fresh))


def test_fitted_constants_travel() -> None:
    trained, fresh = build(7.0), build(2.0)
    fresh.load_state_dict(through_a_file(trained.state_dict()))
    assert fresh.p.parametrizations["tau"][0].reference == 7.0
    assert_same_values(fresh, trained)
    fresh.p.tau = 3.0
    assert (fresh.p.tau == 3.0).all()


def _refused(module: nn.Module, state: dict, message: str, **options) -> None:
    before = {key: copy.deepcopy(value) for key, value in module.state_dict().items()}
    tensors = [id(p) for p in nn.Module.parameters(module)]
    with pytest.raises(errors.NeuroparamError, match=message):
        module.load_state_dict(state, **options)
    assert [id(p) for p in nn.Module.parameters(module)] == tensors
    for key, value in module.state_dict().items():
        same = torch.equal(value, before[key]) if isinstance(value, Tensor) else None
        assert same if same is not None else value == before[key], key


@pytest.mark.parametrize("strict", [True, False])
def test_other_constants_raise_before_anything_is_loaded(strict: bool) -> None:
    trained = build(7.0, tau=ExpScaledLog(reference=10.0))
    fresh = build(2.0, tau=ExpScaledLog(reference=20.0))
    _refused(fresh, trained.state_dict(), r"reference=10\.0.*20\.0", strict=strict)
    other = build(2.0, tau=BoundedSigmoid(1.0, 100.0))
    _refused(other, trained.state_dict(), "parametrization='ExpScaledLog'", strict=strict)


def _without(key: str):
    return lambda state: {k: v for k, v in state.items() if not k.endswith(key)}


def _with(key: str, value: object):
    def changed(state: dict) -> dict:
        (full,) = [k for k in state if k.endswith(key)]
        return state | {full: value}

    return changed


# what happens to a checkpoint -> the message; "p.tau" and the linear layer are both in it
BROKEN = {
    "truncated": (lambda state: dict(list(state.items())[:2]), r"Missing key\(s\)"),
    "without a weight": (_without("linear.bias"), r"Missing key\(s\).*\n.*linear\.bias"),
    "without a raw tensor": (_without("tau.original"), r"Missing key\(s\).*\n.*tau\.original"),
    "without constants": (_without("tau.0._extra_state"), r"tau'.*_extra_state' is missing"),
    "empty": (lambda state: {}, r"Missing key\(s\)"),
    "of another network": (
        lambda state: nn.Linear(3, 3).state_dict(),
        r"Unexpected key\(s\).*\n  (net\.)?weight",
    ),
    "with more in it": (lambda state: state | {"out.weight": torch.ones(2)}, "out.weight"),
    "of another size": (
        _with("linear.weight", torch.ones(4, 4)),
        r"linear\.weight: \(4, 4\) in the checkpoint, \(3, 3\) here",
    ),
    "of another number of neurons": (
        _with("tau.original", torch.ones(4)),
        r"tau\.original: \(4,\) in the checkpoint, \(\) here(.|\n)*same names and shape",
    ),
    "no tensor": (_with("linear.bias", "bias"), r"linear\.bias: a str, no tensor"),
    "NaN": (_with("tau.original", torch.tensor(math.nan)), "not finite.*an earlier one"),
    "infinite": (_with("tau.original", torch.tensor(math.inf)), "not finite.*an earlier one"),
    "constants of nonsense": (
        _with("tau.0._extra_state", {"parametrization": "ExpScaledLog", "reference": -1.0}),
        "reference=-1.0",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_checkpoint_that_does_not_fit_leaves_the_module_as_it_was(name: str) -> None:
    break_, message = BROKEN[name]
    plain = nn.Sequential()
    plain.add_module("linear", nn.Linear(3, 3))
    plain.add_module("neuron", FromRecord(Pair()))
    module = make_trainable(plain, {"neuron.p.tau": ExpScaledLog()})
    module(INPUT)
    broken = break_(module.state_dict())
    _refused(module, broken, message)
    parent = nn.ModuleDict({"net": module})
    _refused(parent, {f"net.{key}": value for key, value in broken.items()}, message)
    # torch's own error is a RuntimeError: code that catches it goes on working
    with pytest.raises(RuntimeError):
        module.load_state_dict(broken)


@every_network
def test_a_truncated_checkpoint_of_a_library_leaves_the_network_as_it_was(case: Case) -> None:
    state = moved(case).state_dict()
    for count in range(len(state)):
        _refused(network(case), dict(list(state.items())[:count]), r"Missing key\(s\)|is missing")


def test_modules_with_loading_code_of_their_own_judge_for_themselves() -> None:
    module = make_trainable(nn.Sequential(FromRecord(Pair()), nn.BatchNorm1d(3)), "0.p.tau")
    state = module.state_dict()
    del state["1.num_batches_tracked"]
    state._metadata["1"]["version"] = 1  # as written before torch 0.4.1: BatchNorm takes it
    assert not module.load_state_dict(state).missing_keys


@pytest.mark.parametrize("name", ["parameter, in a network", "buffer, in a network"])
@pytest.mark.parametrize("assign", [False, True])
def test_of_shape_1_a_raw_entry_fits_a_single_value_as_in_torch(name: str, assign: bool) -> None:
    build_, path = STORAGES[name]
    trained, fresh = (make_trainable(build_(), path, init) for init in (7.0, 5.0))
    state = trained.state_dict()
    for key in state:
        if key.endswith("tau.original"):
            state[key] = state[key].reshape(1)
    fresh.load_state_dict(state, assign=assign)
    assert neuron_parameters(fresh)[0].shape == ()
    assert_same_values(fresh, trained)


@pytest.mark.parametrize("name", ["parameter, in a network", "buffer, in a network"])
def test_of_shape_1_a_plain_entry_does_not_fit_a_single_value(name: str) -> None:
    build_, path = STORAGES[name]
    state = build_().state_dict()
    state[path] = state[path].reshape(1)
    _refused(make_trainable(build_(), path), state, r"its shape is \(\), and stays so")


def test_not_strict_loads_what_is_there() -> None:
    trained, fresh = build(7.0), build(2.0)
    state = {key: v for key, v in trained.state_dict().items() if "gain" not in key}
    kept = values(fresh)["p.gain"]
    result = fresh.load_state_dict(state | {"other": torch.ones(1)}, strict=False)
    assert result.unexpected_keys == ["other"]
    assert all("gain" in key for key in result.missing_keys)
    assert torch.equal(values(fresh)["p.tau"], values(trained)["p.tau"])
    assert torch.equal(values(fresh)["p.gain"], kept)


# --------------------------------------------------------------------- plain and attached


STORED = [SNNTORCH, SINABS, ROCKPOOL]  # as Parameters or buffers
NOT_STORED = [NORSE, SPIKINGJELLY]  # in a record, as numbers


@pytest.mark.parametrize("case", [*STORED, *NOT_STORED], ids=str)
def test_attached_checkpoint_into_the_plain_module(case: Case) -> None:
    trained, plain = moved(case), Network(case)
    if case in STORED:
        state = plain_state_dict(trained)
    else:  # stored as numbers: said aloud, since the values would be lost
        with pytest.warns(UserWarning, match=r"no place for\n  neuron\.(.|\n)*make_fixed"):
            state = plain_state_dict(trained)
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(through_a_file(state), strict=True)
    with torch.no_grad():
        expected = trained(spikes())
        if case in STORED:
            torch.testing.assert_close(plain(spikes()), expected)
        fixed = make_fixed(copy.deepcopy(trained))
        torch.testing.assert_close(fixed(spikes()), expected)
    assert torch.equal(fixed.linear.weight, plain.linear.weight)


@pytest.mark.parametrize("case", STORED, ids=str)
@pytest.mark.parametrize("strict", [True, False])
def test_plain_checkpoint_into_the_attached_module(case: Case, strict: bool) -> None:
    trained, fresh = moved(case), network(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = through_a_file(plain_state_dict(trained))
    fresh.load_state_dict(state, strict=strict)
    for path, value in values(trained).items():
        torch.testing.assert_close(values(fresh)[path], value)
    torch.testing.assert_close(fresh(spikes()), trained(spikes()))


@pytest.mark.parametrize("case", NOT_STORED, ids=str)
def test_a_plain_checkpoint_that_lacks_the_values_is_refused(case: Case) -> None:
    _refused(network(case), Network(case).state_dict(), "before make_trainable")


@pytest.mark.parametrize("name", ["parameter", "buffer", "vector parameter", "frozen parameter"])
@pytest.mark.parametrize("place", ["", ", in a network"])
def test_plain_values_out_of_domain_are_refused(name: str, place: str) -> None:
    build_, path = STORAGES[name + place]
    module, state = make_trainable(build_(), path), build_().state_dict()
    module.load_state_dict(state)
    for wrong in (-1.0, 0.0, math.nan, math.inf):
        _refused(module, state | {path: torch.full_like(state[path], wrong)}, "outside the domain")
    _refused(module, state | {path: torch.ones(7)}, r"its shape is")
    for entry in (None, "ten", [10.0]):
        _refused(module, state | {path: entry}, "it takes a number or a tensor")


@pytest.mark.parametrize("name", STORAGES)
def test_keys_of_the_plain_state_dict_are_the_plain_modules(name: str) -> None:
    build_, path = STORAGES[name]
    module, plain = make_trainable(build_(), path), build_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = plain_state_dict(module)
    assert state.keys() == plain.state_dict().keys()
    assert bool(caught) == (path not in state)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(state[key], value.to(state[key].dtype))
        assert not state[key].requires_grad


def test_a_neuron_module_used_twice_has_its_keys_twice() -> None:
    def shared() -> nn.Module:
        neuron = STORAGES["buffer"][0]()
        return nn.Sequential(neuron, nn.Identity(), neuron)

    module = make_trainable(shared(), "0.tau")
    module[2].tau = 7.0
    state = plain_state_dict(module)
    assert state.keys() == shared().state_dict().keys()
    fresh = make_trainable(shared(), "0.tau")
    fresh.load_state_dict(state)
    assert fresh[0].tau == fresh[2].tau == 7.0
    fresh.load_state_dict(module.state_dict())
