"""What every map has from its base class: its interval, its state, and the bounds of chains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from neuroparam import BoundedSigmoid, Parametrization, Rate, Softplus, errors
from neuroparam.units import Above
from tests.support.inside import bounds_of
from tests.support.modules import Doubled


class Square(Parametrization):
    """A map of a user's, with a constant."""

    domain = constraints.positive
    constant_names = ("unit",)

    def __init__(self, unit: float = 1.0):
        super().__init__()
        self.unit = unit

    def forward(self, raw: Tensor) -> Tensor:
        return self.unit * torch.nn.functional.softplus(raw).square()

    def right_inverse(self, value: Tensor) -> Tensor:
        return torch.log(torch.expm1((value / self.unit).sqrt()))


def test_the_domain_is_open_and_holds_finite_numbers_only() -> None:
    value = torch.tensor([-1.0, 0.0, 1e-30, 5.0, math.inf, math.nan])
    assert Square().outside(value).tolist() == [True, True, False, False, True, True]
    assert Square().domain_in_words() == "(0, inf)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_limits_are_the_floats_next_to_the_bounds(dtype: torch.dtype) -> None:
    numbers = torch.finfo(dtype)
    assert Square().limits(dtype) == (numbers.tiny, numbers.max)


def test_constants_travel_and_must_agree() -> None:
    state = Square(2.0).get_extra_state()
    Square(2.0).set_extra_state(state)
    with pytest.raises(errors.CheckpointError, match=r"unit=2\.0.*unit=3\.0"):
        Square(3.0).set_extra_state(state)
    assert repr(Square(2.0)) == "Square(unit=2)"


def test_the_bounds_of_a_chain_are_those_of_its_last_map_for_what_comes_before() -> None:
    assert bounds_of([]) == (-math.inf, math.inf)
    assert bounds_of([BoundedSigmoid(0.01, 0.1), Rate()]) == pytest.approx((10.0, 100.0))
    assert bounds_of([BoundedSigmoid(1, 2), Above(0.5)]) == (1.5, 2.5)
    assert bounds_of([BoundedSigmoid(1, 2), Doubled()]) == (-math.inf, math.inf)
    assert bounds_of([Doubled(), Softplus(lower=0.5)]) == (0.5, math.inf)


def test_the_base_maps_nothing_itself() -> None:
    for call in (Parametrization().forward, Parametrization().right_inverse):
        with pytest.raises(NotImplementedError, match="Parametrization has no"):
            call(torch.ones(1))
