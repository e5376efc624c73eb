"""One recipe for any library: the same time constant in seconds means the same dynamics."""

from __future__ import annotations

import copy
import math

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch
from spikingjelly.activation_based import neuron
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
    summary,
    values,
)
from neuroparam.units import Above
from tests.support.cases import N
from tests.support.decaying import Decaying, every_decay, pulse, shaped
from tests.support.modules import assert_unchanged, snapshot

DT, TAU = 1e-3, 20e-3
TAUS = torch.tensor([10e-3, 20e-3, 40e-3])


def ratio(trace: Tensor) -> Tensor:
    """By what the state is multiplied in each step, per neuron, after the input has gone."""
    factors = trace[2:] / trace[1:-1]
    torch.testing.assert_close(factors, factors[:1].expand_as(factors), rtol=1e-4, atol=0)
    return factors.double().mean(dim=0)


@every_decay
def test_the_same_seconds_give_the_same_decay(quantity: Quantity, case: Decaying) -> None:
    module = case.build(DT)
    tau = shaped(module, quantity, TAUS)
    make_trainable(module, {quantity: ExpScaledLog()}, init={quantity: tau}, dt=DT)
    (read,) = values(module, quantity).values()
    torch.testing.assert_close(read, tau, rtol=2e-6, atol=0)
    found = ratio(case.trace(module, pulse(12)))
    torch.testing.assert_close(found, case.factor(TAUS, DT), rtol=1e-5, atol=0)
    # and so all libraries agree, to the step that the Euler ones take for the exponential
    exact = torch.exp(-DT / TAUS.double())
    close = ((DT / TAUS.double()) ** 2 / 2).max().item() * 1.1 if case.euler else 1e-5
    assert (found - exact).abs().max() <= close


@every_decay
def test_after_training_the_values_are_what_the_module_does(quantity, case: Decaying) -> None:
    module = case.build(DT)
    tau = shaped(module, quantity, TAUS)
    make_trainable(module, {quantity: ExpScaledLog()}, init={quantity: tau}, dt=DT)
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=0.05)
    for _ in range(10):  # away from each other, whatever the gradient
        optimizer.zero_grad()
        case.trace(module, pulse(6)).square().sum().backward()
        optimizer.step()
    (read,) = values(module, quantity).values()
    assert not torch.allclose(read, tau, rtol=1e-2)
    with torch.no_grad():
        found = ratio(case.trace(module, pulse(12)))
        torch.testing.assert_close(found, case.factor(read, DT), rtol=1e-5, atol=0)
        fixed = make_fixed(copy.deepcopy(module))
        if not (isinstance(fixed, neuron.LIFNode)):  # its kernel takes one number only
            torch.testing.assert_close(
                ratio(case.trace(fixed, pulse(12))), found, rtol=1e-5, atol=0
            )


# -------------------------------------------------------------------------------- one network


def network() -> nn.Module:
    """A layer of each library, which nobody would build."""
    return nn.ModuleDict(
        {
            "norse": norse.LIFCell(),
            "snn": snn.Synaptic(alpha=0.8, beta=0.9),
            "jelly": neuron.LIFNode(tau=5.0),
            "sinabs": sl.LIF(tau_mem=10.0, tau_syn=5.0),
            "rockpool": LIFTorch(N),
            "linear": nn.Linear(2, 2),
        }
    )


def test_one_call_serves_all_libraries() -> None:
    net = make_trainable(
        network(),
        {Quantity.TAU_MEM: ExpScaledLog(), Quantity.THRESHOLD: Softplus(lower=0.05)},
        init={Quantity.TAU_MEM: TAU, Quantity.THRESHOLD: 0.8},
        shape={Quantity.TAU_MEM: (N,), Quantity.THRESHOLD: (N,)},
        dt=DT,
    )
    taus = values(net, Quantity.TAU_MEM)
    assert sorted(taus) == [
        "jelly.tau",
        "norse.p.tau_mem_inv",
        "rockpool.tau_mem",
        "sinabs.tau_mem",
        "snn.beta",
    ]
    for tau in taus.values():
        torch.testing.assert_close(tau, torch.full((N,), TAU))
    for threshold in values(net, Quantity.THRESHOLD).values():
        torch.testing.assert_close(threshold, torch.full((N,), 0.8))
    assert not set(taus) & set(values(net, Quantity.TAU_SYN))
    stored = values(net)
    assert stored["norse.p.tau_mem_inv"][0].item() == pytest.approx(50.0, rel=1e-6)
    assert stored["snn.beta"][0].item() == pytest.approx(math.exp(-0.05), rel=1e-6)
    assert stored["jelly.tau"][0].item() == pytest.approx(20.0, rel=1e-6)
    assert stored["rockpool.tau_mem"][0].item() == pytest.approx(0.02, rel=1e-6)


