"""Initial values: numbers, arrays, distributions and functions become one checked tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Exponential, Gamma, HalfNormal, Independent, LogNormal, Uniform

from neuroparam import ExpScaledLog, Softplus, make_trainable
from tests.support.modules import FromRecord, Pair


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (None, 4.0),
        (7.0, 7.0),
        (7, 7.0),
        (np.float32(7.0), 7.0),
        (torch.tensor(7.0, dtype=torch.float64), 7.0),
        (np.array(7.0), 7.0),
        (torch.tensor([7.0]), 7.0),
        (lambda shape: torch.full(shape, 7.0), 7.0),
        (lambda shape: 7.0, 7.0),
        (Uniform(6.999, 7.001), 7.0),
        ({"tau": 7.0}, 7.0),
    ],
)
def test_initial_values(init, expected: float) -> None:
    module = make_trainable(FromRecord(Pair()), "tau", init)
    assert module.p.tau.dtype == torch.float32
    assert module.p.tau.numel() == 1
    assert module.p.tau.item() == pytest.approx(expected, rel=1e-3)


def test_shape_expands_and_samples() -> None:
    module = make_trainable(
        FromRecord(Pair()),
        {"tau": ExpScaledLog(), "gain": Softplus()},
        init={"tau": LogNormal(math.log(4.0), 0.2), "gain": 1.5},
        shape=(3,),
    )
    assert module.p.tau.shape == module.p.gain.shape == (3,)
    assert len(set(module.p.tau.tolist())) == 3
    assert module.p.gain.tolist() == pytest.approx([1.5] * 3)
    module = make_trainable(
        FromRecord(Pair()), ["tau", "gain"], shape={"tau": 3}, init={"gain": np.array([1.0, 2.0])}
    )
    assert module.p.tau.shape == (3,)
    assert module.p.gain.shape == (2,)
    rates = Independent(Uniform(torch.ones(3), 2 * torch.ones(3)), 1)
    module = make_trainable(FromRecord(Pair()), "tau", rates, shape=(5, 3))
    assert module.p.tau.shape == (5, 3)


@pytest.mark.parametrize(
    "distribution",
    [LogNormal(0.0, 1.0), Gamma(2.0, 1.0), Exponential(1.0), HalfNormal(1.0), Uniform(0.0, 1.0)],
)
def test_positive_distributions_fit_positive_maps(distribution) -> None:
    torch.manual_seed(0)
    module = make_trainable(FromRecord(Pair()), "tau", distribution, shape=(1000,))
    assert (module.p.tau > 0).all()
