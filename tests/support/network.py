"""A small network with two attached values, for what looks at one."""

from __future__ import annotations

import torch
from torch import nn

from neuroparam import BoundedSigmoid, Softplus, make_trainable
from tests.support.modules import FromRecord, Pair


def two_values() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3), FromRecord(Pair()))
    return make_trainable(
        network,
        {"tau": BoundedSigmoid(1.0, 100.0, spacing="log"), "gain": Softplus(lower=0.5)},
        init={"tau": torch.tensor([2.0, 4.0, 60.0])},
    )
