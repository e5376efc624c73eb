"""What counts as a real number, and which tensors can hold trainable ones."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.inside import as_real, why_not_real


@pytest.mark.parametrize(
    "given",
    [2, 2.0, Fraction(2), np.float32(2), np.int64(2), torch.tensor(2), torch.tensor([2.0])],
    ids=repr,
)
def test_a_number_of_any_make_becomes_a_python_float(given: object) -> None:
    found = as_real(given)
    assert type(found) is float
    assert found == 2.0


@pytest.mark.parametrize(("given", "found"), [(10**400, math.inf), (-(10**400), -math.inf)])
def test_an_integer_beyond_every_float_counts_as_infinite(given: int, found: float) -> None:
    assert as_real(given) == found


@pytest.mark.parametrize(
    "given",
    [
        *(None, True, "2", b"2", 2j, [2.0], Decimal(2), np.bool_(True), np.ones(1)),
        *(torch.ones(2), torch.tensor(True), torch.tensor(2j), torch.ones(1, device="meta")),
    ],
    ids=range(13),
)
def test_what_is_no_real_number_is_none(given: object) -> None:
    assert as_real(given) is None


def test_nan_is_a_number_of_its_kind() -> None:
    assert math.isnan(as_real(math.nan))


@pytest.mark.parametrize(
    ("tensor", "reason", "instead"),
    [
        (nn.UninitializedParameter(), "not initialised", "run the module once"),
        (torch.ones(2, dtype=torch.complex64), "complex64", "real numbers"),
        (torch.ones(2) > 0, "torch.bool", "real numbers"),
        (torch.ones(2, 0), "empty", "at least one value"),
        (torch.eye(2).to_sparse(), "sparse_coo", "to_dense()"),
    ],
    ids=["lazy", "complex", "bool", "empty", "sparse"],
)
def test_a_tensor_without_real_numbers_says_why(
    tensor: torch.Tensor, reason: str, instead: str
) -> None:
    found = why_not_real(tensor)
    assert found is not None
    assert reason in found[0]
    assert instead in found[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64], ids=str)
def test_dense_tensors_of_numbers_are_fine(dtype: torch.dtype) -> None:
    assert why_not_real(torch.ones(2, dtype=dtype)) is None
