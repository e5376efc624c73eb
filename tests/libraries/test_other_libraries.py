"""lava-dl, stork and hxtorch: on small modules that store and read their values as theirs do.

The libraries themselves cannot be installed beside the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    Softplus,
    errors,
    find,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.support.modules import assert_unchanged, snapshot
from tests.support.published import HXLIF, HXBaseParameter, LavaCuba, N, Stork, within

DT = 1e-3


def x() -> Tensor:
    return 1.5 * torch.rand(12, 3, N, generator=torch.Generator().manual_seed(0))


def assert_gradient_is_that_of_the_plain_module(
    attached: nn.Module, plain: nn.Module, run: Callable[[Any], Tensor]
) -> None:
    """By the chain rule, for a plain module whose values are leaves in the same places."""
    weight = torch.rand(run(plain).shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(run(attached), run(plain))
    (run(attached) * weight).sum().backward()
    (run(plain) * weight).sum().backward()
    for path, raw in zip(values(attached), neuron_parameters(attached), strict=True):
        stored, native = attached, plain
        for part in path.split("."):
            stored, native = getattr(stored, part), getattr(native, part)
        assert native.grad is not None
        (expected,) = torch.autograd.grad(stored, raw, native.grad)
        assert expected.abs().sum() > 0
        torch.testing.assert_close(raw.grad, expected, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------- lava-dl


def cuba(**keywords: Any) -> Any:
    return within("lava", LavaCuba, **keywords)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per channel"])
def test_lava_is_read_in_seconds_and_trains_within_its_twelve_bits(shared: bool) -> None:
    torch.manual_seed(0)
    net = cuba(shared_param=shared)
    net(x())  # draws a value for each channel
    plain = cuba(shared_param=shared)
    plain(x())
    plain.load_state_dict(net.state_dict())
    stored = net.voltage_decay.detach().clone()
    tau = -DT / torch.log(1 - stored / 4096)
    torch.testing.assert_close(values(net, Quantity.TAU_MEM, dt=DT)["voltage_decay"], tau)
    assert [each.path for each in find(net)] == ["current_decay", "voltage_decay"]
    assert repr(find(net)[0].parametrization) == repr(BoundedSigmoid(0.0, 4096.0))

    make_trainable(net, [Quantity.TAU_MEM, Quantity.TAU_SYN], dt=DT)
    torch.testing.assert_close(values(net, Quantity.TAU_MEM)["voltage_decay"], tau)
    assert_gradient_is_that_of_the_plain_module(net, plain, lambda net: net(x()))

    optimizer = torch.optim.Adam(neuron_parameters(net), lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        net(x()).sum().backward()
        optimizer.step()
    for value in values(net).values():
        assert ((value > 0) & (value < 4096)).all()
    trained = net(x()).detach()
    make_fixed(net)
    assert isinstance(net.voltage_decay, nn.Parameter)
    torch.testing.assert_close(net(x()), trained)


def test_lava_by_name_stays_within_its_bits_at_any_learning_rate() -> None:
    net = make_trainable(cuba(), ["current_decay", "voltage_decay"])
    for raw in neuron_parameters(net):
        with torch.no_grad():
            raw.fill_(1e30)
    assert all(0 < value < 4096 for value in values(net).values())


def test_lava_before_its_first_forward_is_refused_as_the_values_would_be_lost() -> None:
    net = cuba(shared_param=False)
    before = snapshot(net)
    for names in ("voltage_decay", Quantity.TAU_MEM):
        with pytest.raises(errors.NotTrainableError, match=r"first forward.*Run the network"):
            make_trainable(net, names, dt=DT)
    assert_unchanged(net, before)


@pytest.mark.parametrize("name", ["_threshold", Quantity.THRESHOLD])
def test_the_threshold_of_lava_is_refused_with_a_cure(name: Any) -> None:
    with pytest.raises(errors.NotTrainableError, match=r"no gradient.*Train the weights"):
        make_trainable(cuba(), name)


# ------------------------------------------------------------------------- stork


def stork(**keywords: Any) -> Any:
    return within("stork", Stork, **keywords)


def evolve(group: Any) -> Tensor:
    found: Tensor = group.evolve(x())
    return found


def test_stork_trains_its_decays_once_it_is_configured() -> None:
    group, plain = stork(), stork()
    for name in ("dcy_mem", "dcy_syn"):
        setattr(plain, name, torch.tensor(getattr(plain, name), requires_grad=True))
    make_trainable(group, [Quantity.TAU_MEM, Quantity.TAU_SYN])  # it has a time step of its own
    assert values(group, Quantity.TAU_MEM)["dcy_mem"].item() == pytest.approx(10e-3, rel=1e-5)
    assert values(group, Quantity.TAU_SYN)["dcy_syn"].item() == pytest.approx(5e-3, rel=1e-5)
    assert_gradient_is_that_of_the_plain_module(group, plain, evolve)
    make_fixed(group)
    assert type(group.dcy_mem) is float
    assert group.dcy_mem == pytest.approx(math.exp(-0.1), rel=1e-6)


@pytest.mark.parametrize(
    ("keywords", "name", "why"),
    [
        ({"configured": False}, "tau_mem", "Call model.configure"),
        ({"configured": False}, Quantity.TAU_MEM, "Call model.configure"),
        ({}, "tau_mem", "Name that decay, dcy_"),
        ({"learn_timescales": True}, "dcy_mem", "Train mem_param as it is"),
        ({"learn_timescales": True}, Quantity.TAU_SYN, "Train syn_param as it is"),
        ({"learn_timescales": True}, "mem_param", "unconstrained already"),
        ({}, "time_step", "time step"),
    ],
)
def test_what_stork_does_not_train_is_refused_with_a_cure(
    keywords: dict[str, bool], name: Any, why: str
) -> None:
    group = stork(**keywords)
    before = snapshot(group)
    with pytest.raises(errors.NotTrainableError, match=why):
        make_trainable(group, name)
    assert_unchanged(group, before)


def test_find_lists_the_decays_of_stork_alone() -> None:
    assert [each.path for each in find(stork())] == ["dcy_mem", "dcy_syn"]
    assert find(stork(configured=False)) == []


# ------------------------------------------------------------------------- hxtorch


def test_parameter_objects_train_and_say_so() -> None:
    net, plain = within("hxtorch", HXLIF), within("hxtorch", HXLIF)
    plain.tau_mem._model_value = torch.tensor(10e-6, requires_grad=True)
    plain.tau_syn._model_value.requires_grad_()
    names = [each.path for each in find(net)]
    assert names == ["tau_mem._model_value", "tau_syn._model_value"]
    assert not net.tau_mem.is_trainable()
    make_trainable(net, {"tau_*._model_value": ExpScaledLog()})
    assert net.tau_mem.is_trainable()
    assert_gradient_is_that_of_the_plain_module(net, plain, lambda net: net(x()))
    make_fixed(net)
    assert net.tau_mem._model_value == pytest.approx(10e-6)
    assert not net.tau_mem.is_trainable()


def test_a_parameter_object_named_as_a_whole_is_refused_with_its_value_named() -> None:
    with pytest.raises(errors.NotTrainableError, match=r"module.*tau_mem\._model_value"):
        make_trainable(within("hxtorch", HXLIF), "tau_mem")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("threshold._model_value", "Use a ModelParameter"),
        ("tau_mem._hardware_value", "Name _model_value"),
    ],
)
def test_values_of_the_hardware_are_refused(name: str, why: str) -> None:
    with pytest.raises(errors.NotTrainableError, match=why):
        make_trainable(within("hxtorch", HXLIF), {name: Softplus()})


def test_a_potential_of_zero_needs_bounds() -> None:
    leak = within("hxtorch", HXBaseParameter, 0.0, 80)
    with pytest.raises(errors.OutOfDomainError):
        make_trainable(leak, "_model_value")
    make_trainable(leak, {"_model_value": BoundedSigmoid(-1.0, 1.0)})
