"""The rule "event": EventProp's gradient on the time grid."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator

import norse.torch as norse
import pytest
import torch
from torch import Tensor, nn

from neuroparam import errors
from neuroparam.adjoint import use_adjoint
from tests.adjoint.networks import attached
from tests.benchmarks.event_driven import Network
from tests.benchmarks.event_rule import PARAMETERS, cosine, on_grid, smooth

events = functools.partial(use_adjoint, rule="event")


def fine() -> nn.Module:
    """Two layers on a fine grid."""
    torch.manual_seed(0)
    net = norse.SequentialState(norse.LIF(dt=1e-4), nn.Linear(12, 4), norse.LIF(dt=1e-4))
    with torch.no_grad():
        net[1].weight.mul_(10)
    return net


def filtered(spikes: Tensor) -> Tensor:
    """A loss through an exponential filter of the spikes."""
    trace = torch.zeros_like(spikes[0])
    total = torch.zeros(())
    for step in spikes:
        trace = 0.95 * trace + step
        total = total + trace.square().sum()
    return total


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_a_fine_grid_it_is_the_gradient_of_the_times_of_spikes(seed: int) -> None:
    network, loss = Network.random(seed, 0.5), smooth(seed)
    spikes, exact = network.spikes(), network.gradient(loss.exact)
    found, on_the_grid = on_grid(network, loss, 2e-5, "event")
    assert int(on_the_grid.sum()) == len(spikes.times)
    for name in PARAMETERS:
        assert cosine(found[name], exact[name]) > 0.95, name
    surrogate, _ = on_grid(network, loss, 2e-5, "surrogate")
    assert min(cosine(surrogate[name], exact[name]) for name in PARAMETERS) < 0.5


def test_the_forward_is_the_same_and_lean_gives_the_same_gradients() -> None:
    x = 3 * torch.rand(200, 5, 12)
    results = []
    for change in (lambda net: net, events, functools.partial(events, lean=True)):
        net = change(fine())
        spikes, _ = net(x)
        filtered(spikes).backward()
        results.append([spikes.detach(), *(p.grad for p in net.parameters())])
    own, full, lean = results
    assert own[0].any()
    assert torch.equal(full[0], own[0])
    assert any(bool(each.any()) for each in full[1:])
    for one, other in zip(full, lean, strict=True):
        torch.testing.assert_close(one, other)


def test_all_neuron_parameters_get_gradients() -> None:
    layer = events(norse.LIFRecurrent(12, 9, dt=1e-4))
    with torch.no_grad():
        layer.input_weights.mul_(5)
    names = ("tau_mem_inv", "tau_syn_inv", "v_th", "v_reset")
    values = {name: nn.Parameter(getattr(layer.p, name).expand(9).clone()) for name in names}
    layer.p = layer.p._replace(**values)
    filtered(layer(torch.rand(300, 5, 12))[0]).backward()
    for name, value in values.items():
        assert bool(value.grad.any()), name
        assert bool(value.grad.isfinite().all()), name


def test_a_loss_that_counts_spikes_is_said() -> None:
    net = events(fine())
    with pytest.warns(errors.MisuseWarning, match="same in each time step"):
        net(3 * torch.rand(50, 5, 12))[0].sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filtered(net(3 * torch.rand(50, 5, 12))[0]).backward()
        net(3 * torch.rand(50, 5, 12))[1][2].v.sum().backward()


def test_a_coarse_time_step_is_said() -> None:
    with pytest.warns(errors.MisuseWarning, match=r"0: 1 ms\n  2: 1 ms\nUse 0.2 ms or less"):
        events(attached())


def test_cells_are_refused() -> None:
    for cell in (norse.LIFCell(dt=1e-4), norse.LIFRecurrentCell(3, 4, dt=1e-4)):
        net = nn.ModuleList([cell])
        with pytest.raises(errors.UnsupportedModuleError, match=r"'0'.*needs the whole sequence"):
            events(net)
        assert type(net[0]) is type(cell)


def test_there_are_two_rules() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="rule must be 'surrogate' or 'event'"):
        use_adjoint(norse.LIF(), rule="exact")


def test_norse_never_runs_in_its_place() -> None:
    net = events(fine())
    x = 3 * torch.rand(20, 5, 12)
    with torch.no_grad():
        net(x)
    refused = pytest.raises(errors.AdjointError, match="the rule 'event'")
    with refused, torch.autocast("cpu", dtype=torch.bfloat16):
        net(x)
    recording = events(norse.LIF(dt=1e-4, record_states=True))
    with pytest.raises(errors.AdjointError, match="record_states"):
        recording(x)


def test_in_float64_the_first_state_is_cast() -> None:
    net = events(fine().double())
    spikes, _ = net(3 * torch.rand(50, 5, 12, dtype=torch.float64))
    assert spikes.dtype == torch.float64
    filtered(spikes).backward()
    assert net[1].weight.grad.dtype == torch.float64


def test_surrogate_is_the_rule_again_with_the_next_call() -> None:
    net = events(fine())
    assert "rule='event'" in repr(net)
    assert use_adjoint(net)[0].rule == "surrogate"
