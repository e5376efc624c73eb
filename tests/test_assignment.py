"""Assigning to a trainable value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuroparam import ExpScaledLog, Softplus, errors, make_trainable, neuron_parameters
from tests.modules import FromRecord, Pair


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


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (0.0, errors.OutOfDomainError, "3 of 3 values"),
        (math.nan, errors.OutOfDomainError, "3 of 3 values"),
        (math.inf, errors.OutOfDomainError, "3 of 3 values"),
        (torch.tensor([1.0, -1.0, -5.0]), errors.OutOfDomainError, "2 of 3 .* span -5 to -1"),
        (nn.Parameter(-torch.ones(3)), errors.OutOfDomainError, r"'p\.tau': 3 of 3"),
        (torch.ones(4), errors.AssignmentError, r"its shape is \(3,\)"),
        (torch.ones(()), errors.AssignmentError, r"its shape is \(3,\)"),
        (torch.ones(1, 3), errors.AssignmentError, r"its shape is \(3,\)"),
        (torch.ones(3, dtype=torch.float64), errors.AssignmentError, "float32"),
        (torch.ones(3, dtype=torch.int64), errors.AssignmentError, "float32"),
        ("2.0", errors.AssignmentError, "a number or a tensor"),
        (None, errors.AssignmentError, "a number or a tensor"),
        (True, errors.AssignmentError, "a number or a tensor"),
        ([1.0, 2.0, 3.0], errors.AssignmentError, "a number or a tensor"),
        (torch.ones(3, requires_grad=True) * 2, errors.AssignmentError, r"value\.detach\(\)"),
    ],
)
def test_refuses(wrong, error: type[Exception], message: str) -> None:
    module = build()
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.raises(error, match=message):
        module.p.tau = wrong
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))


def test_the_optimizer_goes_on_after_an_assignment() -> None:
    module = build()
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=0.1)
    for _ in range(2):
        module.p.tau = 2.0
        optimizer.zero_grad()
        module(torch.ones(3)).square().sum().backward()
        optimizer.step()
        assert (module.p.tau != 2.0).all()


def test_a_value_is_not_deleted_nor_a_record_replaced() -> None:
    module = build()
    with pytest.raises(errors.AssignmentError, match="make_fixed"):
        del module.p.tau
    with pytest.raises(errors.AssignmentError, match="assign to its fields"):
        module.p._replace(tau=3.0)
    assert module.p._asdict()["method"] == "super"
    assert len(tuple(module.p)) == len(module.p) == 3


@given(
    st.lists(st.floats(width=32), min_size=3, max_size=3)
    | st.floats()
    | st.integers(-(2**80), 2**80)
)
def test_whatever_is_assigned_the_value_stays_valid(value) -> None:
    module = build()
    if isinstance(value, list):
        value = torch.tensor(value)
    try:
        module.p.gain = value
    except errors.NeuroparamError:
        assert torch.equal(module.p.gain, build().p.gain)
    else:
        torch.testing.assert_close(
            module.p.gain.double(),
            torch.as_tensor(value, dtype=torch.float64).expand(3),
            rtol=1e-5,
            atol=1e-7,
        )
    assert (module.p.gain > 0.5).all()
    assert module.p.gain.isfinite().all()
