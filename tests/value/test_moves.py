"""Another dtype, another device, autocast: values stay valid, trainable and never stale."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from neuroparam import cached, find, make_fixed, make_trainable, neuron_parameters, summary, values
from neuroparam.errors import AssignmentError, NotTrainableError, UnsupportedModuleError
from tests.support.cases import Case, spikes
from tests.support.inside import attached
from tests.support.modules import STORAGES, Stored, assert_unchanged, snapshot
from tests.support.subjects import (
    NORSE,
    PLAIN,
    ROCKPOOL,
    SINABS,
    SIX,
    SNNTORCH,
    Network,
    network,
    paths,
)

X = spikes()


def moved(net: nn.Module, dtype: torch.dtype) -> bool:
    """Moves a network, and tells whether it runs in that dtype."""
    net.to(dtype)
    try:
        net(X.to(dtype))
    except RuntimeError:  # a library that builds its states in float32
        return False
    return True


def assert_valid(net: nn.Module, dtype: torch.dtype) -> None:
    for a in attached(net):
        value = values(net)[a.path]
        low, high = a.parameter.bounds
        assert value.dtype == a.parameter.raw.dtype == dtype
        assert ((low < value) & (value < high)).all(), a.path


def assert_trains(net: nn.Module, dtype: torch.dtype) -> None:
    """One step of an optimizer reaches every attached value, and leaves it valid."""
    net(X.to(dtype)).float().sum().backward()
    for raw in neuron_parameters(net):
        assert raw.grad is not None
        assert raw.grad.isfinite().all()
    torch.optim.SGD(neuron_parameters(net), lr=1e-3).step()
    assert_valid(net, dtype)


@pytest.fixture(params=[False, True], ids=["in place", "swapped"])
def conversion(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways in which torch converts Parameters."""
    torch.__future__.set_swap_module_params_on_conversion(request.param)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("conversion")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", SIX, ids=str)
def test_another_dtype_and_back(case: Case, dtype: torch.dtype) -> None:
    net = network(case)
    before = values(net)
    runs = moved(net, dtype)
    assert runs == moved(Network(case), dtype)
    assert_valid(net, dtype)
    tolerance = 4 * torch.finfo(dtype).eps + 1e-6
    for path, value in values(net).items():
        torch.testing.assert_close(value.float(), before[path], rtol=4 * tolerance, atol=0)
    if runs:
        assert_trains(net, dtype)
    fixed = make_fixed(copy.deepcopy(net))
    assert type(fixed.neuron) is type(case.build())
    for tensor in nn.Module.parameters(fixed):
        assert tensor.dtype == dtype
    net.float()
    assert_valid(net, torch.float32)
    if case is ROCKPOOL and dtype == torch.float16:  # has lost constants of its own on the way
        plain = Network(case).to(dtype).float()
        plain(X).sum().backward()
        assert plain.neuron.tau_mem.grad.isnan().all()
    else:
        assert_trains(net, torch.float32)


