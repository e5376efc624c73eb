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
def test_of_shape_1_a_plain_entry_fits_a_single_value_as_in_torch(name: str) -> None:
    build_, path = STORAGES[name]
    module = build_()
    state = module.state_dict()
    state[path] = torch.full((1,), 7.0)
    make_trainable(module, path).load_state_dict(state)
    torch.testing.assert_close(values(module)[path], torch.tensor(7.0))


@pytest.mark.parametrize("name", ["parameter, in a network", "buffer, in a network"])
def test_one_number_of_a_plain_checkpoint_is_for_all_neurons(name: str) -> None:
    build_, path = STORAGES[name]
    state = build_().state_dict()
    state[path] = torch.tensor(7.0)
    module = make_trainable(build_(), path, shape=(4,))
    module.load_state_dict(state)
    torch.testing.assert_close(values(module)[path], torch.full((4,), 7.0))


class Chained(nn.Module):
    """A value behind two maps that fit constants, beside a layer and another value."""

    def __init__(self, tau: float, gain: float = 1.0, shape: int = 3):
        super().__init__()
        self.first = nn.Linear(shape, shape)
        self.inner = nn.Module()
        self.inner.tau, self.inner.gain = tau, gain
        self.last = nn.Linear(shape, shape)
        chain = [Softplus(lower=-1.0), ExpScaledLog()]
        make_trainable(self, {"inner.tau": chain, "inner.gain": Softplus()}, shape=(shape,))


TAU = "inner.parametrizations.tau."


@pytest.mark.parametrize("strict", [True, False])
def test_constants_without_their_raw_tensor_are_not_adopted(strict: bool) -> None:
    # the usual filter by shape: a tensor of another shape is left out, its constants are not
    source, module = Chained(7.0, 3.0, shape=4), Chained(2.0)
    mine, before = module.state_dict(), values(module)
    fits = {k: v for k, v in source.state_dict().items() if v.shape == mine[k].shape}
    assert {key for key in fits if "inner" in key}
    if strict:
        _refused(module, fits, r"Missing key\(s\)")
        return
    missing = module.load_state_dict(fits, strict=False).missing_keys
    assert {key for key in missing if "inner" in key} == {
        "inner.parametrizations.tau.original",
        "inner.parametrizations.gain.original",
    }
    assert all(torch.equal(values(module)[path], value) for path, value in before.items())


@pytest.mark.parametrize("part", ["", "inner", "inner.parametrizations.tau"])
@pytest.mark.parametrize("strict", [True, False])
def test_every_part_loads_a_value_with_its_constants_or_not_at_all(part: str, strict: bool) -> None:
    source, module = Chained(7.0, 3.0), Chained(2.0)
    prefix = f"{part}." if part else ""
    state = {k[len(prefix) :]: v for k, v in source.state_dict().items() if k.startswith(prefix)}
    target = module.get_submodule(part)
    tau = TAU.removeprefix(prefix)
    for broken in (
        {k: v for k, v in state.items() if k != f"{tau}1._extra_state"},
        state | {f"{tau}0._extra_state": state[f"{tau}1._extra_state"]},
        state | {f"{tau}original": torch.ones(4)},
        state | {f"{tau}original": torch.tensor([1.0, math.nan, 1.0])},
        state | {f"{tau}original": "abc"},
        state | {f"{tau}original": torch.ones(3, dtype=torch.complex64)},
    ):
        with pytest.raises(errors.CheckpointError, match=r"'inner\.tau'"):
            target.load_state_dict(broken, strict=strict)
        assert_same_values(module, Chained(2.0))
    target.load_state_dict(state, strict=strict)
    assert torch.equal(values(module)["inner.tau"], values(source)["inner.tau"])
    without_raw = {k: v for k, v in Chained(3.0).inner.state_dict().items() if "original" not in k}
    module.inner.load_state_dict(without_raw, strict=False)
    assert torch.equal(values(module)["inner.tau"], values(source)["inner.tau"])


