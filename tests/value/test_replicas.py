"""Replicas as nn.DataParallel makes them for each device: their gradients reach the original."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuroparam import neuron_parameters
from tests.support.cases import Case, spikes
from tests.support.subjects import SIX, SNNTORCH, network


def replica(net: nn.Module) -> nn.Module:
    """What `torch.nn.parallel.replicate` makes, with copies of the tensors on the same device."""
    modules = [module for _, module in nn.Module.named_modules(net)]
    copies = {module: module._replicate_for_data_parallel() for module in modules}
    for module, copied in copies.items():
        for name, child in module._modules.items():
            setattr(copied, name, copies[child])
        for name, parameter in module._parameters.items():
            setattr(copied, name, None if parameter is None else parameter.clone())
    return copies[net]


# A replica of snnTorch's neuron cannot set its state, plain or not.
@pytest.mark.parametrize("case", [case for case in SIX if case is not SNNTORCH], ids=str)
def test_a_replica_gives_the_values_and_gradients_of_the_network(case: Case) -> None:
    whole, replicated = network(case), network(case)
    expected = whole(spikes()).square().sum()
    expected.backward()
    outputs = [replica(replicated)(spikes()).square().sum() for _ in range(2)]
    assert outputs == [expected, expected]
    (sum(outputs) / 2).backward()
    for trained, like in zip(neuron_parameters(replicated), neuron_parameters(whole), strict=True):
        assert like.grad.abs().sum() > 0
        torch.testing.assert_close(trained.grad, like.grad)
