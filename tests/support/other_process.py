"""What `test_pickle.py` has other processes do; imports no library, to start fast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, multiprocessing, nn
from torch.utils.data import Dataset

from neuroparam import neuron_parameters, values


def answers(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """The values, the output and the gradients that a network has here."""
    net.zero_grad()
    output = net(x)
    output.square().sum().backward()
    return {
        "values": values(net),
        "output": output.detach(),
        "gradients": [raw.grad for raw in neuron_parameters(net)],
    }


def assign(net: nn.Module, value: float) -> None:
    net.p.tau = value


def shared_with_a_fork(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """What a network answers here and in a fork, and its values and output after a write there."""
    net.share_memory()
    here = answers(net, x)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.apply(answers, (net, x))
        pool.apply(assign, (net, 9.0))
    return {"here": here, "there": there, "after": answers(net, x)}


class Filtered(Dataset):
    """Numbers, each filtered by an attached module."""

    def __init__(self, net: nn.Module):
        self.net = net

    def __len__(self) -> int:
        return 4

    @torch.no_grad()
    def __getitem__(self, index: int) -> Tensor:
        return self.net(torch.full((3,), float(index)))
