"""Initial values: numbers, arrays, distributions and functions become one checked tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import (
    Exponential,
    Gamma,
    HalfNormal,
    Independent,
    LogNormal,
    Uniform,
    constraints,
)

from neuroparam import ExpScaledLog, Softplus, errors, make_trainable
from tests.support.inside import initial_tensor
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


def test_the_tensor_is_new_and_whole_and_the_present_one_is_left_alone() -> None:
    present = torch.tensor(4.0, dtype=torch.float64)
    for init in (None, torch.tensor([4.0]), 4.0):
        made = initial_tensor(init, (2, 3), present, None)
        assert made.is_contiguous()
        assert (made.shape, made.dtype) == ((2, 3), torch.float64)
        made.zero_()  # each entry has memory of its own
        assert present == 4.0


def test_a_single_number_takes_the_shape_of_what_is_given_and_a_vector_keeps_its_own() -> None:
    given = torch.tensor([1.0, 2.0])
    assert torch.equal(initial_tensor(given, None, torch.tensor(4.0), None), given)
    vector = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(initial_tensor(5.0, None, vector, None), torch.full((3,), 5.0))
    with pytest.raises(errors.InitialValueError, match="give shape="):
        initial_tensor(given, None, vector, None)


def test_a_distribution_is_checked_at_the_bounds_of_the_domain() -> None:
    inside, beyond = Uniform(0.5, 1.0), Uniform(-0.5, 1.0)
    positive = constraints.positive
    drawn = initial_tensor(inside, (100,), torch.tensor(4.0), positive)
    assert ((drawn >= 0.5) & (drawn < 1.0)).all()
    with pytest.raises(errors.InitialValueError, match="leaves the domain"):
        initial_tensor(beyond, (100,), torch.tensor(4.0), positive)