def test_without_init_the_present_values_stay() -> None:
    net = network()
    before = {c.path: c.value for c in find(net)}
    make_trainable(net, [Quantity.TAU_MEM, Quantity.TAU_SYN, Quantity.THRESHOLD], dt=DT)
    for path, value in values(net).items():
        torch.testing.assert_close(value, before[path], rtol=1e-6, atol=0)
    expected = {
        "norse.p.tau_mem_inv": 10e-3,
        "snn.beta": -DT / math.log(0.9),
        "jelly.tau": 5e-3,
        "sinabs.tau_mem": 10e-3,
    }
    for path, tau in expected.items():
        assert values(net, Quantity.TAU_MEM)[path].item() == pytest.approx(tau, rel=1e-6)


def test_values_read_seconds_of_what_was_attached_by_name() -> None:
    net = network()
    make_trainable(net, ["norse.p.tau_mem_inv", "snn.beta", "rockpool.tau_mem"])
    with pytest.raises(errors.TimeStepError, match=r"'snn\.beta'.*dt=1e-3"):
        values(net, Quantity.TAU_MEM)
    taus = values(net, Quantity.TAU_MEM, dt=DT)
    assert taus["norse.p.tau_mem_inv"].item() == pytest.approx(10e-3, rel=1e-6)
    assert taus["snn.beta"].item() == pytest.approx(-DT / math.log(0.9), rel=1e-5)
    assert torch.allclose(taus["rockpool.tau_mem"], torch.tensor(0.02))


def test_a_name_and_a_pattern_count_before_a_quantity() -> None:
    net = nn.ModuleDict({name: snn.Leaky(beta=0.9) for name in ("a", "b", "out")})
    make_trainable(
        net,
        {
            Quantity.TAU_MEM: ExpScaledLog(),
            "b*.beta": BoundedSigmoid(0.5, 1.0),
            "out.beta": BoundedSigmoid(0.8, 1.0),
        },
        init={Quantity.TAU_MEM: TAU, "out.beta": 0.85},
        dt=DT,
    )
    maps = {name: list(net[name].parametrizations["beta"]) for name in net}
    assert [type(link).__name__ for link in maps["a"]] == ["ExpScaledLog", "Decay"]
    assert maps["b"][0].lower == 0.5
    assert maps["out"][0].lower == 0.8
    assert net["out"].beta.item() == pytest.approx(0.85)
    assert net["b"].beta.item() == pytest.approx(0.9)


def test_a_distribution_is_in_seconds() -> None:
    net = nn.Sequential(snn.Leaky(beta=0.9), norse.LIFCell())
    drawn = torch.distributions.Uniform(10e-3, 30e-3)
    make_trainable(
        net, {Quantity.TAU_MEM: BoundedSigmoid(5e-3, 50e-3)}, init=drawn, shape=(50,), dt=DT
    )
    for tau in values(net, Quantity.TAU_MEM).values():
        assert 10e-3 <= tau.min() < tau.max() <= 30e-3
    wider = torch.distributions.Uniform(1e-3, 30e-3)
    with pytest.raises(errors.InitialValueError, match="support"):
        make_trainable(
            snn.Leaky(beta=0.9),
            {Quantity.TAU_MEM: BoundedSigmoid(5e-3, 50e-3)},
            init=wider,
            shape=(50,),
            dt=DT,
        )


def test_a_long_time_constant_keeps_its_digits() -> None:
    with pytest.warns(errors.UnitWarning, match="a second or more"):
        leaky = make_trainable(
            snn.Leaky(beta=0.9), {Quantity.TAU_MEM: ExpScaledLog()}, init=10.0, dt=DT
        )
    # a decay of 0.9999 in float32 would give 10.0002 back
    assert values(leaky, Quantity.TAU_MEM)["beta"].item() == pytest.approx(10.0, rel=1e-7)
    assert leaky.beta.dtype == torch.float32


