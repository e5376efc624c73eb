"""Named distributions of initial values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import neuron

from neuroparam import BoundedSigmoid, Quantity, errors, make_trainable, values
from neuroparam.initial import gamma, log_normal, log_uniform


@pytest.mark.parametrize(
    ("distribution", "median", "deviation_of_the_log"),
    [
        (log_normal(20e-3, 0.5), 20e-3, 0.5),
        (log_uniform(5e-3, 80e-3), 20e-3, math.log(16) / math.sqrt(12)),
        (gamma(20e-3), 20e-3 * 2.674 / 3, 0.6284),  # sqrt of the trigamma function at 3
    ],
)
def test_what_is_drawn_has_the_parameters_that_were_given(
    distribution: Any, median: float, deviation_of_the_log: float
) -> None:
    torch.manual_seed(0)
    leaky = make_trainable(
        snn.Leaky(beta=0.9), Quantity.TAU_MEM, distribution, shape=(40_000,), dt=1e-3
    )
    taus = values(leaky, Quantity.TAU_MEM)["beta"].double()
    assert taus.median().item() == pytest.approx(median, rel=0.02)
    assert taus.log().std().item() == pytest.approx(deviation_of_the_log, rel=0.03)
    # constants are fitted to the mean, so that networks of the same code have the same ones
    reference = leaky.parametrizations.beta[0].reference
    assert reference == pytest.approx(distribution.mean.item(), rel=1e-5)


def test_bounds_that_hold_the_support_are_accepted() -> None:
    make_trainable(
        snn.Leaky(beta=0.9),
        {Quantity.TAU_MEM: BoundedSigmoid(2e-3, 0.1)},
        log_uniform(5e-3, 80e-3),
        shape=(5,),
        dt=1e-3,
    )
    with pytest.raises(errors.InvalidArgumentError, match="leaves the domain"):
        make_trainable(
            snn.Leaky(beta=0.9),
            {Quantity.TAU_MEM: BoundedSigmoid(2e-3, 0.1)},
            gamma(20e-3),
            dt=1e-3,
        )


@pytest.mark.parametrize(
    "build",
    [
        lambda: log_normal(0.0, 0.5),
        lambda: log_normal(20e-3, -1.0),
        lambda: gamma("20 ms"),
        lambda: gamma(20e-3, math.inf),
        lambda: log_uniform(0.0, 1.0),
        lambda: log_uniform(2.0, 1.0),
        lambda: log_normal(1.0, 1.0, lower=2.0, upper=1.0),
        lambda: gamma(1.0, lower="none"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(build: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="must be"):
        build()


@pytest.mark.parametrize(
    "draw", [log_normal(20e-3, 0.9, lower=2e-3, upper=0.09), gamma(20e-3, lower=2e-3)]
)
def test_bounds_keep_what_is_drawn_above_the_step_of_an_euler_cell(draw: Any) -> None:
    torch.manual_seed(0)
    node = make_trainable(neuron.LIFNode(tau=5.0), Quantity.TAU_MEM, draw, shape=(5000,), dt=1e-3)
    taus = values(node, Quantity.TAU_MEM)["tau"]
    assert taus.min().item() == pytest.approx(2e-3, rel=1e-3)
    with pytest.raises(
        errors.InvalidArgumentError, match=r"log_normal\(median, spread, *\n? *lower"
    ):
        make_trainable(neuron.LIFNode(tau=5.0), Quantity.TAU_MEM, log_normal(20e-3, 0.5), dt=1e-3)
