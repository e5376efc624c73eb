"""A network of Norse, plain and with attached values."""

from __future__ import annotations

import norse.torch as norse
import torch
from torch import nn

from neuroparam import make_trainable

NAMES = [
    "0.p.tau_mem_inv",
    "0.p.tau_syn_inv",
    "0.p.v_th",
    "2.p.tau_mem_inv",
    "2.p.v_th",
    "4.p.tau_mem_inv",
]
SHAPES = {"0.*": (9,), "2.*": (7,)}


def network() -> nn.Module:
    torch.manual_seed(0)
    net = norse.SequentialState(
        norse.LIFRecurrent(12, 9), nn.Linear(9, 7), norse.LIF(), nn.Linear(7, 3), norse.LI()
    )
    with torch.no_grad():
        net[0].input_weights.mul_(3)
        net[1].weight.mul_(8)
    return net


def attached() -> nn.Module:
    return make_trainable(network(), NAMES, shape=SHAPES)


X = (torch.rand(30, 5, 12, generator=torch.Generator().manual_seed(1)) < 0.4).float()