def test_layers_of_different_sizes_get_shapes_of_their_own() -> None:
    net = nn.ModuleDict({"hidden": snn.Synaptic(alpha=0.8, beta=0.9), "out": snn.Leaky(beta=0.9)})
    names = [Quantity.TAU_MEM, Quantity.TAU_SYN, Quantity.THRESHOLD]
    shape = {"hidden.*": (8,), "out.*": (2,), "out.threshold": ()}
    make_trainable(net, names, shape=shape, dt=DT)
    assert {path: tuple(value.shape) for path, value in values(net).items()} == {
        "hidden.beta": (8,),
        "hidden.alpha": (8,),
        "hidden.threshold": (8,),
        "out.beta": (2,),
        "out.threshold": (),
    }
    with pytest.raises(errors.UnknownNameError, match=r"shape speaks of .*\n.*'middle\.\*'"):
        make_trainable(snn.Leaky(beta=0.9), Quantity.TAU_MEM, shape={"middle.*": (8,)}, dt=DT)
    part = make_trainable(
        nn.Sequential(snn.Leaky(beta=0.9), snn.Leaky(beta=0.9)),
        Quantity.TAU_MEM,
        shape={"0.beta": (8,)},
        dt=DT,
    )
    assert [tuple(value.shape) for value in values(part).values()] == [(8,), ()]


# ------------------------------------------------------------------------------------- Euler


@pytest.mark.parametrize("build", [norse.LIFCell, lambda: neuron.LIFNode(tau=20.0)])
def test_a_time_constant_of_an_euler_cell_stays_above_the_step(build) -> None:
    module = make_trainable(build(), {Quantity.TAU_MEM: ExpScaledLog()}, init=TAU, dt=DT)
    (parameter,) = (part for part in module.modules() if hasattr(part, "physical"))
    assert isinstance(parameter[1], Above)
    (raw,) = neuron_parameters(module)
    for number in (-1e30, -50.0, 0.0, 50.0, 1e30):
        with torch.no_grad():
            raw.fill_(number)
        (tau,) = values(module, Quantity.TAU_MEM).values()
        assert tau > DT
    within = make_trainable(build(), {Quantity.TAU_MEM: BoundedSigmoid(2e-3, 0.1)}, dt=DT)
    assert not any(isinstance(part, Above) for part in within.modules())
    module = build()
    before = snapshot(module)
    for low in (0.0, 0.5e-3):
        with pytest.raises(errors.ParametrizationError, match="forward Euler"):
            make_trainable(module, {Quantity.TAU_MEM: BoundedSigmoid(low, 0.1)}, dt=DT)
    with pytest.raises(errors.OutOfDomainError):
        make_trainable(module, Quantity.TAU_MEM, init=0.9e-3, dt=DT)
    assert_unchanged(module, before)


# ------------------------------------------------------------------------------------- errors


def test_a_time_step_is_asked_for_and_checked() -> None:
    leaky = snn.Leaky(beta=0.9)
    before = snapshot(leaky)
    with pytest.raises(errors.TimeStepError, match=r"'beta'.*no time step of its own.*dt=1e-3"):
        make_trainable(leaky, Quantity.TAU_MEM)
    for wrong in (0.0, -1e-3, math.inf, math.nan, "1 ms", True):
        with pytest.raises(errors.TimeStepError, match="positive number of seconds"):
            make_trainable(leaky, Quantity.TAU_MEM, dt=wrong)
    assert_unchanged(leaky, before)
    for own in (norse.LIFCell(dt=5e-4), LIFTorch(N, leak_mode="decays", dt=5e-4)):
        with pytest.raises(errors.TimeStepError, match=r"steps of 0\.0005 s, and dt=0\.001"):
            make_trainable(own, Quantity.TAU_MEM, dt=1e-3)
    cell = make_trainable(norse.LIFCell(dt=5e-4), Quantity.TAU_MEM)  # its own
    with pytest.raises(errors.TimeStepError, match=r"steps of 0\.0005 s"):
        values(cell, Quantity.TAU_MEM, dt=1e-3)
    make_trainable(leaky, Quantity.TAU_MEM, dt=1e-3)
    assert values(leaky, Quantity.TAU_MEM, dt=1e-3) == values(leaky, Quantity.TAU_MEM)
    with pytest.raises(errors.TimeStepError, match=r"attached with Decay\(dt=0\.001\)"):
        values(leaky, Quantity.TAU_MEM, dt=2e-3)


@pytest.mark.parametrize("init", [0.0, -1e-3, 1e-6, 1e9])
def test_seconds_that_cannot_be_stored_are_refused(init: float) -> None:
    leaky = snn.Leaky(beta=0.9)
    before = snapshot(leaky)
    with pytest.raises(errors.OutOfDomainError, match="'beta'"):
        make_trainable(leaky, Quantity.TAU_MEM, init=init, dt=DT)
    assert_unchanged(leaky, before)


