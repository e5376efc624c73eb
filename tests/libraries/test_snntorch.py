"""What is special about snnTorch: clamped decays, joint constraints, hidden states."""

from __future__ import annotations

import copy
import math

import pytest
import snntorch as snn
import torch
from snntorch import utils
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    param_groups,
    values,
)
from tests.support.modules import assert_unchanged, snapshot

N = 3


def x(seed: int = 0) -> Tensor:
    return torch.rand(4, N, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------ decays


@pytest.mark.parametrize("beta", [-0.01, 1.01])
def test_natively_a_decay_beyond_its_bounds_gets_no_gradient(beta: float) -> None:
    native = snn.Leaky(beta=beta, learn_beta=True)
    native(x(), torch.ones(4, N))[1].sum().backward()
    assert native.beta.grad == 0


def test_attached_a_decay_stays_below_one() -> None:
    with pytest.raises(errors.OutOfDomainError, match=r"\(0, 1\)"):
        make_trainable(snn.Leaky(beta=1.0), "beta")
    module = make_trainable(snn.Leaky(beta=1.0), "beta", init=0.999)
    (raw,) = neuron_parameters(module)
    with torch.no_grad():
        raw.add_(5.0)
    _, mem = module(x(), torch.ones(4, N))
    mem.sum().backward()
    assert 0 < module.beta.item() < 1
    assert raw.grad.item() > 0


@pytest.mark.parametrize("learn", [False, True])
def test_integer_thresholds_and_both_ways_to_store(learn: bool) -> None:
    if learn:  # torch refuses an integer Parameter, in snnTorch's constructor
        with pytest.raises(RuntimeError, match="floating point"):
            snn.Leaky(beta=0.9, threshold=1, learn_threshold=True)
        module = snn.Leaky(beta=0.9, threshold=1.0, learn_threshold=True)
    else:
        module = snn.Leaky(beta=0.9, threshold=1)
        assert module.threshold.dtype == torch.int64
    make_trainable(module, "threshold")
    assert module.threshold.dtype == torch.float32
    assert neuron_parameters(module)[0].requires_grad


def test_a_checkpoint_of_the_plain_module_loads() -> None:
    plain = snn.Synaptic(alpha=0.7, beta=0.6, threshold=1.5)
    module = make_trainable(snn.Synaptic(alpha=0.9, beta=0.9), ["alpha", "beta", "threshold"])
    module.load_state_dict(plain.state_dict())
    found = {name: value.item() for name, value in values(module).items()}
    assert found == pytest.approx({"alpha": 0.7, "beta": 0.6, "threshold": 1.5}, rel=1e-6)


def test_spikes_come_back_in_float32() -> None:
    for module in (snn.Leaky(beta=0.9), make_trainable(snn.Leaky(beta=0.9), "beta")):
        spike, mem = module.double()(x().double())
        assert (spike.dtype, mem.dtype) == (torch.float32, torch.float64)


# -------------------------------------------------------------------------- joint constraints


def alpha() -> nn.Module:
    return snn.Alpha(alpha=0.9, beta=0.8)


@pytest.mark.parametrize("names", [["alpha"], ["beta"], ["alpha", "beta"], ["beta", "alpha"]])
def test_alpha_stays_above_beta_whatever_raw(names: list[str]) -> None:
    module = make_trainable(alpha(), names)
    for raws in ((-1e30, 1e30), (1e30, -1e30), (1e30, 1e30), (-1e30, -1e30)):
        with torch.no_grad():
            for raw, number in zip(neuron_parameters(module), raws, strict=False):
                raw.fill_(number)
        assert module.beta < module.alpha
        _, _, _, mem = module(x())
        assert mem.isfinite().all()
        module.reset_mem()


@pytest.mark.parametrize(("first", "second"), [("alpha", "beta"), ("beta", "alpha")])
def test_alpha_stays_above_beta_when_the_other_follows_after_training(first, second) -> None:
    module = make_trainable(alpha(), first)
    setattr(module, first, {"alpha": 0.99, "beta": 0.1}[first])  # training would do this
    make_trainable(module, second)
    with torch.no_grad():
        for raw in neuron_parameters(module):  # towards each other
            raw.fill_(-1e30 if raw is module.parametrizations["alpha"].original else 1e30)
    assert module.beta < module.alpha


def test_a_map_that_could_break_the_order_is_refused() -> None:
    module = alpha()
    before = snapshot(module)
    for name, wrong in (
        ("alpha", BoundedSigmoid(0.0, 1.0)),
        ("alpha", ExpScaledLog()),
        ("beta", BoundedSigmoid(0.5, 0.95)),
    ):
        with pytest.raises(errors.ParametrizationError, match="alpha must stay above beta"):
            make_trainable(module, {name: wrong})
    assert_unchanged(module, before)
    make_trainable(module, {"alpha": BoundedSigmoid(0.86, 0.99), "beta": BoundedSigmoid(0.5, 0.84)})


def test_the_order_in_alpha_as_snntorch_itself_has_it() -> None:
    with pytest.raises(TypeError):  # snnTorch 1.0 cannot build it
        snn.Alpha(alpha=0.9, beta=0.8, learn_alpha=True)


@pytest.mark.parametrize("names", [["R"], ["C"], ["R", "C"]])
def test_the_time_constant_of_lapicque_stays_above_the_step(names: list[str]) -> None:
    module = make_trainable(snn.Lapicque(R=5.1, C=5e-3, time_step=1e-3), names)
    for number in (-1e30, 0.0):
        with torch.no_grad():
            for raw in neuron_parameters(module):
                raw.fill_(number)
        # R0 * C0 = 25.5 steps leave each its share, the root of that
        assert (module.R * module.C / module.time_step).item() >= 1 - 1e-5
    if len(names) == 1:  # the other one, after training
        setattr(module, names[0], 100.0)
        make_trainable(module, "C" if names == ["R"] else "R")
        with torch.no_grad():
            for raw in neuron_parameters(module):
                raw.fill_(-1e30)
        assert (module.R * module.C / module.time_step).item() >= 1 - 1e-5
    with pytest.raises(errors.ParametrizationError, match="must stay above the time step"):
        make_trainable(snn.Lapicque(R=5.1, C=5e-3, time_step=1e-3), {"R": ExpScaledLog()})


def test_values_that_break_the_tie_already_are_refused() -> None:
    module = snn.Lapicque(R=0.5, C=0.5, time_step=1)
    before = snapshot(module)
    with pytest.raises(errors.NotTrainableError, match="present values do not keep"):
        make_trainable(module, "R")
    assert_unchanged(module, before)


def test_lapicque_is_forward_euler_whatever_its_beta_says() -> None:
    _, mem = snn.Lapicque(beta=0.9)(torch.zeros(1, 1), torch.ones(1, 1))
    assert mem.item() == pytest.approx(1 - math.log(1 / 0.9), rel=1e-5)


def test_the_dead_beta_of_lapicque_changes_nothing() -> None:
    module = snn.Lapicque(beta=0.9)
    _, mem = module(x())
    module.reset_mem()
    module.beta.fill_(0.1)
    assert torch.equal(module(x())[1], mem)


# ---------------------------------------------------------------------------------- networks


def hidden() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(N, N),
        snn.Leaky(beta=0.9, init_hidden=True),
        nn.Linear(N, 2),
        snn.Leaky(beta=0.8, init_hidden=True, output=True),
    )


