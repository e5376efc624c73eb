"""Properties of training and of the dynamics, for any raw value, input, size and time step."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import snntorch as snn
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from neuroparam import ExpScaledLog, Quantity, errors, make_fixed, make_trainable, values
from neuroparam.testing import (
    gradients,
    raw_values,
    spike_trains,
    time_constants,
    time_steps,
)
from tests.support.cases import Case, N, all_cases, built, spikes
from tests.support.decaying import MEMBRANES, SYNAPSES, Decaying, every_decay, pulse, shaped
from tests.support.inside import Place, attached
from tests.support.subjects import SIX, SPIKINGJELLY, Network, network

# Time is rescaled here beyond what anybody means by a time step.
pytestmark = pytest.mark.filterwarnings("ignore::neuroparam.errors.UnitWarning")

STEPS = 6
DT = 1e-3
_BY_NAME = {str(case): case for case in all_cases()}

OPTIMIZERS: dict[str, Callable[[list[Tensor], float], Optimizer]] = {
    "SGD": lambda p, lr: torch.optim.SGD(p, lr),
    "SGD momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "SGD weight decay": lambda p, lr: torch.optim.SGD(p, lr, weight_decay=0.1),
    "Adam": lambda p, lr: torch.optim.Adam(p, lr),
    "Adam fused": lambda p, lr: torch.optim.Adam(p, lr, fused=True),
    "Adam amsgrad": lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True),
    "AdamW": lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.1),
    "NAdam": lambda p, lr: torch.optim.NAdam(p, lr),
    "RAdam": lambda p, lr: torch.optim.RAdam(p, lr),
    "Adamax": lambda p, lr: torch.optim.Adamax(p, lr),
    "Adagrad": lambda p, lr: torch.optim.Adagrad(p, lr),
    "Adadelta": lambda p, lr: torch.optim.Adadelta(p, lr),
    "RMSprop": lambda p, lr: torch.optim.RMSprop(p, lr, centered=True, momentum=0.9),
    "Rprop": lambda p, lr: torch.optim.Rprop(p, lr),
    "ASGD": lambda p, lr: torch.optim.ASGD(p, lr),
    "LBFGS": lambda p, lr: torch.optim.LBFGS(p, lr, max_iter=3),
}
learning_rates = st.floats(-8.0, 8.0).map(lambda exponent: 10.0**exponent)
optimizers = st.sampled_from(sorted(OPTIMIZERS))
inputs = st.tuples(st.integers(4, 8), st.integers(1, 3)).flatmap(
    lambda sizes: spike_trains(*sizes, N)  # time steps, batch
)


def set_raws(module: nn.Module, raws: list[Tensor]) -> None:
    with torch.no_grad():
        for a, raw in zip(attached(module), raws, strict=True):
            a.parameter.raw.copy_(raw)


def drawn_raws(data: st.DataObject, module: nn.Module) -> list[Tensor]:
    return [data.draw(raw_values(a.parameter.raw.shape), a.path) for a in attached(module)]


# ------------------------------------------------------------------------------ the domain


@pytest.fixture(scope="module", params=SIX, ids=str)
def trained(request: pytest.FixtureRequest) -> tuple[Case, Network, list[Tensor]]:
    """A network of each library, and its initial raw tensors."""
    net = network(request.param)
    # Gradients reach every value. Zeros that a test fills in later are no sign of a fault.
    net(spikes()).square().mean().backward()
    return request.param, net, [a.parameter.raw.detach().clone() for a in attached(net)]


@given(name=optimizers, lr=learning_rates, clipped=st.booleans(), data=st.data())
def test_no_step_makes_a_value_leave_its_domain(
    trained: tuple[Case, Network, list[Tensor]],
    name: str,
    lr: float,
    clipped: bool,
    data: st.DataObject,
) -> None:
    """Whatever the gradient, inf and NaN included: else the step itself raises."""
    _, net, initial = trained
    set_raws(net, initial)
    everything = list(attached(net))
    raws = [a.parameter.raw for a in everything]
    optimizer = OPTIMIZERS[name](raws, lr)
    for _ in range(3):
        drawn = [data.draw(gradients(raw.shape)) for raw in raws]

        def closure(drawn: list[Tensor] = drawn) -> Tensor:
            for raw, gradient in zip(raws, drawn, strict=True):
                raw.grad = gradient.clone()
            if clipped:
                nn.utils.clip_grad_norm_(raws, 1.0)
            return torch.ones(())

        lost = lost_in(optimizer, closure)
        assert lost == [a.path for a in everything if not a.parameter.raw.isfinite().all()]
        if lost:
            return
        for a in everything:
            assert_inside(a)


def lost_in(optimizer: Optimizer, closure: Callable[[], Tensor]) -> list[str]:
    """What a step reports as not finite any more."""
    try:
        optimizer.step(closure)
    except errors.NonFiniteError as error:
        return error.paths
    return []


def assert_inside(a: Place) -> None:
    value = a.parameter().detach()
    low, high = a.parameter.bounds
    assert torch.isfinite(value).all(), a.path
    assert ((low < value) & (value < high)).all(), (a.path, value)


# --------------------------------------------------------------------- forward and backward


@pytest.fixture(scope="module", params=SIX[1:], ids=str)
def catalogued(request: pytest.FixtureRequest) -> Network:
    return network(request.param)


@given(x=inputs, data=st.data())
def test_any_time_constant_has_a_finite_forward_and_a_finite_gradient(
    catalogued: Network, x: Tensor, data: st.DataObject
) -> None:
    """With the default parametrizations, each stays where its library's formula has them."""
    set_raws(
        catalogued,
        [
            data.draw(raw_values(a.parameter.raw.shape), a.path)
            if a.quantity in (Quantity.TAU_MEM, Quantity.TAU_SYN)
            else torch.zeros_like(a.parameter.raw)
            for a in attached(catalogued)
        ],
    )
    output = catalogued(x)
    assert torch.isfinite(output).all()
    wanted = list(nn.Module.parameters(catalogued))
    for gradient in torch.autograd.grad(output.sum(), wanted, allow_unused=True):
        assert gradient is None or torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "threshold"),
    [("sinabs-IAF-with-synapse", "spike_threshold"), ("rockpool-LIFTorch", "threshold")],
)
def test_no_spikes_can_be_counted_where_the_threshold_vanishes(name: str, threshold: str) -> None:
    """Of plain modules: libraries that fire v / threshold times overflow below about 1e-37."""
    case = _BY_NAME[name]
    plain = built(case)
    getattr(plain, threshold).data.fill_(1.2e-38)
    assert not torch.isfinite(case.run(plain, spikes())).all()


