"""What is special about Sinabs: shared thresholds, missing gradients, copies, resets."""

from __future__ import annotations

import copy

import pytest
import sinabs
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from sinabs.network import Network
from torch import Tensor, nn

from neuroparam import make_fixed, make_trainable, neuron_parameters, param_groups, values

N = 3


def x(steps: int = 6) -> Tensor:
    return 2.0 * torch.rand(2, steps, N, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------- thresholds


def test_the_default_threshold_that_all_layers_share_is_not_changed() -> None:
    first, second = sl.LIF(tau_mem=5.0), sl.LIF(tau_mem=5.0)
    shared = first.spike_threshold.data_ptr() == second.spike_threshold.data_ptr()
    assert shared  # Sinabs' own doing
    make_trainable(first, "spike_threshold", init=0.3)
    with torch.no_grad():
        neuron_parameters(first)[0].add_(1.0)
    assert second.spike_threshold.item() == 1.0
    assert sl.LIF(tau_mem=5.0).spike_threshold.item() == 1.0
    make_fixed(first)
    assert second.spike_threshold.item() == 1.0


def test_a_write_into_the_shared_threshold_of_a_plain_layer_reaches_all() -> None:
    first, second = sl.LIF(tau_mem=5.0), sl.LIF(tau_mem=5.0)
    try:
        first.spike_threshold.data.fill_(0.5)
        assert second.spike_threshold == sl.LIF(tau_mem=5.0).spike_threshold == 0.5
    finally:
        first.spike_threshold.data.fill_(1.0)


def test_the_default_threshold_of_alif_is_shared_too_and_left_alone() -> None:
    first, second = (sl.ALIF(tau_mem=5.0, tau_adapt=8.0) for _ in range(2))
    assert first.b0 is second.b0
    make_trainable(first, "b0", init=0.3)
    assert second.b0 == 1.0


@pytest.mark.parametrize(
    ("reset_fn", "steps", "has_gradient"),
    [
        (sina.MembraneSubtract(), 6, True),
        (sina.MembraneSubtract(), 1, False),
        (sina.MembraneReset(), 6, False),
    ],
)
def test_natively_a_threshold_gets_a_gradient_through_the_reset_alone(
    reset_fn, steps: int, has_gradient: bool
) -> None:
    layer = sl.LIF(tau_mem=5.0, reset_fn=reset_fn, spike_threshold=torch.tensor(0.1))
    threshold = layer.spike_threshold.requires_grad_()
    spikes = layer(x(steps).requires_grad_()).sum()
    (gradient,) = torch.autograd.grad(spikes, threshold, allow_unused=True)
    assert (gradient is not None) == has_gradient


def test_the_formula_of_the_gradient_of_a_threshold() -> None:
    layer = make_trainable(
        sl.LIF(
            tau_mem=5.0,
            norm_input=False,
            reset_fn=sina.MembraneReset(),
            spike_threshold=torch.tensor(0.4),
        ),
        "spike_threshold",
    )
    v = x(steps=1).requires_grad_()  # one step from rest: the membrane is the input
    (raw,) = neuron_parameters(layer)
    of_v, of_raw = torch.autograd.grad(layer(v).sum(), (v, raw))
    threshold = layer.spike_threshold
    (chain,) = torch.autograd.grad(threshold, raw)
    torch.testing.assert_close(of_raw / chain, (-v / threshold * of_v).sum())


@pytest.mark.parametrize("spike_fn", [sina.MultiSpike, sina.SingleSpike, sina.MaxSpike(2)])
@pytest.mark.parametrize("reset_fn", [sina.MembraneSubtract(), sina.MembraneReset()])
@pytest.mark.parametrize("steps", [1, 8])
def test_the_gradient_of_a_threshold_has_the_sign_of_finite_differences(
    spike_fn, reset_fn, steps: int
) -> None:
    """And its order of magnitude: of many neurons the spikes give a slope to compare.

    The size itself is the surrogate's, as it is for the weights.
    """
    torch.manual_seed(0)
    drive = 3.0 * torch.rand(64, steps, 50)

    def layer(threshold: float) -> nn.Module:
        return sl.LIF(
            tau_mem=4.0,
            spike_threshold=torch.tensor(threshold),
            spike_fn=spike_fn,
            reset_fn=reset_fn,
            norm_input=False,
        )

    with torch.no_grad():
        slope = (layer(1.05)(drive).sum() - layer(0.95)(drive).sum()) / 0.1
    module = make_trainable(layer(1.0), "spike_threshold")
    module.zero_grad()
    spikes = module(drive)
    value = module.spike_threshold
    (raw,) = neuron_parameters(module)
    (gradient,) = torch.autograd.grad(spikes.sum(), raw)
    (chain,) = torch.autograd.grad(value, raw)  # from raw to the threshold
    ratio = (gradient / chain / slope).item()
    assert 0.2 < ratio < 5.0, ratio


def test_spikes_and_the_gradients_of_all_else_are_those_of_the_plain_layer() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(N, N)
    gradients = []
    for attach in (False, True):
        layer = sl.LIF(tau_mem=5.0, tau_syn=3.0, spike_threshold=torch.tensor(0.4))
        if attach:
            make_trainable(layer, "spike_threshold")
        spikes = layer(linear(x()))
        gradients.append([spikes, *torch.autograd.grad(spikes.sum(), list(linear.parameters()))])
    for attached, plain in zip(*reversed(gradients), strict=True):
        assert torch.equal(attached, plain)


# ------------------------------------------------------------------------- copies and resets


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(N, N),
        sl.LIF(tau_mem=5.0, tau_syn=3.0, spike_threshold=torch.tensor(0.1)),
        nn.Linear(N, N),
    )


