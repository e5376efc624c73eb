"""Attached values get other numbers, stop training, and train again."""

from __future__ import annotations

import copy
import math
from typing import Any

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch
from spikingjelly.activation_based import neuron
from torch import nn
from torch.distributions import LogNormal

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Quantity,
    Rate,
    Softplus,
    Steps,
    errors,
    freeze,
    make_trainable,
    neuron_parameters,
    param_groups,
    set_values,
    summary,
    unfreeze,
    values,
)
from neuroparam.initial import log_normal

DT = 1e-3


def network(**keywords: Any) -> nn.Module:
    net = nn.ModuleDict({"hidden": snn.Leaky(beta=0.9), "out": snn.Leaky(beta=0.9)})
    return make_trainable(net, **({"names": ["*.beta", "*.threshold"]} | keywords))


def numbers(net: nn.Module) -> dict[str, float]:
    return {path: round(value.item(), 5) for path, value in values(net).items()}


# ------------------------------------------------------------------------- where they start


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ({"*.beta": 0.5}, (0.5, 0.5)),
        ({"hidden.beta": 0.5}, (0.5, 0.9)),
        ({"*.beta": 0.5, "out.bet?": 0.6}, (0.5, 0.6)),  # the most letters count
        ({"hidden.*": 0.5, "out.beta": 0.6, "*.threshold": 1.0}, (0.5, 0.6)),
    ],
)
def test_starts_may_be_named_finer_than_values(
    init: dict[Any, Any], expected: tuple[float, float]
) -> None:
    found = numbers(network(init=init))
    assert (found["hidden.beta"], found["out.beta"]) == expected


def test_starts_of_a_quantity_are_in_seconds_for_each_layer() -> None:
    net = nn.ModuleDict({"hidden": snn.Leaky(beta=0.9), "out": sl.LIF(tau_mem=10.0)})
    starts = {"hidden.*": 20e-3, "out.*": 50e-3}
    make_trainable(net, Quantity.TAU_MEM, init=starts, dt=DT)
    found = {path: tau.item() for path, tau in values(net, Quantity.TAU_MEM).items()}
    assert found == {
        "hidden.beta": pytest.approx(20e-3, rel=1e-6),
        "out.tau_mem": pytest.approx(50e-3, rel=1e-6),
    }


def test_a_start_for_nothing_is_refused() -> None:
    with pytest.raises(errors.UnknownNameError, match=r"init speaks of"):
        network(init={"last.beta": 0.5})


# ------------------------------------------------------------------------- other numbers


@pytest.mark.parametrize(
    ("names", "value", "expected"),
    [
        ("*.beta", 0.5, {"hidden.beta": 0.5, "out.beta": 0.5}),
        (["hidden.beta", "out.threshold"], 0.7, {"hidden.beta": 0.7, "out.threshold": 0.7}),
        ({"*.beta": 0.5, "out.beta": 0.6}, None, {"hidden.beta": 0.5, "out.beta": 0.6}),
        ("*.beta", lambda shape: torch.full(shape, 0.3), {"hidden.beta": 0.3, "out.beta": 0.3}),
    ],
)
def test_values_by_name(names: Any, value: Any, expected: dict[str, float]) -> None:
    net = network()
    raws = neuron_parameters(net)
    before = numbers(net)
    assert set_values(net, names, value) is net
    assert numbers(net) == before | expected
    assert all(one is other for one, other in zip(raws, neuron_parameters(net), strict=True))


@pytest.mark.parametrize("as_quantity", [True, False])
def test_values_in_seconds(as_quantity: bool) -> None:
    net = nn.ModuleDict({"snn": snn.Leaky(beta=0.9), "norse": norse.LIFCell()})
    names = Quantity.TAU_MEM if as_quantity else ["snn.beta", "norse.p.tau_mem_inv"]
    make_trainable(net, names, dt=DT if as_quantity else None)
    set_values(net, Quantity.TAU_MEM, 20e-3, dt=None if as_quantity else DT)
    for tau in values(net, Quantity.TAU_MEM, dt=DT).values():
        assert tau.item() == pytest.approx(20e-3, rel=1e-5)
    assert net["norse"].p.tau_mem_inv.item() == pytest.approx(50.0, rel=1e-5)


def test_what_values_gives_goes_back_in_its_own_unit() -> None:
    net = network(names=Quantity.TAU_MEM, dt=DT)
    kept = values(net, Quantity.TAU_MEM)
    other = set_values(network(names=Quantity.TAU_MEM, init=50e-3, dt=DT), kept)
    torch.testing.assert_close(dict(values(other, Quantity.TAU_MEM)), dict(kept))
    stored = values(net)
    set_values(other, stored)
    torch.testing.assert_close(dict(values(other)), dict(stored))


