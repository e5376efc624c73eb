"""What modules map themselves: it is read as its quantity, and trains as that, not behind a map."""

from __future__ import annotations

import math
from typing import Any

import pytest
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    Softplus,
    audit,
    errors,
    find,
    make_fixed,
    make_trainable,
    neuron_parameters,
    register,
    summary,
    values,
)
from neuroparam.catalogue import Library, Trains, positive
from neuroparam.units import LogRate, SigmoidRate
from tests.support.modules import assert_unchanged, snapshot
from tests.support.published import PLIF, SiLIF, within

DT, N, STEPS = 1e-3, 6, 12
every_mode = pytest.mark.parametrize("mode", ["s", "m"])


def plif(mode: str = "m", tau: float = 5.0) -> nn.Module:
    node = neuron.ParametricLIFNode(init_tau=tau, step_mode=mode, detach_reset=True)
    return node.double()


def run(node: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(node)
    found = node(x) if node.step_mode == "m" else torch.stack([node(step) for step in x])
    functional.reset_net(node)
    return found


def x() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(STEPS, 3, N, dtype=torch.float64, generator=draw) * 4


# ------------------------------------------------------------------------- reading


def test_what_a_library_trains_by_itself_is_read_in_seconds() -> None:
    net = nn.ModuleDict(
        {
            "plif": plif(tau=5.0),
            "leaky": snn.Leaky(beta=0.9, learn_beta=True),
            "bits": LIFTorch(N, dt=DT, leak_mode="bitshifts"),
            "constant": snn.Leaky(beta=0.8),
            "number": neuron.LIFNode(tau=3.0),
        }
    )
    before = snapshot(net)
    found = values(net, Quantity.TAU_MEM, dt=DT)
    assert set(found) == {"plif.w", "leaky.beta", "bits.dash_mem"}
    assert found["plif.w"].item() == pytest.approx(5e-3, rel=1e-6)
    assert found["leaky.beta"].item() == pytest.approx(-DT / math.log(0.9), rel=1e-5)
    dash = net["bits"].dash_mem.detach()
    torch.testing.assert_close(found["bits.dash_mem"], -DT / torch.log(1 - 2.0**-dash))
    assert_unchanged(net, before)
    assert values(net) == {}  # these are the attached ones


def test_a_prior_of_what_a_library_trains_has_a_gradient() -> None:
    node = plif()
    (tau,) = values(node, Quantity.TAU_MEM, dt=DT, detach=False).values()
    (gradient,) = torch.autograd.grad(tau, node.w)
    rate = node.w.sigmoid().item()
    assert gradient.item() == pytest.approx(-DT * (1 - rate) / rate, rel=1e-12)


def test_a_decay_that_has_left_its_range_is_nan_and_spoils_no_gradient() -> None:
    net = nn.Sequential(snn.Leaky(beta=torch.tensor([0.9, 1.02, 1.0]), learn_beta=True))
    taus = values(net, Quantity.TAU_MEM, dt=DT, detach=False)["0.beta"]
    assert taus.isnan().tolist() == [False, True, True]
    taus[0].backward()
    assert net[0].beta.grad.isfinite().all()


def test_the_time_step_is_asked_for_unless_the_network_has_one() -> None:
    net = nn.ModuleDict({"plif": plif(), "leaky": snn.Leaky(beta=0.9)})
    with pytest.raises(errors.TimeStepError, match=r"'plif\.w'.*dt=1e-3"):
        values(net, Quantity.TAU_MEM)
    make_trainable(net["leaky"], Quantity.TAU_MEM, dt=2e-3)
    assert values(net, Quantity.TAU_MEM)["plif.w"].item() == pytest.approx(10e-3)
    norse_like = nn.ModuleDict({"a": net, "b": LIFTorch(N, dt=DT)})
    found = values(norse_like, Quantity.TAU_MEM)  # with a step of its own, which is another one
    torch.testing.assert_close(found["b.tau_mem"], norse_like["b"].tau_mem.detach())


# ------------------------------------------------------------------------- attaching


@every_mode
@pytest.mark.parametrize("shape", [None, (N,)], ids=["one", "per neuron"])
def test_plif_trains_in_seconds_with_the_same_dynamics(mode: str, shape: Any) -> None:
    plain, node = plif(mode), plif(mode)
    make_trainable(node, Quantity.TAU_MEM, shape=shape, dt=DT)
    torch.testing.assert_close(
        values(node, Quantity.TAU_MEM)["w"], torch.full(shape or (), 5e-3, dtype=torch.float64)
    )
    torch.testing.assert_close(run(node, x()), run(plain, x()))
    assert " 5 ms " in summary(node).splitlines()[1]
    (raw,) = neuron_parameters(node)
    weight = torch.rand(STEPS, 3, N, dtype=torch.float64)

    def loss() -> Tensor:
        # a reset is no smooth function of the value: this is below the threshold
        return (run_below(node) * weight).sum()

    (gradient,) = torch.autograd.grad(loss(), raw)
    (wanted,) = differences(loss, raw)
    torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-9)


def run_below(node: nn.Module) -> Tensor:
    """The membrane voltages for an input that makes no spike."""
    functional.reset_net(node)
    if node.step_mode == "m":
        node.store_v_seq = True
        node(x() / 8)
        found = node.v_seq
    else:
        seen = []
        for step in x() / 8:
            assert not node(step).any()
            seen.append(node.v)
        found = torch.stack(seen)
    functional.reset_net(node)
    return found