@given(data=st.data(), x=inputs)
def test_attached_equals_plain_bit_for_bit(
    trained: tuple[Case, Network, list[Tensor]], x: Tensor, data: st.DataObject
) -> None:
    """The output, and the gradients of the weights, of the library's own module."""
    case, net, _ = trained
    set_raws(net, drawn_raws(data, net))
    plain = make_fixed(copy.deepcopy(net))
    outputs = [module(x) for module in (net, plain)]
    torch.testing.assert_close(*outputs, rtol=0, atol=0, equal_nan=True)
    of_weights = [
        torch.autograd.grad(output.sum(), list(module.linear.parameters()))
        for module, output in zip((net, plain), outputs, strict=True)
    ]
    # attached, SpikingJelly runs its formulas in PyTorch in place of its compiled operator
    exact = case is not SPIKINGJELLY
    for mine, its in zip(*of_weights, strict=True):
        torch.testing.assert_close(
            mine, its, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6, equal_nan=True
        )


# -------------------------------------------------------------------------- free dynamics


def with_time_constants(case: Decaying, quantity: Quantity, tau: Tensor, dt: float) -> nn.Module:
    module = case.build(dt)
    tau = shaped(module, quantity, tau)
    return make_trainable(module, {quantity: ExpScaledLog()}, init={quantity: tau}, dt=dt)


@every_decay
@given(dt=time_steps(), data=st.data())
def test_without_input_the_state_decays_as_its_time_constant_says(
    quantity: Quantity, case: Decaying, dt: float, data: st.DataObject
) -> None:
    """By the library's factor in each step: towards rest, and the longer the slower."""
    tau = data.draw(time_constants(dt, shape=(N,)))
    module = with_time_constants(case, quantity, tau, dt)
    after = case.trace(module, pulse(8)).detach().double()[1:]
    factor = case.factor(tau, dt)
    torch.testing.assert_close(after[1:], after[:-1] * factor, rtol=2e-6, atol=0)
    assert ((after[1:] > 0) & (after[1:] < after[:-1])).all()
    left = (after / after[0])[:, tau.argsort()]
    assert (left.diff(dim=1) >= -1e-5).all()


