"""A module that ran before it is attached trains: its states let go of their old graph."""

from __future__ import annotations

import pytest
import snntorch
import torch
from sinabs.layers import LIF
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from neuroparam import errors, make_trainable, neuron_parameters
from tests.support.modules import assert_unchanged, snapshot


class Stateful(nn.Module):
    """Keeps its state, and a tensor that is computed once from a Parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.9))
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.doubled = 2 * self.weight
        self.states: list[Tensor] = []
        self.count = 3.0

    def forward(self, x: Tensor) -> Tensor:
        before = self.states[0] if self.states else torch.zeros_like(x)
        self.states = [self.alpha * before + x]
        return self.states[0]


BUILDS = {
    "own": (Stateful, "0.alpha"),
    "snntorch": (lambda: snntorch.Leaky(beta=0.9, init_hidden=True), "0.beta"),
    "snntorch, a Parameter": (
        lambda: snntorch.Leaky(beta=0.9, init_hidden=True, learn_beta=True),
        "0.beta",
    ),
    "spikingjelly": (lambda: neuron.LIFNode(step_mode="s"), "0.tau"),
    "sinabs": (lambda: LIF(tau_mem=20.0, train_alphas=True), "0.alpha_mem"),
}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("shape", [None, (3,)])
@pytest.mark.parametrize(("build", "name"), BUILDS.values(), ids=BUILDS)
def test_a_network_that_ran_before_trains(build, name: str, shape, backward: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(build(), nn.Linear(3, 3))
    x = torch.rand(2, 4, 3) * 3
    x = x if name.endswith("alpha_mem") else x[0]
    for _ in range(3):
        output = net(x)
    if backward:
        output.sum().backward()
    make_trainable(net, name, shape=shape)
    net(x)
    net(x).square().sum().backward()
    (raw,) = neuron_parameters(net)
    assert raw.grad.abs().sum() > 0


def test_states_that_can_still_be_differentiated_are_left_alone() -> None:
    module = Stateful()
    module(torch.ones(3))
    state, doubled = module.states[0], module.doubled
    make_trainable(module, "count")
    assert module.states[0] is state
    make_trainable(module, "alpha")
    assert module.states[0].grad_fn is None
    assert torch.equal(module.states[0], state)
    assert module.doubled is doubled


def test_states_are_what_they_were_after_an_error() -> None:
    module = Stateful()
    module(torch.ones(3))
    before = snapshot(module)
    with pytest.raises(errors.UnknownNameError):
        make_trainable(module, ["alpha", "beta"])
    assert_unchanged(module, before)
