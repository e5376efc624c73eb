"""A trainable value is built with every check, and the module is not touched."""

from __future__ import annotations

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    Softplus,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
)
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


class Grid(nn.Module):
    """Rounds onto the grid of some hardware; the gradient is that of the value itself."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def forward(self, value: Tensor) -> Tensor:
        return value + ((value * self.steps).round() / self.steps - value).detach()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


class GrowsBack(Grid):
    """Its inverse is none: what it gives back is larger each time."""

    def right_inverse(self, value: Tensor) -> Tensor:
        return value * 1.04


@pytest.mark.parametrize(("steps", "start"), [(16, 0.875), (4, 1.0), (4096, 0.9)])
def test_a_map_that_rounds_starts_at_the_nearest_value_of_its_grid(
    steps: int, start: float, recwarn: pytest.WarningsRecorder
) -> None:
    leaky = snn.Leaky(beta=0.9)
    make_trainable(leaky, {"beta": [BoundedSigmoid(0.0, 1.1), Grid(steps)]})
    assert leaky.beta.item() == pytest.approx(start, rel=1e-3)
    warned = [str(each.message) for each in recwarn if each.category is errors.MisuseWarning]
    assert len(warned) == (steps < 4096)
    assert all("rounds, and starts at" in message for message in warned)
    leaky.beta.backward()
    assert neuron_parameters(leaky)[0].grad != 0
    assert make_fixed(leaky).beta.item() * steps == round(make_fixed(leaky).beta.item() * steps)


def test_a_wrong_inverse_does_not_pass_for_rounding() -> None:
    leaky = snn.Leaky(beta=0.9)
    before = snapshot(leaky)
    with pytest.raises(errors.ParametrizationError, match="must give the value back"):
        make_trainable(leaky, {"beta": GrowsBack(1000)})
    with pytest.raises(errors.ParametrizationError, match="must give the value back"):
        make_trainable(leaky, {"beta": Grid(1)}, init=0.4)  # it would become 0
    assert_unchanged(leaky, before)