@every_decay
@given(data=st.data())
def test_the_state_is_bounded_by_the_input(
    quantity: Quantity, case: Decaying, data: st.DataObject
) -> None:
    """For any raw value: by the largest input, or by the sum of as many as there are steps."""
    module = case.build(DT)
    make_trainable(module, quantity, init={quantity: 0.02}, dt=DT)
    set_raws(module, drawn_raws(data, module))
    signs = data.draw(spike_trains(STEPS, 1, N))
    state = case.trace(module, 0.01 * (2 * signs - 1)).detach()
    assert torch.isfinite(state).all()
    assert (state.abs() <= 0.01 * (1 if case.normed else STEPS) * (1 + 1e-5)).all()


# ------------------------------------------------------------------------- time and units


@every_decay
@given(dt=time_steps(), exponent=st.floats(-3, 3), data=st.data())
def test_time_rescaled_gives_the_same_trajectory(
    quantity: Quantity, case: Decaying, dt: float, exponent: float, data: st.DataObject
) -> None:
    tau = data.draw(time_constants(dt, shape=(N,)))
    x = 0.01 * data.draw(spike_trains(STEPS, 1, N))
    c = 10.0**exponent
    once, rescaled = (
        case.trace(with_time_constants(case, quantity, scale * tau, scale * dt), x).detach()
        for scale in (1.0, c)
    )
    torch.testing.assert_close(rescaled, once, rtol=1e-5, atol=1e-8)


def training(case: Decaying, quantity: Quantity, tau: Tensor, dt: float, name: str) -> Tensor:
    """The time constants in each of four steps of an optimizer."""
    module = with_time_constants(case, quantity, tau, dt)
    optimizer = OPTIMIZERS[name]([a.parameter.raw for a in attached(module)], 0.05)
    trajectory = []
    for _ in range(4):
        optimizer.zero_grad()
        (100 * case.trace(module, pulse(STEPS))).square().sum().backward()
        optimizer.step()
        trajectory.append(values(module, quantity).popitem()[1].flatten())
    return torch.stack(trajectory)


first_order = st.sampled_from(["SGD", "SGD momentum", "Adam", "AdamW"])
# not so long that float32 keeps little of a decay near 1
short = time_constants(DT, shape=(N,)).map(lambda tau: tau.clamp(max=100 * DT))


@pytest.mark.parametrize(
    "case",
    [
        MEMBRANES[name]
        for name in (
            "norse LIFBoxCell",
            "snntorch Leaky",
            "spikingjelly LIFNode",
            "sinabs LIF",
            "rockpool LIFNeuronTorch",
        )
    ],
    ids=["norse", "snntorch", "spikingjelly", "sinabs", "rockpool"],
)
@given(tau=short, name=first_order, exponent=st.floats(-3, 3))
def test_the_unit_of_time_does_not_change_training(
    case: Decaying, tau: Tensor, name: str, exponent: float
) -> None:
    """Seconds or milliseconds: the same relative values at each step of the optimizer."""
    c = 10.0**exponent
    once, rescaled = (
        training(case, Quantity.TAU_MEM, scale * tau, scale * DT, name) for scale in (1.0, c)
    )
    torch.testing.assert_close(rescaled / c, once, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("quantity", "stored", "otherwise"),
    [
        (Quantity.TAU_MEM, MEMBRANES["sinabs LIF"], MEMBRANES["sinabs LIF train_alphas"]),
        (Quantity.TAU_SYN, SYNAPSES["rockpool LIFTorch"], SYNAPSES["rockpool LIFTorch decays"]),
        (Quantity.TAU_SYN, SYNAPSES["rockpool LIFTorch"], SYNAPSES["rockpool LIFTorch bitshifts"]),
    ],
    ids=["steps and decays", "seconds and decays", "seconds and bitshifts"],
)
@given(tau=short, name=first_order)
def test_how_a_library_stores_a_time_constant_does_not_change_training(
    quantity: Quantity, stored: Decaying, otherwise: Decaying, tau: Tensor, name: str
) -> None:
    one, other = (training(case, quantity, tau, DT, name) for case in (stored, otherwise))
    torch.testing.assert_close(other, one, rtol=1e-3, atol=0)


