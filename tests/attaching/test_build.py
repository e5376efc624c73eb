"""A trainable value is built with every check, and the module is not touched."""

from __future__ import annotations

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from torch import nn

from neuroparam import ExpScaledLog, Quantity, Softplus, errors
from neuroparam.units import Above, Decay, Rate
from tests.support.inside import NeuronParameter, build, requests
from tests.support.modules import FromRecord, Pair, assert_unchanged, snapshot


def built(
    module: nn.Module, names: object, init: object = None, shape: object = None, dt: object = None
) -> NeuronParameter:
    """What is built for the one request that the arguments make."""
    before = snapshot(module)
    (request,) = requests(module, names, init, shape, dt)
    made = build(module, request)
    assert_unchanged(module, before)
    return made


def test_a_path_is_given_in_the_stored_unit() -> None:
    made = built(FromRecord(Pair()), "tau", init=[1.0, 2.0, 3.0])
    assert made.path == "p.tau"
    assert [type(each) for each in made] == [ExpScaledLog]
    torch.testing.assert_close(made().detach(), torch.tensor([1.0, 2.0, 3.0]))


def test_the_maps_are_copies_of_the_recipe() -> None:
    recipe = Softplus(lower=0.5)
    made = built(FromRecord(Pair()), {"tau": recipe})
    assert made[0] is not recipe
    assert made[0].scale == 3.5  # fitted to the stored 4.0
    assert recipe.scale is None


def test_a_quantity_is_given_in_seconds_behind_a_unit_map() -> None:
    made = built(snn.Leaky(beta=0.9), Quantity.TAU_MEM, init=0.02, dt=1e-3)
    assert [type(each) for each in made] == [ExpScaledLog, Decay]
    assert made().item() == pytest.approx(torch.tensor(-0.05).exp().item())
    assert made.physical().item() == pytest.approx(0.02, rel=1e-4)


def test_an_euler_cell_gets_a_map_that_keeps_it_above_the_step() -> None:
    made = built(norse.LIFBoxCell(dt=1e-3), Quantity.TAU_MEM, init=0.02)
    assert [type(each) for each in made] == [ExpScaledLog, Above, Rate]
    assert made.bounds == pytest.approx((0.0, 1000.0))
    assert made().item() == pytest.approx(50.0)


def test_a_time_step_that_contradicts_the_module_is_refused_for_a_path_too() -> None:
    with pytest.raises(errors.TimeStepError, match="Leave dt out"):
        built(norse.LIFBoxCell(dt=1e-3), "tau_mem_inv", dt=2e-3)


def test_a_number_becomes_a_tensor_like_the_ones_beside_it() -> None:
    double = FromRecord(Pair())
    double.weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
    assert built(double, "tau").raw.dtype == torch.float64
    half = FromRecord(Pair())
    half.weight = nn.Parameter(torch.ones(2, dtype=torch.float16))
    assert built(half, "tau").raw.dtype == torch.float16
    half.register_buffer("other", torch.ones(2))
    assert built(half, "tau").raw.dtype == torch.float32


def test_a_module_without_numbers_is_refused() -> None:
    module = FromRecord(Pair())
    module.weight = nn.Parameter(torch.ones(2, device="meta"))
    with pytest.raises(errors.NotTrainableError, match="the meta device"):
        built(module, "tau")
