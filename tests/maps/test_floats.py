"""The neighbours of a bound are those of torch, and logarithms keep their digits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.inside import floats

every_dtype = pytest.mark.parametrize("dtype", floats.FLOATS, ids=str)
BOUNDS = (1.0, 0.75, 100.0, -1.0, -0.75, 2.0**-3, -64.0)


@every_dtype
@pytest.mark.parametrize("bound", BOUNDS)
def test_the_next_float_is_the_one_that_torch_knows(bound: float, dtype: torch.dtype) -> None:
    above, below = _neighbours(bound, dtype)
    assert below < bound < above
    assert floats.just_above(bound, dtype) == above
    assert floats.just_below(bound, dtype) == below


@every_dtype
@pytest.mark.parametrize("sign", [1, -1])
def test_the_next_float_of_a_power_of_two_is_the_one_that_torch_knows(
    sign: int, dtype: torch.dtype
) -> None:
    """Away from zero the floats there lie half as dense as towards zero."""
    numbers = torch.finfo(dtype)
    least = math.frexp(numbers.tiny / numbers.eps)[1]  # where the spacing is a normal float
    for exponent in range(least, math.frexp(numbers.max)[1]):
        bound = math.ldexp(sign, exponent)
        above, below = _neighbours(bound, dtype)
        assert floats.just_above(bound, dtype) == above
        assert floats.just_below(bound, dtype) == below


# torch rounds a double to half precision by way of a single, which may round twice.
@every_dtype
@given(bound=st.floats(-100.0, 100.0, width=32).filter(lambda number: abs(number) > 0.5))
@example(bound=0.9999999999)
@example(bound=-0.9999999999)
@example(bound=0.999)
@example(bound=1.0000000001)
@example(bound=2.0 + 2.0**-7)
def test_a_bound_between_two_floats_counts_as_the_nearer_one(
    bound: float, dtype: torch.dtype
) -> None:
    above, below = _neighbours(bound, dtype)
    assert floats.just_above(bound, dtype) == above
    assert floats.just_below(bound, dtype) == below


def _neighbours(bound: float, dtype: torch.dtype) -> tuple[float, float]:
    """The floats above and below a bound as a dtype rounds it, from torch."""
    at, infinity = torch.tensor([bound, math.inf], dtype=dtype)
    return torch.nextafter(at, infinity).item(), torch.nextafter(at, -infinity).item()


@every_dtype
@given(ratio=st.floats(-4.0, 4.0))
@example(ratio=1.0)
@example(ratio=-1.0)
@example(ratio=0.5)
@example(ratio=-0.5)
def test_among_the_smallest_floats_the_next_one_is_on_its_side_and_near(
    ratio: float, dtype: torch.dtype
) -> None:
    tiny = torch.finfo(dtype).tiny
    bound = ratio * tiny
    above, below = floats.just_above(bound, dtype), floats.just_below(bound, dtype)
    assert 0.0 < above - bound <= 2 * tiny
    assert 0.0 < bound - below <= 2 * tiny
    for each in (above, below):  # Many devices take a subnormal number for 0.
        assert each == 0 or abs(each) >= tiny
    if abs(ratio) < 1:
        assert floats.just_above(bound, dtype) == tiny
        assert floats.just_below(bound, dtype) == -tiny


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
