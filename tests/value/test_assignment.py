"""Assigning to a trainable value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from neuroparam import ExpScaledLog, Softplus, make_trainable, neuron_parameters
from tests.support.modules import FromRecord, Pair


def build() -> nn.Module:
    return make_trainable(
        FromRecord(Pair()), {"tau": ExpScaledLog(), "gain": Softplus(lower=0.5)}, shape=(3,)
    )


@pytest.mark.parametrize(
    ("given_value", "stored"),
    [
        (2.0, [2.0, 2.0, 2.0]),
        (2, [2.0, 2.0, 2.0]),
        (np.float64(2.0), [2.0, 2.0, 2.0]),
        (torch.tensor([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
        (nn.Parameter(torch.tensor([1.0, 2.0, 3.0])), [1.0, 2.0, 3.0]),
        (nn.Parameter(torch.tensor([1.0, 2.0, 3.0]) * 2).detach(), [2.0, 4.0, 6.0]),
    ],
)
def test_stores_the_value(given_value, stored: list[float]) -> None:
    module = build()
    raw = neuron_parameters(module)[0]
    module.p.tau = given_value
    assert module.p.tau.tolist() == pytest.approx(stored)
    assert neuron_parameters(module)[0] is raw
    assert raw.requires_grad
    assert list(dict(module.named_parameters())) == [
        "p.parametrizations.tau.original",
        "p.parametrizations.gain.original",
    ]


def test_the_optimizer_goes_on_after_an_assignment() -> None:
    module = build()
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=0.1)
    for _ in range(2):
        module.p.tau = 2.0
        optimizer.zero_grad()
        module(torch.ones(3)).square().sum().backward()
        optimizer.step()
        assert (module.p.tau != 2.0).all()


def test_a_record_is_still_read_as_one() -> None:
    module = build()
    assert module.p._asdict()["method"] == "super"
    assert len(tuple(module.p)) == len(module.p) == 3
