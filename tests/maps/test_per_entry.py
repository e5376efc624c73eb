"""Bounds given as tensors: each entry has its own, and is what it would be alone."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy
import pytest
import snntorch as snn
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    Parametrization,
    Quantity,
    Rate,
    Softplus,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    summary,
    values,
)

LOWER = torch.tensor([0.0, 0.5, 0.9, -3.0])
UPPER = torch.tensor([1.0, 0.95, 0.999, 40.0])
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MAPS: dict[str, tuple[Parametrization, list[Parametrization]]] = {
    "both": (
        BoundedSigmoid(LOWER, UPPER),
        [
            BoundedSigmoid(low, high)
            for low, high in zip(LOWER.tolist(), UPPER.tolist(), strict=True)
        ],
    ),
    "one": (BoundedSigmoid(LOWER, 50.0), [BoundedSigmoid(low, 50.0) for low in LOWER.tolist()]),
    "log": (
        BoundedSigmoid(torch.tensor([1e-3, 1.0, 5.0, 1e-6]).double(), 10.0, spacing="log"),
        [
            BoundedSigmoid(low, 10.0, spacing="log")
            for low in torch.tensor([1e-3, 1.0, 5.0, 1e-6]).tolist()
        ],
    ),
    "softplus": (
        Softplus(LOWER, scale=0.5),
        [Softplus(low, scale=0.5) for low in LOWER.tolist()],
    ),
}
every_map = pytest.mark.parametrize(("together", "alone"), MAPS.values(), ids=MAPS)
every_dtype = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def split(maps: list[Parametrization], raw: Tensor) -> Tensor:
    return torch.stack([each(part) for each, part in zip(maps, raw.unbind(-1), strict=True)], -1)


@every_map
@every_dtype
@given(data=st.data())
def test_each_entry_is_what_it_would_be_alone(
    together: Parametrization, alone: list[Parametrization], dtype: torch.dtype, data: st.DataObject
) -> None:
    largest = torch.finfo(dtype).max
    numbers = st.floats(-largest, largest, allow_subnormal=False) | st.floats(-20.0, 20.0)
    raw = torch.tensor(data.draw(st.lists(numbers, min_size=4, max_size=4)), dtype=dtype)
    raw.requires_grad_()
    value, wanted = together(raw), split(alone, raw)
    rtol = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(value, wanted, rtol=rtol, atol=0)
    assert not together.outside(value.detach()).any()
    for entry, each in zip(value.detach(), alone, strict=True):
        assert not each.outside(entry)
    (found,) = torch.autograd.grad(value.sum(), raw)
    (slope,) = torch.autograd.grad(wanted.sum(), raw)
    assert found.isfinite().all()
    torch.testing.assert_close(found, slope, rtol=64 * torch.finfo(dtype).eps, atol=1e-30)


@every_map
def test_the_inverse_and_the_gradient(
    together: Parametrization, alone: list[Parametrization]
) -> None:
    raw = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value = together(raw)
    torch.testing.assert_close(together.right_inverse(value), raw, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(together, (raw.requires_grad_(),))


@every_map
def test_values_at_the_limits_have_a_finite_raw_value(
    together: Parametrization, alone: list[Parametrization]
) -> None:
    for dtype in (torch.float32, torch.float64):
        for raw in (-torch.finfo(dtype).max, torch.finfo(dtype).max):
            value = together(torch.full((4,), raw, dtype=dtype))
            back = together.right_inverse(value)
            assert back.isfinite().all()
            torch.testing.assert_close(together(back), value)


def test_attached_each_neuron_stays_between_its_own_bounds() -> None:
    lower, upper = torch.tensor([0.5, 0.8, 0.9]), torch.tensor([0.7, 0.9, 0.99])
    net = nn.Sequential(snn.Leaky(beta=0.9))
    make_trainable(
        net, {"0.beta": BoundedSigmoid(lower, upper)}, init=(lower + upper) / 2, shape=(3,)
    )
    assert "lower=[0.5 to 0.9, shape (3,)]" in summary(net)
    assert " 3/3 " in summary(net).splitlines()[1]
    (raw,) = neuron_parameters(net)
    for number in (-1e30, 3.0, 1e30):
        with torch.no_grad():
            raw.fill_(number)
        (value,) = values(net).values()
        assert ((value > lower) & (value < upper)).all()
        assert raw.grad is None
    with pytest.raises(errors.OutOfDomainError, match="1 of 3"):
        net[0].beta = torch.tensor([0.6, 0.6, 0.95])
    net[0].beta = torch.tensor([0.6, 0.85, 0.95])
    torch.testing.assert_close(make_fixed(net)[0].beta, torch.tensor([0.6, 0.85, 0.95]))


def test_bounds_of_time_constants_in_seconds() -> None:
    lower = torch.tensor([2e-3, 5e-3])
    leaky = make_trainable(
        snn.Leaky(beta=0.9),
        {Quantity.TAU_MEM: BoundedSigmoid(lower, 0.1)},
        init=torch.tensor([10e-3, 20e-3]),
        dt=1e-3,
    )
    with torch.no_grad():
        neuron_parameters(leaky)[0].fill_(-20.0)
    torch.testing.assert_close(values(leaky, Quantity.TAU_MEM)["beta"], lower, rtol=1e-4, atol=0)
    rate = BoundedSigmoid(lower, 0.1)
    assert Rate()(rate(torch.zeros(2))).shape == (2,)


def test_copies_files_and_state_dicts_keep_the_bounds() -> None:
    def network(shift: float = 0.0) -> nn.Module:
        module = nn.Module()
        module.beta = torch.tensor([0.6, 0.85])
        return make_trainable(
            module, {"beta": BoundedSigmoid(torch.tensor([0.5, 0.8]), 0.99 + shift)}
        )

    module = network()
    module.beta = torch.tensor([0.7, 0.9])
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), network()):
        other.load_state_dict(module.state_dict())
        assert torch.equal(values(other)["beta"], values(module)["beta"])
        assert repr(other) == repr(module)
    assert all(isinstance(each, Tensor) for each in module.state_dict().values())
    with pytest.raises(errors.CheckpointError, match=r"upper\[0\]=0\.99.*upper\[0\]=0\.995"):
        network(0.005).load_state_dict(module.state_dict())
    module.double()
    torch.testing.assert_close(values(module)["beta"], torch.tensor([0.7, 0.9]).double())


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: BoundedSigmoid(torch.tensor([0.0, 2.0]), 1.0), "lower < upper"),
        (lambda: BoundedSigmoid(torch.tensor([0.0, math.nan]), 1.0), r"lower=\.\.\.\).*finite"),
        (lambda: BoundedSigmoid(0.0, torch.tensor([1.0, math.inf])), r"upper=\.\.\.\).*finite"),
        (lambda: BoundedSigmoid(torch.zeros(2), torch.ones(3)), "fits the other bound"),
        (lambda: BoundedSigmoid(torch.zeros(2), "one"), "finite numbers"),
        (lambda: BoundedSigmoid(torch.zeros(2), 1.0, spacing="log"), "0 < lower"),
        (lambda: BoundedSigmoid(torch.zeros(2, dtype=torch.bool), 1.0), "finite numbers"),
        (lambda: BoundedSigmoid(torch.zeros(2, dtype=torch.complex64), 1.0), "finite numbers"),
        (lambda: Softplus(torch.tensor([0.0, math.inf])), "finite"),
        (lambda: Softplus(torch.zeros(2), scale=-1.0), "scale"),
        (lambda: Softplus(torch.empty(0, 2)), "finite"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(build: Any, why: str) -> None:
    with pytest.raises(errors.ParametrizationError, match=why):
        build()


def test_bounds_of_another_shape_than_the_value_are_refused_with_the_shape_to_give() -> None:
    leaky = snn.Leaky(beta=0.9)
    for each in (BoundedSigmoid(torch.tensor([0.5, 0.8]), 1.0), Softplus(torch.tensor([0.5, 0.8]))):
        with pytest.raises(errors.ParametrizationError, match=r"shape=\(2,\)"):
            make_trainable(leaky, {"beta": each})
    make_trainable(leaky, {"beta": BoundedSigmoid(numpy.array([0.5, 0.8]), 1.0)}, shape=(2,))
    assert values(leaky)["beta"].shape == (2,)


def test_a_scale_is_fitted_to_the_distances() -> None:
    module = nn.Module()
    module.threshold = torch.tensor([1.0, 2.0])
    make_trainable(module, {"threshold": Softplus(torch.tensor([0.5, 0.5]))})
    assert module.parametrizations.threshold[0].scale == pytest.approx(1.0)
    torch.testing.assert_close(module.threshold.detach(), torch.tensor([1.0, 2.0]))