@pytest.mark.parametrize(
    "key", ["parametrizations.gain.original", "parametrizations.gain.0._extra_state"]
)
def test_nothing_of_an_inner_module_is_loaded_where_one_value_does_not_fit(key: str) -> None:
    module, source = Chained(2.0), Chained(7.0, 3.0)
    with torch.no_grad():
        module.first.weight.fill_(1.0)
    for target, prefix in ((module, "inner."), (module.inner, "")):
        state = target.state_dict() | {
            f"{prefix}{k}": v for k, v in source.inner.state_dict().items()
        }
        _refused(target, state | {f"{prefix}{key}": torch.ones(7)}, r"inner\.gain'")
    parent = nn.ModuleList([Chained(2.0), Chained(2.0)])  # attached in their constructors
    state = {f"0.{k}": v for k, v in source.state_dict().items()}
    state |= {f"1.{k}": v for k, v in source.state_dict().items()}
    state = parent.state_dict() | {k: v for k, v in state.items() if "inner" in k}
    _refused(parent, state | {f"1.inner.{key}": torch.ones(7)}, r"'1\.inner\.gain'")


def test_a_map_alone_adopts_no_constants() -> None:
    module, source = Chained(2.0), Chained(7.0)
    state = source.inner.parametrizations.tau[1].state_dict()
    with pytest.raises(errors.CheckpointError, match="together with their raw values"):
        module.inner.parametrizations.tau[1].load_state_dict(state)
    assert_same_values(module, Chained(2.0))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("place", ["", "net."])
def test_modules_that_rename_keys_in_a_hook_judge_for_themselves(strict: bool, place: str) -> None:
    def rename(module, state, prefix, *_):
        for key in [key for key in state if key.startswith(f"{prefix}old.")]:
            state[f"{prefix}first.{key.removeprefix(f'{prefix}old.')}"] = state.pop(key)

    module, source = Chained(2.0), Chained(7.0)
    module.register_load_state_dict_pre_hook(rename)
    target = nn.ModuleDict({"net": module}) if place else module
    state = {f"{place}{k}".replace("first", "old"): v for k, v in source.state_dict().items()}
    target.load_state_dict(state, strict=strict)
    assert torch.equal(module.first.weight, source.first.weight)
    assert_same_values(module, source)


def test_the_checkpoint_that_was_given_is_left_as_it_was() -> None:
    state = Chained(7.0).state_dict()
    before = {key: entry.clone() for key, entry in state.items()}
    module = Chained(2.0)
    module.load_state_dict({k: v for k, v in state.items() if k != f"{TAU}original"}, strict=False)
    module.load_state_dict(state)
    assert state.keys() == before.keys()
    for key, entry in before.items():
        assert torch.equal(state[key], entry), key


def test_a_checkpoint_of_an_earlier_version_loads() -> None:
    trained, fresh = build(7.0), build(2.0)
    old = trained.state_dict() | {
        "p.parametrizations.tau.0._extra_state": {
            "parametrization": "ExpScaledLog",
            "scale": 1.0,
            "reference": 7.0,
        },
        "p.parametrizations.gain.0._extra_state": {
            "parametrization": "Softplus",
            "lower": 0.0,
            "scale": 2.0,
        },
    }
    fresh.load_state_dict(through_a_file(old))
    assert_same_values(fresh, trained)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_in_another_precision_loads(dtype: torch.dtype, assign: bool) -> None:
    trained, fresh = build(7.1), build(2.0)
    with torch.no_grad():
        trained.p.parametrizations["tau"].original.copy_(torch.tensor([-0.5, 0.0, 0.5]))
    values(trained)  # before another network has the same raw numbers, and rounded constants
    fresh.load_state_dict({k: v.to(dtype) for k, v in trained.state_dict().items()}, assign=assign)
    assert fresh.p.tau.dtype == (dtype if assign else torch.float32)
    for path, value in values(trained).items():
        rounding = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(
            values(fresh)[path].double(), value.double(), rtol=max(rounding, 1e-6), atol=0
        )