def test_hidden_states_are_reset_by_the_librarys_own_helper() -> None:
    net = make_trainable(hidden(), ["*.beta", "*.threshold"])
    first = [net(x())[1] for _ in range(3)]
    utils.reset(net)
    again = [net(x())[1] for _ in range(3)]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)


def test_which_states_the_librarys_own_helper_resets() -> None:
    """Those of all layers of a class that is a direct child, whatever their network."""
    net = make_trainable(nn.Sequential(snn.Leaky(beta=0.9, init_hidden=True)), "*.beta")
    other = snn.Leaky(beta=0.9, init_hidden=True)
    for part in (net, other):
        part(x())
    utils.reset(nn.Sequential(net))
    assert net[0].mem.abs().sum() > 0
    utils.reset(net)
    assert net[0].mem.abs().sum() == 0
    assert other.mem.abs().sum() == 0
    snn.DeltaLeaky(delta_threshold=0.5, beta=0.9)  # has no state yet, which the helper wants
    with pytest.raises(AttributeError):
        utils.reset(net)


def test_a_network_with_hidden_states_trains_and_is_copied() -> None:
    net = make_trainable(hidden(), {"*.beta": None, "*.threshold": None})
    optimizer = torch.optim.Adam(param_groups(net, lr=1e-2))
    for _ in range(3):
        utils.reset(net)
        total = torch.zeros(())
        for step in range(5):
            _, mem = net(x(step))
            total = total + mem.square().mean()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    twin = copy.deepcopy(net)  # after a forward, which a plain snnTorch network refuses
    assert values(twin).keys() == values(net).keys()
    assert type(make_fixed(twin)[1]) is snn.Leaky
    # the list that snnTorch resets has the layers that were built, and no copies
    _, mem = net(x())
    utils.reset(twin)
    assert net[1].mem.abs().sum() == 0
    twin(x())
    twin[1].reset_mem()
    assert twin[1].mem.abs().sum() == 0
    plain = hidden()
    plain(x())
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(plain)
