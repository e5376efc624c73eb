"""The time step of a module: its own, or the one that is given; never two."""

from __future__ import annotations

import math

import norse.torch as norse
import numpy as np
import pytest
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch

from neuroparam import Decay, Rate, errors
from tests.support.inside import row_of, step_of, time_step, unit_of


def test_a_library_may_keep_a_step_or_none() -> None:
    assert step_of(norse.LIFBoxCell(dt=2e-3)) == 2e-3
    assert step_of(LIFTorch(3, dt=5e-3)) == 5e-3
    assert step_of(snn.Leaky(beta=0.9)) is None


def test_the_step_is_the_modules_own_or_the_one_given() -> None:
    cell, leaky = norse.LIFBoxCell(dt=2e-3), snn.Leaky(beta=0.9)
    assert time_step(cell, None) == time_step(cell, 2e-3) == 2e-3
    for dt in (1e-3, np.float64(1e-3), torch.tensor(1e-3, dtype=torch.float64)):
        assert time_step(leaky, dt) == 1e-3


@pytest.mark.parametrize(
    ("dt", "says"),
    [(None, "has no time step of its own"), (0.0, "positive"), (math.inf, "positive")],
)
def test_a_step_that_is_needed_must_be_a_duration(dt: float | None, says: str) -> None:
    with pytest.raises(errors.TimeStepError, match=says):
        time_step(snn.Leaky(beta=0.9), dt)


def test_two_steps_contradict_each_other_unless_they_round_alike() -> None:
    cell = norse.LIFBoxCell(dt=1e-3)
    assert time_step(cell, 1e-3 * (1 + 1e-9)) == pytest.approx(1e-3)
    with pytest.raises(errors.TimeStepError, match=r"steps of 0\.001 s, and dt=0\.002"):
        time_step(cell, 2e-3)


def test_the_unit_follows_from_what_a_library_stores() -> None:
    cell, leaky, seconds = norse.LIFBoxCell(), snn.Leaky(beta=0.9), LIFTorch(3)
    assert isinstance(unit_of(cell, row_of(cell, "tau_mem_inv"), None), Rate)
    decay = unit_of(leaky, row_of(leaky, "beta"), 2e-3)
    assert isinstance(decay, Decay)
    assert decay.dt == 2e-3
    assert unit_of(seconds, row_of(seconds, "tau_mem"), None) is None