def test_constants_beyond_the_precision_are_refused() -> None:
    trained, fresh = build(3e5), build(2.0)
    state = trained.state_dict()
    _refused(fresh.half(), state, r"'p\.tau'.*no room in torch\.float16")
    _refused(build(2.0), {k: v.half() for k, v in state.items()}, r"'p\.tau'.*reference=inf")
    raws = {k: v if k.endswith("_extra_state") else v.half() for k, v in state.items()}
    _refused(build(2.0), raws, r"'p\.tau'.*no room in torch\.float16", assign=True)
    build(2.0).load_state_dict(raws)


def test_an_average_of_unlike_networks_is_refused() -> None:
    one, other = build(7.0), build(2.0)
    mean = {k: (v + other.state_dict()[k]) / 2 for k, v in one.state_dict().items()}
    _refused(build(7.0), mean, r"'p\.tau': .*average of networks in which reference differed")
    given = [build(each, tau=ExpScaledLog(reference=5.0)) for each in (7.0, 2.0)]
    mean = {k: (v + given[1].state_dict()[k]) / 2 for k, v in given[0].state_dict().items()}
    merged = build(1.0, tau=ExpScaledLog(reference=5.0))
    merged.load_state_dict(mean)
    torch.testing.assert_close(merged.p.tau, torch.full((3,), math.sqrt(14.0)))


def test_what_is_written_into_the_tensors_of_a_state_dict_counts() -> None:
    source, copied, averaged = build(7.0), build(2.0), build(2.0)
    for tensor, theirs in zip(
        copied.state_dict().values(), source.state_dict().values(), strict=True
    ):
        tensor.copy_(theirs)
    assert_same_values(copied, source)
    for tensor, theirs in zip(
        averaged.state_dict().values(), source.state_dict().values(), strict=True
    ):
        tensor.lerp_(theirs, 0.5)
    for read in (lambda: averaged(INPUT), lambda: values(averaged), averaged.state_dict):
        with pytest.raises(errors.CheckpointError, match=r"in place .*reference differed"):
            read()
    averaged.load_state_dict(source.state_dict())
    assert_same_values(averaged, source)
    assert_same_values(copy.deepcopy(averaged), source)


def test_a_running_average_within_the_state_dict_follows_the_network() -> None:
    module = build(7.0)
    average = copy.deepcopy(module)
    for _ in range(50):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.01)
        for mine, theirs in zip(
            average.state_dict().values(), module.state_dict().values(), strict=True
        ):
            mine.mul_(0.9).add_(theirs, alpha=0.1)
    assert average.p.parametrizations["tau"][0].reference == pytest.approx(7.0, rel=1e-12)
    assert (values(average)["p.tau"] > 7.0).all()
    assert (values(average)["p.tau"] < values(module)["p.tau"]).all()


def test_functional_call_takes_a_whole_state_dict_of_equal_constants() -> None:
    module, other = build(7.0), build(2.0)
    moved_ = {k: v if "_extra" in k else v + 0.5 for k, v in module.state_dict().items()}
    expected = build(7.0)
    expected.load_state_dict(moved_)
    output = torch.func.functional_call(module, moved_, INPUT)
    torch.testing.assert_close(output, expected(INPUT))
    assert_same_values(module, build(7.0))
    with pytest.raises(errors.CheckpointError, match="reference"):
        torch.func.functional_call(module, other.state_dict(), INPUT)
    assert_same_values(module, build(7.0))
    assert module.p.parametrizations["tau"].original.requires_grad


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
        _refused(
            module,
            state | {path: torch.full_like(state[path], wrong)},
            "is outside|outside the domain",
        )
    inner, dot, _ = path.rpartition(".")
    for target, prefix in ((module, ""), (module.get_submodule(inner), inner + dot)):
        mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        name = path.removeprefix(prefix)
        for entry, message in (
            (torch.ones(7), "its shape is"),
            (torch.ones_like(state[path], dtype=torch.bool), "bool"),
            (None, "it takes a number or a tensor"),
            ("ten", "it takes a number or a tensor"),
            ([10.0], "it takes a number or a tensor"),
        ):
            with pytest.raises(errors.CheckpointError, match=f"'{path}': .*plain.*{message}"):
                target.load_state_dict(mine | {name: entry}, strict=False)
            _refused(target, mine | {name: entry}, message)


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