# -------------------------------------------------------------------- thresholds, neurons

FEEDFORWARD = [
    _BY_NAME[name]
    for name in (
        "norse-LIFCell",
        "snntorch-Leaky",
        "spikingjelly-LIFNode-(m)",
        "sinabs-LIF",
        "rockpool-LIFTorch",
    )
]
thresholds = st.lists(st.floats(0.05, 2.0), min_size=N, max_size=N).map(torch.tensor)


@pytest.fixture(scope="module", params=FEEDFORWARD, ids=str)
def layer(request: pytest.FixtureRequest) -> tuple[Case, nn.Module]:
    """A layer without recurrent connections, one value per neuron of all that trains."""
    case = request.param
    shape = {
        name: (N, 1) if (case.library, name) == ("rockpool", "tau_syn") else (N,)
        for name in case.trains
    }
    return case, make_trainable(built(case), list(case.trains), shape=shape)


@given(threshold=thresholds, other=thresholds, gain=st.floats(0.1, 5.0), x=inputs)
def test_a_higher_threshold_never_fires_earlier(
    layer: tuple[Case, nn.Module], threshold: Tensor, other: Tensor, gain: float, x: Tensor
) -> None:
    """Up to its first spike no reset has acted, and the membrane knows no threshold."""
    case, module = layer
    (a,) = (a for a in attached(module) if a.quantity is Quantity.THRESHOLD)
    first = []
    for value in (torch.minimum(threshold, other), torch.maximum(threshold, other)):
        a.parameter.assign(value)
        fired = case.run(module, gain * x).detach() > 0
        silent = torch.full((1, *fired.shape[1:]), True)
        first.append(torch.cat([fired, silent]).int().argmax(dim=0))
    low, high = first
    assert (high >= low).all()


@given(threshold=thresholds, other=thresholds, gain=st.floats(0.1, 5.0), x=inputs)
def test_without_a_reset_a_higher_threshold_never_fires_more(
    threshold: Tensor, other: Tensor, gain: float, x: Tensor
) -> None:
    """snnTorch alone can leave the reset out: then the membrane never knows the threshold.

    With a reset this is no theorem: a spike that a higher threshold avoids leaves the membrane
    higher for the next ones.
    """
    leaky = snn.Leaky(beta=0.8, reset_mechanism="none")
    make_trainable(leaky, "threshold", init=torch.minimum(threshold, other))
    low = _BY_NAME["snntorch-Leaky"].run(leaky, gain * x)
    leaky.threshold = torch.maximum(threshold, other)
    high = _BY_NAME["snntorch-Leaky"].run(leaky, gain * x)
    assert (high <= low).all()


@given(order=st.permutations(range(N)), x=inputs, data=st.data())
def test_permuting_the_neurons_permutes_the_output(
    layer: tuple[Case, nn.Module], order: list[int], x: Tensor, data: st.DataObject
) -> None:
    case, module = layer
    raws = drawn_raws(data, module)
    set_raws(module, raws)
    output = case.run(module, x).detach()
    set_raws(module, [raw[order] for raw in raws])
    permuted = case.run(module, x[..., order]).detach()
    torch.testing.assert_close(permuted, output[..., order], rtol=0, atol=0, equal_nan=True)


@given(index=st.integers(0, N - 1), x=inputs, data=st.data())
def test_a_value_acts_on_its_own_neuron_alone(
    layer: tuple[Case, nn.Module], index: int, x: Tensor, data: st.DataObject
) -> None:
    case, module = layer
    raws = drawn_raws(data, module)
    set_raws(module, raws)
    others = [n for n in range(N) if n != index]
    before = case.run(module, x).detach()[..., others]
    for raw, drawn in zip(raws, drawn_raws(data, module), strict=True):
        raw[index] = drawn[index]
    set_raws(module, raws)
    after = case.run(module, x).detach()[..., others]
    # Rockpool multiplies spikes by recurrent weights of 0 in a layer that has none, and 0 * inf
    # is NaN for all: so with as many spikes as a threshold of 1e-38 means
    assume(case.library != "rockpool" or bool(torch.isfinite(torch.stack([before, after])).all()))
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)