def test_a_decay_of_one_needs_an_initial_value() -> None:
    leaky = snn.Leaky(beta=1.0)
    with pytest.raises(errors.OutOfDomainError, match=r"'beta'.*\(0, 1\), the domain of Decay"):
        make_trainable(leaky, Quantity.TAU_MEM, dt=DT)
    make_trainable(leaky, Quantity.TAU_MEM, init=TAU, dt=DT)


@pytest.mark.parametrize(
    ("build", "quantity", "why"),
    [
        (lambda: snn.Alpha(alpha=0.9, beta=0.8), Quantity.TAU_SYN, "alpha must stay above beta"),
        (lambda: snn.Lapicque(R=5.0, C=1.0), Quantity.TAU_MEM, "R, C and time_step only"),
        (lambda: snn.LeakyParallel(2, 2, beta=0.9), Quantity.TAU_MEM, "copied into the diagonal"),
        (lambda: neuron.GatedLIFNode(T=2), Quantity.TAU_MEM, "unconstrained already"),
        (lambda: neuron.GatedLIFNode(T=2), Quantity.THRESHOLD, "unconstrained already"),
    ],
)
def test_a_layer_without_a_free_quantity_is_not_passed_over(build, quantity, why: str) -> None:
    net = nn.Sequential(snn.Synaptic(alpha=0.8, beta=0.9), build())
    before = snapshot(net)
    with pytest.raises(errors.NotTrainableError, match=rf"'1\..*{why}"):
        make_trainable(net, quantity, dt=DT)
    assert_unchanged(net, before)


def test_a_quantity_that_nothing_stores_is_an_error() -> None:
    with pytest.raises(errors.UnknownNameError, match=r"Quantity\.TAU_SYN"):
        make_trainable(snn.Leaky(beta=0.9), Quantity.TAU_SYN, dt=DT)
    with pytest.raises(errors.UnknownNameError, match=r"Quantity\.TAU_MEM"):
        make_trainable(nn.Linear(2, 2), Quantity.TAU_MEM, dt=DT)


def test_an_error_offers_the_values_of_neurons_first() -> None:
    net = nn.Sequential(nn.Linear(2, 2), sl.LIF(tau_mem=5.0), neuron.ParametricLIFNode())
    with pytest.raises(errors.UnknownNameError) as caught:
        make_trainable(net, "tau")
    assert caught.value.available[:3] == ["1.tau_mem", "1.spike_threshold", "2.v_threshold"]
    assert not {"2.w", "1.surrogate_grad_fn.grad_width"} & set(caught.value.available)


def test_fixing_by_quantity() -> None:
    net = make_trainable(network(), [Quantity.TAU_MEM, Quantity.THRESHOLD], dt=DT)
    make_fixed(net, Quantity.TAU_MEM)
    # these are Parameters again, which the libraries train by themselves
    assert set(values(net, Quantity.TAU_MEM, dt=DT)) == {"sinabs.tau_mem", "rockpool.tau_mem"}
    net.requires_grad_(False)
    assert values(net, Quantity.TAU_MEM) == {}
    net.requires_grad_(True)
    assert len(values(net, Quantity.THRESHOLD)) == 5
    assert type(net["jelly"].tau) is float
    with pytest.raises(errors.UnknownNameError, match=r"Quantity\.TAU_MEM"):
        make_fixed(net, Quantity.TAU_MEM)


# ----------------------------------------------------------------------------------- looking


def test_find_and_summary_read_well_on_a_network_of_all_libraries() -> None:
    net = network()
    found = find(net)
    assert {c.path.split(".")[0] for c in found} == {"norse", "snn", "jelly", "sinabs", "rockpool"}
    by_path = {c.path: c for c in found}
    assert by_path["jelly.tau"].storage == "number"
    assert by_path["snn.beta"].storage == "buffer"
    assert by_path["norse.p.tau_mem_inv"].unit == "1/s"
    assert by_path["sinabs.tau_mem"].quantity is Quantity.TAU_MEM
    text = str(found)
    assert "synaptic decay per step" in text
    assert "membrane time constant" in text
    make_trainable(net, [Quantity.TAU_MEM, "norse.p.v_th"], dt=DT)
    assert {c.storage for c in find(net) if c.path in values(net)} == {"attached"}
    lines = summary(net).splitlines()
    assert len(lines) == 1 + 6
    assert all(len(line) < 200 for line in lines)
    assert [" ms " in line for line in lines[1:]].count(True) == 5
