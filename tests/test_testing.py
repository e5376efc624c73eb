"""The strategies reach what they promise: ends, zeros, denormals, inf and NaN."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuroparam import BoundedSigmoid, ExpScaledLog, Parametrization, Softplus
from neuroparam.testing import (
    gradients,
    parametrizations,
    raw_values,
    spike_trains,
    time_constants,
    time_steps,
    values_of,
)

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
LONG = settings(max_examples=2000, suppress_health_check=list(HealthCheck))


def reaches(strategy: st.SearchStrategy[Tensor], wanted: Callable[[Tensor], object]) -> Tensor:
    """An example, or an error."""
    return find(strategy, lambda drawn: bool(wanted(drawn)), settings=LONG)


@every_dtype
def test_raw_values_reach_from_end_to_end(dtype: torch.dtype) -> None:
    numbers = torch.finfo(dtype)
    raws = raw_values((), dtype)
    for wanted in (
        lambda raw: raw == numbers.max,
        lambda raw: raw == numbers.min,
        lambda raw: raw == 0 and math.copysign(1.0, raw.item()) < 0,
        lambda raw: 0 < raw < numbers.tiny,
        lambda raw: 1 < raw < 2,
    ):
        assert reaches(raws, wanted).dtype == dtype


@every_dtype
@given(data=st.data())
def test_raw_values_are_finite(dtype: torch.dtype, data: st.DataObject) -> None:
    raw = data.draw(raw_values((2, 3), dtype))
    assert raw.shape == (2, 3)
    assert torch.isfinite(raw).all()


@pytest.mark.parametrize("wanted", [torch.isnan, torch.isposinf, torch.isneginf])
def test_gradients_are_of_any_kind(wanted: Callable[[Tensor], Tensor]) -> None:
    assert wanted(reaches(gradients((2,)), lambda gradient: wanted(gradient).any())).any()


@pytest.mark.parametrize("kind", [Softplus, ExpScaledLog, BoundedSigmoid])
def test_parametrizations_of_each_kind(kind: type[Parametrization]) -> None:
    assert isinstance(find(parametrizations(), lambda p: isinstance(p, kind)), kind)


@given(parametrization=parametrizations(), data=st.data())
def test_values_are_inside(parametrization: Parametrization, data: st.DataObject) -> None:
    for dtype in (torch.float32, torch.float64):
        value = data.draw(values_of(parametrization, (2,), dtype))
        assert not parametrization.outside(value).any()


def test_values_reach_both_ends() -> None:
    rate = BoundedSigmoid(0.0, 1000.0)
    lowest, highest = rate.limits(torch.float32)
    assert reaches(values_of(rate), lambda value: value == lowest) == lowest
    assert reaches(values_of(rate), lambda value: value == highest) == highest


@given(dt=time_steps(), data=st.data())
def test_time_constants_are_longer_than_the_step(dt: float, data: st.DataObject) -> None:
    tau = data.draw(time_constants(dt, shape=(3,)))
    assert ((tau > 1.9 * dt) & (tau < 1001 * dt)).all()


def test_spike_trains_reach_silence_and_a_spike_in_every_step() -> None:
    trains = spike_trains(5, 2, 3)
    assert reaches(trains, lambda x: x.sum() == 0).shape == (5, 2, 3)
    reaches(trains, lambda x: x.all())
