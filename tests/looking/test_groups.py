"""What an optimizer is given: each parameter once, in two groups."""

from __future__ import annotations

import torch
from torch import nn

from neuroparam import make_trainable, neuron_parameters, param_groups, values
from tests.support.modules import FromRecord, Pair
from tests.support.network import two_values


def test_param_groups_hold_each_parameter_once() -> None:
    network = two_values()
    weights, neuron = param_groups(network, lr=1e-3, neuron_lr=1e-2, weight_decay=1e-4)
    assert {id(p) for p in neuron["params"]} == {id(p) for p in neuron_parameters(network)}
    together = [*weights["params"], *neuron["params"]]
    assert {id(p) for p in together} == {id(p) for p in network.parameters()}
    assert len(together) == len(list(network.parameters())) == 4
    assert (weights["lr"], weights["weight_decay"]) == (1e-3, 1e-4)
    assert (neuron["lr"], neuron["weight_decay"]) == (1e-2, 0.0)
    assert param_groups(network, 1e-3)[1]["lr"] == 1e-3
    assert param_groups(network, 1e-3, neuron_weight_decay=0.1)[1]["weight_decay"] == 0.1
    optimizer = torch.optim.Adam([weights, neuron])
    network(torch.ones(2, 3)).sum().backward()
    before = values(network)
    optimizer.step()
    assert all((value != before[path]).all() for path, value in values(network).items())


def test_options_of_any_optimizer_are_kept() -> None:
    """Optimizers of other packages have options of their own."""
    groups = param_groups(two_values(), lr=1e-3, betas=(0.9, 0.95), rho=0.1, warmup_steps=10)
    assert all(group["betas"] == (0.9, 0.95) for group in groups)
    assert all((group["rho"], group["warmup_steps"]) == (0.1, 10) for group in groups)


def test_param_groups_leave_out_empty_groups() -> None:
    (group,) = param_groups(nn.Linear(2, 2), 1e-3)
    assert group["name"] == "weights"
    (group,) = param_groups(make_trainable(FromRecord(Pair()), "tau"), 1e-3)
    assert group["name"] == "neuron parameters"