def differences(loss: Any, raw: Tensor) -> list[Tensor]:
    found = torch.zeros_like(raw)
    for index in range(raw.numel()):
        seen = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                raw.view(-1)[index] += step
                seen.append(loss().item())
                raw.view(-1)[index] -= step
        found.view(-1)[index] = (seen[0] - seen[1]) / 2e-6
    return [found]


def test_plif_takes_a_start_in_seconds_and_is_given_back_as_a_parameter() -> None:
    node = make_trainable(plif(), {Quantity.TAU_MEM: ExpScaledLog()}, init=20e-3, dt=DT)
    assert node.w.sigmoid().item() == pytest.approx(1 / 20, rel=1e-12)
    optimizer = torch.optim.Adam(neuron_parameters(node), lr=1.0)
    for _ in range(20):  # far, at a rate at which nothing learns
        optimizer.zero_grad()
        run(node, x()).sum().backward()
        optimizer.step()
    (tau,) = values(node, Quantity.TAU_MEM).values()
    assert tau > DT
    make_fixed(node)
    assert type(node) is neuron.ParametricLIFNode
    assert isinstance(node.w, nn.Parameter)
    assert DT / node.w.sigmoid().item() == pytest.approx(tau.item(), rel=1e-9)


@pytest.mark.parametrize("chain", [None, Softplus(), [BoundedSigmoid(-1.0, 1.0)]], ids=repr)
def test_a_map_behind_a_map_is_refused_and_the_message_says_what_trains(chain: Any) -> None:
    node = plif(tau=1.5)
    before = snapshot(node)
    with pytest.raises(
        errors.NotTrainableError, match=r"sigmoid\(w\).*Train it as it is, or name Quantity.TAU_MEM"
    ):
        make_trainable(node, {"w": chain})
    assert_unchanged(node, before)


def test_a_chain_in_seconds_is_taken_by_the_name_too() -> None:
    node = make_trainable(plif(), {"w": [BoundedSigmoid(2e-3, 0.1), SigmoidRate(DT)]})
    torch.testing.assert_close(DT / node.w.sigmoid(), torch.tensor(5e-3, dtype=torch.float64))


def test_find_and_audit_say_that_it_trains_as_it_is() -> None:
    node = plif()
    (found,) = (each for each in find(node).not_offered if each.path == "w")
    assert "Quantity.TAU_MEM" in found.why
    (measured,) = (each for each in audit(node, x()) if each.path == "w")
    assert measured.verdict == "trains as it is"
    assert measured.read


def test_a_threshold_behind_an_exponential() -> None:
    node = neuron.MPBNLIFNode(out_features=N, mpbn=False, learnable_vth=True).double()
    torch.testing.assert_close(
        values(node, Quantity.THRESHOLD)["a"], torch.ones(N, dtype=torch.float64)
    )
    make_trainable(node, {Quantity.THRESHOLD: Softplus(lower=0.1)}, init=0.5)
    torch.testing.assert_close(node.a.exp(), torch.full((N,), 0.5, dtype=torch.float64))
    assert values(node, Quantity.THRESHOLD).keys() == {"a"}


# ------------------------------------------------------------------------- a user's own


@pytest.fixture
def own_package() -> str:
    """A package of research code, whose neurons map their values themselves."""
    rows = (
        Trains(
            field="alpha",
            meaning="logarithm of the membrane rate per step",
            default=positive,
            quantity=Quantity.TAU_MEM,
            stored_as=LogRate,
            mapped="SiLIF reads its decay as exp(-exp(alpha))",
            modules=("SiLIF",),
        ),
        Trains(
            field="w",
            meaning="logit of the membrane rate per step",
            default=positive,
            quantity=Quantity.TAU_MEM,
            stored_as=SigmoidRate,
            mapped="PLIF reads 1 / tau = sigmoid(w)",
            euler=True,
            modules=("PLIF",),
        ),
    )
    register(Library(package="ownpackage", rows=rows))
    return "ownpackage"


@pytest.mark.parametrize("kind", [SiLIF, PLIF])
def test_rows_of_ones_own_read_and_train_a_published_neuron(own_package: str, kind: Any) -> None:
    plain, net = within(own_package, kind), within(own_package, kind)
    (name,) = values(net, Quantity.TAU_MEM, dt=DT)
    stored = getattr(net, name).detach()
    tau = DT / (stored.exp() if kind is SiLIF else stored.sigmoid())
    torch.testing.assert_close(values(net, Quantity.TAU_MEM, dt=DT)[name], tau)
    make_trainable(net, Quantity.TAU_MEM, dt=DT)
    inputs = torch.rand(STEPS, 3, N)
    torch.testing.assert_close(net(inputs), plain(inputs))
    net(inputs).sum().backward()
    (raw,) = neuron_parameters(net)
    assert raw.grad.abs().sum() > 0
    plain(inputs).sum().backward()
    # the chain rule: d loss / d raw = d loss / d stored * d stored / d raw, tau = exp(raw) + ...
    (slope,) = torch.autograd.grad(getattr(net, name).sum(), raw)
    torch.testing.assert_close(raw.grad, getattr(plain, name).grad * slope, rtol=1e-4, atol=1e-6)