NAMES = ["1.tau_mem", "1.tau_syn", "1.spike_threshold"]


@pytest.mark.parametrize("after_a_forward", [False, True])
def test_networks_are_copied(after_a_forward: bool) -> None:
    net = Network(spiking_model=make_trainable(network(), NAMES))
    if after_a_forward:
        net(x())
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for raw in neuron_parameters(twin):
            raw.add_(0.5)
    for path, value in values(net).items():
        assert values(twin)[path] > value
    layer = twin.spiking_model[1]
    assert layer.spike_fn is not None
    assert type(make_fixed(twin).spiking_model[1]) is sl.LIF
    net.reset_states()
    net(x()).sum().backward()
    assert all(raw.grad is not None for raw in neuron_parameters(net))


def test_a_recurrent_layer_is_copied_which_sinabs_itself_cannot() -> None:
    layer = sl.LIFRecurrent(tau_mem=5.0, rec_connect=nn.Linear(N, N))
    with pytest.raises(AttributeError, match=r"rec_connect\.weight"):
        copy.deepcopy(layer)
    twin = copy.deepcopy(make_trainable(layer, "tau_mem"))
    assert torch.equal(twin.rec_connect.weight, layer.rec_connect.weight)
    assert twin.rec_connect.weight is not layer.rec_connect.weight


@pytest.mark.parametrize("reset", [sinabs.reset_states, lambda net: net[1].reset_states()])
def test_states_are_reset(reset) -> None:
    net = make_trainable(network(), NAMES)
    first = net(x()).detach()
    carried = net(x()).detach()
    assert not torch.equal(first, carried)
    reset(net)
    assert torch.equal(net(x()).detach(), first)


def test_training_with_the_librarys_own_helpers() -> None:
    net = make_trainable(network(), NAMES)
    optimizer = torch.optim.Adam(param_groups(net, lr=1e-2))
    before = values(net)
    for _ in range(3):
        sinabs.reset_states(net)
        sinabs.zero_grad(net)
        optimizer.zero_grad()
        net(x()).square().sum().backward()
        optimizer.step()
    assert all(values(net)[path] != value for path, value in before.items())


def test_an_attached_layer_is_a_leaf_to_sinabs_and_moves_and_switches_as_a_whole() -> None:
    net = make_trainable(network(), NAMES)
    layer = net[1]
    assert [*layer.children()] == [child for _, child in layer.named_children()] != []
    assert len(list(layer.parameters())) == 3
    net.double()
    assert all(raw.dtype == torch.float64 for raw in neuron_parameters(net))
    net.eval()
    assert not any(part.training for part in layer.modules())
    seen = []
    net.apply(lambda part: seen.append(part))
    assert len(seen) == len(list(net.modules()))
