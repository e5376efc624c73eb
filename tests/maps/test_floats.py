"""The neighbours of a bound are those of torch, and logarithms keep their digits."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.inside import floats

every_dtype = pytest.mark.parametrize("dtype", floats.FLOATS, ids=str)
BOUNDS = (1.0, 0.75, 100.0, -1.0, -0.75, 2.0**-3, -64.0)


@every_dtype
@pytest.mark.parametrize("bound", BOUNDS)
def test_the_next_float_is_the_one_that_torch_knows(bound: float, dtype: torch.dtype) -> None:
    at = torch.tensor(bound, dtype=dtype)
    assert at.item() == bound
    above = torch.nextafter(at, torch.tensor(math.inf, dtype=dtype))
    below = torch.nextafter(at, torch.tensor(-math.inf, dtype=dtype))
    assert floats.just_above(bound, dtype) == above.item()
    assert floats.just_below(bound, dtype) == below.item()


@every_dtype
def test_next_to_zero_comes_the_smallest_normal_float(dtype: torch.dtype) -> None:
    assert floats.just_above(0.0, dtype) == torch.finfo(dtype).tiny
    assert floats.just_below(0.0, dtype) == -torch.finfo(dtype).tiny


@every_dtype
def test_the_number_near_the_largest_survives_rounding(dtype: torch.dtype) -> None:
    near = torch.tensor(floats.nearly_largest(dtype), dtype=dtype)
    assert near.isfinite()
    assert 0.95 * torch.finfo(dtype).max < near.item() < torch.finfo(dtype).max


@every_dtype
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    raw = torch.ones(2, dtype=dtype)
    assert floats.working(raw).dtype == floats.working_dtype(dtype)
    assert floats.working_dtype(dtype).itemsize >= 4


@every_dtype
def test_powers_between_the_exponents_have_normal_squares_and_reciprocals(dtype) -> None:
    most = 2.0 ** floats.EXPONENTS[floats.working_dtype(dtype)]
    numbers = torch.finfo(floats.working_dtype(dtype))
    for number in (most, 1 / most):
        for each in (number, 1 / number, number**2, 1 / number**2):
            assert numbers.tiny <= each <= numbers.max


@pytest.mark.parametrize("ratio", [1 + 2.0**-20, 1 - 2.0**-20, 1.25, 0.5, 3.0, 1e30, 1e-30])
def test_the_logarithm_of_a_ratio_keeps_its_digits(ratio: float) -> None:
    value = torch.tensor(2.0 * ratio)
    exact = math.log(value.double().item() / 2.0)
    assert floats.log_ratio(value, 2.0).item() == pytest.approx(exact, rel=1e-6)


@every_dtype
@pytest.mark.parametrize("limit", [1.0, 100.0, 1e-4])
def test_the_least_gap_moves_no_float(limit: float, dtype: torch.dtype) -> None:
    at = torch.tensor(limit, dtype=dtype)
    gap = math.exp(floats.log_least_gap(at.item(), dtype))
    assert gap > 0
    assert (at.double() + gap).to(dtype) == at