@pytest.mark.parametrize("case", SIX, ids=str)
def test_autocast_keeps_the_values_in_float32(case: Case) -> None:
    net = network(case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(X)
        for a in attached(net):
            assert getattr(a.owner, a.attribute).dtype == torch.float32
    output.float().sum().backward()
    for raw in neuron_parameters(net):
        assert raw.grad.dtype == torch.float32
        assert raw.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_attaching_in_half_precision_is_warned_about(dtype: torch.dtype) -> None:
    build, path = STORAGES["parameter"]
    with pytest.warns(UserWarning, match=rf"'{path}' is stored in {dtype}"):
        net = make_trainable(build().to(dtype), path)
    assert_valid(net, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed = STORAGES["number"][0]().to(dtype)
        mixed.other = nn.Parameter(torch.ones(2))
        assert make_trainable(mixed, "tau").tau.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_number_in_a_network_of_half_precision_gives_values_of_it(dtype: torch.dtype) -> None:
    plain = nn.Sequential(nn.Linear(3, 3), Stored(_number), nn.Linear(3, 3)).to(dtype)
    x = torch.ones(2, 3, dtype=dtype)
    net = copy.deepcopy(plain)
    with pytest.warns(UserWarning, match="is stored in"):
        make_trainable(net, "1.tau", shape=(3,))
    assert net[1].tau.dtype == dtype
    output = net(x)
    torch.testing.assert_close(output, plain(x), rtol=0.02, atol=0.02)
    output.sum().backward()
    (raw,) = neuron_parameters(net)
    assert raw.grad.abs().sum() > 0


def _number(module: nn.Module) -> None:
    module.tau = 4.0


@pytest.mark.parametrize("case", SIX, ids=str)
def test_a_move_inside_cached_is_never_stale(case: Case) -> None:
    net = network(case)
    with cached():
        net(X)
        for dtype in (torch.float64, torch.bfloat16, torch.float32):
            net.to(dtype)
            for a in attached(net):
                assert getattr(a.owner, a.attribute).dtype == dtype
        net(X).sum().backward()


@pytest.mark.parametrize("case", SIX, ids=str)
def test_to_meta_and_back_with_a_checkpoint(case: Case) -> None:
    net = network(case)
    source = network(case)
    with torch.no_grad():
        for raw in neuron_parameters(source):
            raw.add_(0.3)
    net.to("meta")
    assert all(value.is_meta for value in values(net).values())
    assert paths(case)[0] in summary(net)
    assert paths(case)[0] in str(find(net))
    net.to_empty(device="cpu")
    net.load_state_dict(source.state_dict())
    for path, value in values(source).items():
        assert torch.equal(values(net)[path], value)
    if case is not ROCKPOOL:  # which keeps tensors that no checkpoint holds, plain or not
        torch.testing.assert_close(net(X), source(X))
        assert_trains(net, torch.float32)


@pytest.mark.parametrize("case", SIX, ids=str)
def test_a_checkpoint_is_assigned_to_a_module_on_meta(case: Case) -> None:
    source = network(case)
    net = network(case).to("meta")
    net.load_state_dict(source.state_dict(), assign=True)
    for path, value in values(source).items():
        assert torch.equal(values(net)[path], value)
    plain = Network(case).to("meta")
    plain.load_state_dict(Network(case).state_dict(), assign=True)
    try:
        plain(X)
    except RuntimeError:  # states that no checkpoint holds stay on meta
        assert case in (SNNTORCH, ROCKPOOL)
        return
    torch.testing.assert_close(net(X), source(X))
    assert_trains(net, torch.float32)


def test_a_plain_checkpoint_is_assigned_to_a_module_on_meta() -> None:
    build, path = STORAGES["parameter"]
    net = make_trainable(build(), path).to("meta")
    net.load_state_dict(build().state_dict(), assign=True)
    torch.testing.assert_close(values(net)[path], build().tau.detach())
    assert_trains(net, torch.float32)


@pytest.mark.parametrize("case", [PLAIN, SINABS, ROCKPOOL], ids=str)  # others are not built so
def test_attaching_on_meta_is_refused(case: Case) -> None:
    with torch.device("meta"):
        net = Network(case)
    assert paths(case)[0] in str(find(net))
    before = snapshot(net)
    with pytest.raises(NotTrainableError, match=r"meta device.*to_empty"):
        make_trainable(net, paths(case))
    assert_unchanged(net, before)


@pytest.mark.parametrize("case", [NORSE, SNNTORCH], ids=str)
def test_what_is_not_built_on_meta(case: Case) -> None:
    with pytest.raises(RuntimeError, match="meta"), torch.device("meta"):
        Network(case)


def test_what_has_no_numbers_is_not_assigned() -> None:
    net = network(PLAIN)
    with pytest.raises(AssignmentError, match="meta device"):
        net.neuron.p.tau = torch.tensor(3.0, device="meta")
    net.to("meta")
    given: list[float | Tensor] = [3.0, torch.tensor(3.0), torch.tensor(3.0, device="meta")]
    for value in given:
        with pytest.raises(AssignmentError, match=r"meta device.*to_empty"):
            net.neuron.p.tau = value


@pytest.mark.parametrize("name", ["number", "parameter", "buffer", "tensor"])
def test_fixing_on_meta(name: str) -> None:
    build, path = STORAGES[name]
    net = make_trainable(build(), path).to("meta")
    if name == "number":
        before = snapshot(net)
        with pytest.raises(UnsupportedModuleError, match=r"'tau'.*to_empty"):
            make_fixed(net)
        assert_unchanged(net, before)
    else:
        assert type(make_fixed(net)) is Stored
        assert net.tau.is_meta
