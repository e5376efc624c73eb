"""The unit maps: exact, inside their range for every time constant, also behind the maps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Rate,
    Softplus,
    Steps,
    errors,
    make_trainable,
    neuron_parameters,
    values,
)
from neuroparam.units import Above, Bitshift, Leak, Logarithm, LogRate, SigmoidRate
from tests.support.inside import TimeConstantMap, bounds_of

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
steps_of_time = st.floats(1e-6, 1e2)
UNITS = {
    "Rate": lambda dt: Rate(),
    "Decay": Decay,
    "Steps": Steps,
    "Bitshift": Bitshift,
    "Leak": Leak,
    "Leak of 12 bits": lambda dt: Leak(dt, 4096),
    "LogRate": LogRate,
    "SigmoidRate": lambda dt: SigmoidRate(0.09 * dt),  # every time constant here exceeds the step
    "Logarithm": lambda dt: Logarithm(),
    "Above": Above,
}
every_unit = pytest.mark.parametrize("make", UNITS.values(), ids=UNITS.keys())
CHAINS = {
    "ExpScaledLog": lambda dt: ExpScaledLog(reference=20 * dt),
    "Softplus": lambda dt: Softplus(lower=dt, scale=10 * dt),
    "BoundedSigmoid": lambda dt: BoundedSigmoid(2 * dt, 50 * dt),
}


@pytest.mark.parametrize(
    ("unit", "tau", "expected"),
    [
        (Rate(), 0.02, 50.0),
        (Decay(1e-3), 0.02, math.exp(-0.05)),
        (Steps(1e-3), 0.02, 20.0),
        (Bitshift(1e-3), -1e-3 / math.log(1 - 2.0**-4), 4.0),
        (Leak(1e-3), 0.02, 1 - math.exp(-0.05)),
        (Leak(1e-3, 4096), -1e-3 / math.log(0.75), 1024.0),
        (LogRate(1e-3), 0.02, math.log(0.05)),
        (SigmoidRate(1e-3), 0.02, math.log(0.05 / 0.95)),
        (Logarithm(), 0.5, math.log(0.5)),
        (Above(1e-3), 0.02, 0.021),
        (Above(0.0), 0.02, 0.02),
    ],
    ids=repr,
)
def test_formula(unit: TimeConstantMap, tau: float, expected: float) -> None:
    value = unit(torch.tensor(tau, dtype=torch.float64))
    assert value.item() == pytest.approx(expected, rel=1e-14)
    assert unit.right_inverse(value).item() == pytest.approx(tau, rel=1e-13)


@every_unit
@given(dt=steps_of_time, ratio=st.floats(0.1, 1e3))
def test_round_trip(make, dt: float, ratio: float) -> None:
    unit = make(dt)
    tau = torch.tensor(dt * ratio, dtype=torch.float64)
    # a decay near 1 keeps only the digits of 1 - decay
    close = 1e-15 * max(ratio, 10.0 / ratio) * 10
    assert unit.right_inverse(unit(tau)).item() == pytest.approx(tau.item(), rel=close)


@every_unit
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(dt=st.sampled_from([1e-4, 1e-3, 1.0]), data=st.data())
def test_every_time_constant_gives_a_value_inside(make, dtype, dt: float, data) -> None:
    largest = torch.finfo(dtype).max
    number = data.draw(st.floats(0.0, largest, allow_subnormal=True))
    tau = torch.tensor(number, dtype=dtype, requires_grad=True)
    unit = make(dt)
    if dtype == torch.float16 and isinstance(unit, Leak) and unit.scale / dt > largest:
        with pytest.raises(errors.ParametrizationError, match="leave no room"):
            unit(tau)
        return
    value = unit(tau)
    low, high = unit.image(0.0, math.inf)
    assert value.isfinite()
    assert low < value.item() < high
    assert not unit.outside(value.detach())
    (gradient,) = torch.autograd.grad(value, tau)
    assert gradient.isfinite()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_value_that_rounding_moves_to_a_bound_has_the_gradient_of_the_formula(dtype) -> None:
    """Training could not leave the bound otherwise."""
    eps = torch.finfo(dtype).eps
    for unit, number, bound, slope in (
        (Decay(eps / 16), 0.25, "highest", eps),
        (Above(1.0), eps / 8, "lowest", 1.0),
    ):
        tau = torch.tensor(number, dtype=dtype, requires_grad=True)
        value = unit(tau)
        assert value.item() == getattr(unit.limits(dtype), bound)
        (gradient,) = torch.autograd.grad(value, tau)
        assert gradient.item() == pytest.approx(slope, rel=eps)


def test_the_gradient_of_a_rate_is_finite_where_float16_cannot_hold_its_square() -> None:
    for number in (2.0**-7, 2.0**-8, 2.0**-14, 0.0):
        tau = torch.tensor(number, dtype=torch.float16, requires_grad=True)
        (gradient,) = torch.autograd.grad(Rate()(tau), tau)
        assert gradient.isfinite(), number


@every_unit
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
@given(raw=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_raw_value_of_a_chain_gives_a_value_inside(make, chain, raw: float) -> None:
    first, unit = chain(1e-3), make(1e-3)
    leaf = torch.tensor(raw, requires_grad=True)
    value = unit(first(leaf))
    assert not unit.outside(value.detach())
    low, high = bounds_of([first, unit])
    # the bounds of a chain are rounded to float32 as its values are
    assert low <= value.item() + 1e-6 * abs(value.item())
    assert high >= value.item() - 1e-6 * abs(value.item())
    (gradient,) = torch.autograd.grad(value, leaf)
    assert gradient.isfinite()


@every_unit
def test_strictly_monotone(make) -> None:
    unit = make(1e-3)
    tau = torch.logspace(-3, 0, 400, dtype=torch.float64)
    slopes = unit(tau).diff()
    assert (slopes > 0).all() or (slopes < 0).all()


@every_unit
def test_gradient(make) -> None:
    tau = torch.tensor([2e-3, 2e-2, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(make(1e-3), (tau,), eps=1e-9, rtol=1e-4)


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        (Decay(1e-3), 1.0),
        (Decay(1e-3), 0.0),
        (Rate(), 0.0),
        (Steps(1e-3), -1.0),
        (Leak(1e-3, 4096), 0.0),
        (Leak(1e-3, 4096), 4096.0),
        (SigmoidRate(1e-3), 100.0),  # the time constant would be the step
        (LogRate(1e-3), math.inf),
        (Logarithm(), -math.inf),
    ],
    ids=repr,
)
def test_a_stored_number_without_a_time_constant_is_refused(
    unit: TimeConstantMap, value: float
) -> None:
    with pytest.raises(errors.OutOfDomainError):
        unit.right_inverse(torch.tensor([value]))


@pytest.mark.parametrize("dt", [0.0, -1e-3, math.nan, math.inf, "1e-3", None, True])
@pytest.mark.parametrize("kind", [Decay, Steps, Bitshift, Leak, LogRate, SigmoidRate])
def test_a_time_step_is_positive_and_finite(kind, dt) -> None:
    with pytest.raises(errors.ParametrizationError, match=kind.__name__):
        kind(dt)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, "12", None, [4096]])
def test_the_scale_of_a_leak_is_positive_and_finite(scale) -> None:
    with pytest.raises(errors.ParametrizationError, match=r"Leak\(scale="):
        Leak(1e-3, scale)


def test_by_hand_in_a_chain() -> None:
    module = nn.Module()
    module.register_buffer("beta", torch.tensor(0.9))
    make_trainable(module, {"beta": [ExpScaledLog(), Decay(dt=1e-3)]})
    assert module.beta.item() == pytest.approx(0.9, rel=1e-6)
    (raw,) = neuron_parameters(module)
    with torch.no_grad():
        raw.add_(math.log(2.0))  # twice the time constant
    assert module.beta.item() == pytest.approx(0.9**0.5, rel=1e-6)
    module.beta = 0.8
    assert values(module)["beta"].item() == pytest.approx(0.8, rel=1e-6)
    with pytest.raises(errors.OutOfDomainError, match="'beta'"):
        module.beta = 1.0


def test_another_time_step_in_a_checkpoint_is_refused() -> None:
    def made(dt: float) -> nn.Module:
        module = nn.Module()
        module.beta = 0.9
        return make_trainable(module, {"beta": [ExpScaledLog(), Decay(dt=dt)]})

    saved = made(1e-3).state_dict()
    with pytest.raises(errors.CheckpointError, match=r"dt=0\.001.*dt=0\.002"):
        made(2e-3).load_state_dict(saved)
    same = made(1e-3)
    same.load_state_dict(saved)
    assert same.beta.item() == pytest.approx(0.9, rel=1e-6)