def test_values_are_drawn_for_each_neuron() -> None:
    torch.manual_seed(0)
    net = network(names=Quantity.TAU_MEM, shape=(50,), dt=DT)
    set_values(net, Quantity.TAU_MEM, LogNormal(-4.0, 0.3))
    for tau in values(net, Quantity.TAU_MEM).values():
        assert len(tau.unique()) == 50


@pytest.mark.parametrize(
    ("names", "value", "kind", "why"),
    [
        ("*.tau", 1.0, errors.UnknownNameError, "no trainable value named"),
        ("*.beta", 1.5, errors.OutOfDomainError, "hidden.beta"),
        ({"out.threshold": 1.0, "hidden.beta": 1.5}, None, errors.OutOfDomainError, "hidden.beta"),
        ("*.beta", torch.zeros(3), errors.InvalidArgumentError, r"value of 'hidden\.beta'"),
        ("*.beta", "half", errors.InvalidArgumentError, r"value of 'hidden\.beta'"),
        ("*.beta", None, errors.InvalidArgumentError, "value: give the number"),
        (Quantity.TAU_MEM, 20e-3, errors.TimeStepError, "dt=1e-3"),
        ("beta", 0.5, errors.AmbiguousNameError, "beta"),
    ],
)
def test_a_bad_call_changes_nothing(names: Any, value: Any, kind: Any, why: str) -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(kind, match=why):
        set_values(net, names, value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


# ------------------------------------------------------------------------- frozen


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    x, spikes = torch.rand(5, 2, 3), torch.zeros(())
    mem = net["hidden"].init_leaky(), net["out"].init_leaky()
    for part in x:
        hidden, first = net["hidden"](part, mem[0])
        out, second = net["out"](hidden, mem[1])
        mem = first, second
        spikes = spikes + out.sum() + second.sum()
    spikes.backward()
    optimizer.step()


def test_what_is_frozen_stays_and_trains_again_afterwards() -> None:
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    step(net, optimizer)
    freeze(net, "*.beta")
    start = numbers(net)
    for _ in range(3):
        step(net, optimizer)
    now = numbers(net)
    moved = {path for path in start if start[path] != now[path]}
    assert moved == {"hidden.threshold", "out.threshold"}
    assert "frozen" in summary(net).splitlines()[1 + list(start).index("hidden.beta")]
    assert summary(net).count("frozen") == 2
    unfreeze(net, "hidden.beta")
    step(net, optimizer)
    assert numbers(net)["hidden.beta"] != start["hidden.beta"]
    assert numbers(net)["out.beta"] == start["out.beta"]
    assert "frozen" not in summary(unfreeze(net))


def test_a_gradient_that_waits_is_dropped_when_its_value_is_frozen() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    x, mem = torch.rand(2, 3), net["hidden"].init_leaky()
    _, mem = net["hidden"](x, mem)
    _, mem = net["hidden"](x, mem)
    mem.sum().backward()
    start = numbers(net)
    optimizer_would_step = [raw for raw in neuron_parameters(net) if raw.grad is not None]
    assert optimizer_would_step
    freeze(net)
    optimizer.step()
    assert numbers(net) == start


def test_a_frozen_copy_learns_of_gradients_once_it_trains_again() -> None:
    net = unfreeze(copy.deepcopy(freeze(network())))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    start = numbers(net)
    for _ in range(4):  # no error and no warning: it trains
        step(net, optimizer)
    assert numbers(net)["hidden.beta"] != start["hidden.beta"]


@pytest.mark.parametrize("change", [freeze, unfreeze])
def test_names_that_mean_nothing_are_refused(change: Any) -> None:
    net = network()
    with pytest.raises(errors.UnknownNameError):
        change(net, "*.tau")
    with pytest.raises(errors.UnsupportedModuleError):
        change("net")
    assert change(nn.Linear(2, 2)) is not None  # nothing is attached, and nothing is to do


# ------------------------------------------------------------------------- groups by name


def test_groups_by_name_with_options_of_their_own() -> None:
    net = nn.ModuleDict({"fc": nn.Linear(3, 3), **dict(network().items())})
    groups = param_groups(
        net,
        1e-3,
        {"*.beta": 1e-2, "out.beta": {"lr": 3e-2, "betas": (0.8, 0.9)}},
        weight_decay=1e-4,
        bias_weight_decay=0.0,
        neuron_weight_decay=1e-5,
        betas=(0.9, 0.95),
    )
    found = {g["name"]: (len(g["params"]), g["lr"], g["weight_decay"], g["betas"]) for g in groups}
    assert found == {
        "weights": (1, 1e-3, 1e-4, (0.9, 0.95)),
        "biases": (1, 1e-3, 0.0, (0.9, 0.95)),
        "neuron parameters *.beta": (1, 1e-2, 1e-5, (0.9, 0.95)),
        "neuron parameters out.beta": (1, 3e-2, 1e-5, (0.8, 0.9)),
        "neuron parameters": (2, 1e-3, 1e-5, (0.9, 0.95)),
    }
    torch.optim.AdamW(groups)


def test_groups_by_quantity_hold_a_tied_value_once() -> None:
    net = network(names=[Quantity.TAU_MEM, Quantity.THRESHOLD], dt=DT, tie=True)
    groups = param_groups(net, 1e-3, {"hidden.beta": 1e-2, Quantity.TAU_MEM: 2e-2})
    assert [(g["lr"], len(g["params"])) for g in groups] == [(1e-2, 1), (1e-3, 1)]


@pytest.mark.parametrize(
    ("neuron_lr", "kind", "why"),
    [
        ({"*.tau": 1e-2}, errors.UnknownNameError, "no trainable value"),
        ({"*.beta": -1.0}, errors.InvalidArgumentError, r"neuron_lr\['\*\.beta'\] must be"),
        ({"*.beta": {"weight_decay": "no"}}, errors.InvalidArgumentError, r"neuron_lr\["),
        ({"*.beta": {"lr": None}}, errors.InvalidArgumentError, r"neuron_lr\["),
    ],
)
def test_groups_that_make_no_sense_are_refused(neuron_lr: Any, kind: Any, why: str) -> None:
    with pytest.raises(kind, match=why):
        param_groups(network(), 1e-3, neuron_lr)


def test_a_user_s_own_maps_are_set_and_frozen_too() -> None:
    net = network(names={"*.beta": [BoundedSigmoid(0.1, 0.95)], "*.threshold": Softplus(0.2)})
    set_values(net, {"*.beta": 0.6, "*.threshold": 0.5})
    assert set(numbers(freeze(net)).values()) == {0.6, 0.5}
    module = nn.Module()
    module.tau = 3.0
    set_values(make_trainable(module, {"tau": ExpScaledLog()}), "tau", 4)
    assert module.tau.item() == pytest.approx(4.0)


# ------------------------------------------------------------------------- slips of the unit


@pytest.mark.parametrize(
    ("build", "names", "init", "dt", "why"),
    [
        (lambda: snn.Leaky(beta=0.9), "beta", 20e-3, None, r"0\.256 time steps.*per step"),
        (lambda: snn.Leaky(beta=0.9), Quantity.TAU_MEM, 20.0, DT, r"2e\+04 time steps.*20e-3"),
        (lambda: snn.Leaky(beta=0.9), Quantity.TAU_MEM, 20e-6, DT, r"0\.02 time steps.*20e-3"),
        (lambda: snn.Leaky(beta=0.9), Quantity.TAU_MEM, 5.0, DT, "a second or more.*20e-3"),
        (lambda: snn.Leaky(beta=0.9), Quantity.TAU_MEM, 20.0, 1.0, r"dt=1 is.*1 ms is dt=1e-3"),
        (lambda: snn.Leaky(beta=0.9), Quantity.TAU_MEM, None, 1.0, r"dt=1 is.*1 ms is dt=1e-3"),
        (lambda: norse.LIFCell(), "tau_mem_inv", 10e-3, None, r"1e\+05 time steps.*1/s"),
        (lambda: sl.LIF(tau_mem=10.0), "tau_mem", 20e-3, None, r"0\.02 time steps.*steps"),
    ],
)
def test_a_time_constant_in_another_unit_is_warned_of(
    build: Any, names: Any, init: Any, dt: Any, why: str
) -> None:
    with pytest.warns(errors.UnitWarning, match=why):
        make_trainable(build(), names, init, dt=dt)


def test_a_warning_that_is_an_error_leaves_the_module_as_it_was() -> None:
    leaky = snn.Leaky(beta=0.9)
    with pytest.raises(errors.UnitWarning):
        make_trainable(leaky, "beta", 20e-3)  # the tests run with warnings as errors
    assert values(leaky) == {}


def test_a_log_normal_by_its_median_is_warned_of() -> None:
    torch.manual_seed(0)
    meant = "median at exp\\(loc\\), 1.02 s.*log_normal\\(median, spread\\)"
    leaky = snn.Leaky(beta=0.9)
    with pytest.warns(errors.UnitWarning, match=meant):
        make_trainable(leaky, Quantity.TAU_MEM, LogNormal(20e-3, 0.5), shape=(50,), dt=DT)
    with pytest.warns(errors.UnitWarning, match=meant):
        set_values(leaky, Quantity.TAU_MEM, LogNormal(20e-3, 0.5))
    for right in (LogNormal(math.log(20e-3), 0.5), log_normal(20e-3, 0.5)):
        set_values(leaky, Quantity.TAU_MEM, right)
    coarse = make_trainable(snn.Leaky(beta=0.9), Quantity.TAU_MEM, shape=(50,), dt=5e-3)
    set_values(coarse, Quantity.TAU_MEM, log_normal(1.2, 0.5))


def test_set_values_warns_too() -> None:
    leaky = make_trainable(snn.Leaky(beta=0.9), Quantity.TAU_MEM, dt=DT)
    with pytest.warns(errors.UnitWarning, match="20e-3"):
        set_values(leaky, Quantity.TAU_MEM, 20.0)


@pytest.mark.parametrize(
    ("build", "names", "init", "dt"),
    [
        (lambda: snn.Leaky(beta=0.9), "beta", 0.5, None),
        (lambda: snn.Leaky(beta=0.99999), "beta", None, None),  # as the user built it
        (lambda: snn.Leaky(beta=0.9), "threshold", 20e-3, None),
        (lambda: snn.Leaky(beta=0.9), Quantity.TAU_MEM, 20e-3, DT),
        (lambda: snn.Leaky(beta=0.9), Quantity.TAU_MEM, 5.0, 10e-3),  # slow, in coarse steps
        (lambda: norse.LIFCell(), "tau_mem_inv", 100.0, None),
    ],
)
def test_what_a_simulation_may_mean_is_not(
    build: Any, names: Any, init: Any, dt: Any, recwarn: pytest.WarningsRecorder
) -> None:
    module = make_trainable(build(), names, init, dt=dt)
    assert values(module)
    assert not [each for each in recwarn if each.category is errors.UnitWarning]


def test_assigning_seconds_to_what_is_stored_as_a_decay_is_warned_of() -> None:
    leaky = make_trainable(snn.Leaky(beta=0.9), Quantity.TAU_MEM, dt=DT)
    with pytest.warns(errors.UnitWarning, match="assigning takes what the module stores"):
        leaky.beta = 20e-3
    leaky.beta = 0.8


def test_a_step_of_a_second_in_a_chain_is_warned_of_once() -> None:
    net = nn.ModuleList(snn.Leaky(beta=0.9) for _ in range(3))
    with pytest.warns(errors.UnitWarning, match="dt=1 is a step of 1 seconds") as caught:
        make_trainable(net, {"*.beta": [ExpScaledLog(), Decay(dt=1.0)]}, init=0.9)
    assert len(caught) == 1


def test_an_assigned_value_is_refused_in_the_unit_in_which_it_was_given() -> None:
    node = make_trainable(neuron.LIFNode(tau=5.0), Quantity.TAU_MEM, dt=DT)
    with pytest.raises(errors.OutOfDomainError, match=r"0\.02 is outside \(1, inf\)"):
        node.tau = 20e-3


@pytest.mark.parametrize(
    ("build", "chain", "why"),
    [
        (
            lambda: snn.Leaky(beta=0.9),
            {"beta": [ExpScaledLog(), Rate()]},
            "end the chain with Decay",
        ),
        (lambda: snn.Leaky(beta=0.9), {"beta": [ExpScaledLog(), Steps(DT)]}, "with Decay"),
        (lambda: norse.LIFCell(), {"tau_mem_inv": [ExpScaledLog(), Steps(DT)]}, "with Rate"),
        (lambda: LIFTorch(3), {"tau_mem": [ExpScaledLog(), Rate()]}, "without a unit map"),
        (
            lambda: snn.Leaky(beta=0.9),
            {Quantity.TAU_MEM: [ExpScaledLog(), Decay(DT)]},
            "puts the unit map of each library in by itself",
        ),
    ],
)
def test_the_unit_map_of_another_library_is_refused(build: Any, chain: Any, why: str) -> None:
    with pytest.raises(errors.ParametrizationError, match=why):
        make_trainable(build(), chain, dt=DT if Quantity.TAU_MEM in chain else None)


def test_a_network_without_attached_values_has_groups_too() -> None:
    """Experiments compare it with one that has some, by the same code."""
    (group,) = param_groups(nn.Linear(2, 2), 1e-3, neuron_lr=1e-2)
    assert group["name"] == "weights"
