"""Whole networks with one call each: a layer of somebody else's neurons behind a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuroparam import make_trainable
from tests.support.cases import Case, N, all_cases
from tests.support.modules import FromRecord, Pair


class Network(nn.Module):
    """x of shape (T, batch, N) -> linear layer -> neurons over time, from rest -> (T, batch, N).

    A module that keeps its state between steps is reset by the run of its case, within the
    forward.
    """

    def __init__(self, case: Case):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(N, N)
        with torch.no_grad():
            # positive, and large enough that every neuron spikes
            self.linear.weight.abs_().add_(0.5)
        self.neuron = case.build()
        self.run = case.run  # a function: copied and pickled by its name

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.neuron, self.linear(x))


def paths(case: Case) -> list[str]:
    """What trains in the network of a case."""
    return [f"neuron.{name}" for name in case.trains]


def network(case: Case, **arguments: object) -> Network:
    """The network of a case with all that trains attached."""
    return make_trainable(Network(case), paths(case), **arguments)


def call(neuron: nn.Module, x: Tensor) -> Tensor:
    return neuron(x)


PLAIN = Case("torch", "plain", lambda: FromRecord(Pair()), call, ("p.tau", "p.gain"))
_BY_NAME = {str(case): case for case in all_cases()}
NORSE = _BY_NAME["norse-LIFRecurrentCell"]
SNNTORCH = _BY_NAME["snntorch-Leaky"]
SPIKINGJELLY = _BY_NAME["spikingjelly-LIFNode-(m)"]
SINABS = _BY_NAME["sinabs-LIF"]
ROCKPOOL = _BY_NAME["rockpool-LIFTorch"]

# where a promise is about PyTorch; and where the library matters too
THREE = [PLAIN, NORSE, SNNTORCH]
SIX = [*THREE, SPIKINGJELLY, SINABS, ROCKPOOL]
