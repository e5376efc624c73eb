"""The three maps: round trips, bounds, gradients and units over their whole domains."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuroparam import BoundedSigmoid, ExpScaledLog, Parametrization, Softplus
from neuroparam.errors import CheckpointError, OutOfDomainError, ParametrizationError

FULL = (torch.float32, torch.float64)
HALF = (torch.bfloat16, torch.float16)
ROUND_TRIP = {torch.float32: 1e-6, torch.float64: 1e-13}
TINY = torch.finfo(torch.float32).tiny  # bounds there are where the first versions failed
EXTREMES = (0.0, 1e-30, 1.0, 17.0, 40.0, 88.0, 104.0, 700.0, 746.0, 1e4, 1e30)

dtypes = st.sampled_from(FULL)
decades = st.floats(-6, 6).map(lambda exponent: 10.0**exponent)
bounds = st.tuples(
    st.floats(-1e6, 1e6, allow_subnormal=False), st.floats(1e-3, 1e6, allow_subnormal=False)
).map(lambda pair: (pair[0], pair[0] + pair[1] * max(1.0, 1e-2 * abs(pair[0]))))
positive_bounds = st.tuples(decades, st.floats(1e-3, 27.0)).map(
    lambda pair: (pair[0], pair[0] * math.exp(pair[1]))
)

MAPS = {
    "softplus": lambda: Softplus(scale=1.0),
    "softplus with a floor": lambda: Softplus(lower=0.05, scale=0.5),
    "softplus above a negative bound": lambda: Softplus(lower=-70.0, scale=10.0),
    "softplus, large": lambda: Softplus(scale=1e6),
    "softplus, small": lambda: Softplus(scale=1e-6),
    "exp": lambda: ExpScaledLog(reference=1.0),
    "exp, steep": lambda: ExpScaledLog(scale=3.0, reference=100.0),
    "exp, flat": lambda: ExpScaledLog(scale=0.1, reference=1e-3),
    "sigmoid": lambda: BoundedSigmoid(0.0, 1000.0),
    "sigmoid between negative bounds": lambda: BoundedSigmoid(-80.0, -10.0),
    "sigmoid up to zero": lambda: BoundedSigmoid(-1.0, 0.0),
    "sigmoid across zero": lambda: BoundedSigmoid(-64.0, 64.0),
    "sigmoid, log": lambda: BoundedSigmoid(1.0, 100.0, spacing="log"),
    "sigmoid, log, wide": lambda: BoundedSigmoid(1e-6, 1e6, spacing="log"),
    "sigmoid, log, narrow": lambda: BoundedSigmoid(0.1, 0.12, spacing="log"),
}
every_map = pytest.mark.parametrize("build", MAPS.values(), ids=MAPS.keys())
any_map = st.one_of(
    st.builds(Softplus, lower=st.just(0.0), scale=decades),
    st.builds(Softplus, lower=st.floats(-1e3, 1e3, allow_subnormal=False), scale=decades),
    st.builds(ExpScaledLog, scale=st.floats(0.01, 100.0), reference=decades),
    bounds.map(lambda b: BoundedSigmoid(*b)),
    positive_bounds.map(lambda b: BoundedSigmoid(*b, spacing="log")),
)


def inside(parametrization: Parametrization, value: Tensor) -> bool:
    """Strictly inside the domain as written, and finite."""
    ok = parametrization.domain.check(value) & torch.isfinite(value)
    return bool(ok.all())


def units_in_last_place(value: Tensor) -> Tensor:
    return (torch.nextafter(value.abs(), torch.full_like(value, math.inf)) - value.abs()).abs()


# ------------------------------------------------------------------------- round trips


@given(value=decades, dtype=dtypes)
@example(value=1e-6, dtype=torch.float32)
@example(value=1e6, dtype=torch.float32)
def test_positive_maps_round_trip(value: float, dtype: torch.dtype) -> None:
    tensor = torch.tensor([value], dtype=dtype)
    for parametrization in (
        Softplus(scale=1.0),
        Softplus(),
        ExpScaledLog(reference=1.0),
        ExpScaledLog(),
    ):
        back = parametrization(parametrization.right_inverse(tensor))
        error = ((back - tensor) / tensor).abs().item()
        assert error <= ROUND_TRIP[dtype], parametrization


@given(value=decades, reference=decades, scale=st.floats(0.01, 100), dtype=dtypes)
def test_exp_round_trip_is_as_precise_as_documented(
    value: float, reference: float, scale: float, dtype: torch.dtype
) -> None:
    tensor = torch.tensor([value], dtype=dtype)
    parametrization = ExpScaledLog(scale, reference)
    error = ((parametrization(parametrization.right_inverse(tensor)) - tensor) / tensor).abs()
    exponent = abs(math.log(value / reference))
    assert error.item() <= torch.finfo(dtype).eps * (2 + 1.5 * exponent)


@given(bounds=bounds, fraction=st.floats(0.0, 1.0), dtype=dtypes)
@example(bounds=(TINY, 0.25), fraction=0.0, dtype=torch.float32)
@example(bounds=(-TINY, 1.0), fraction=0.0, dtype=torch.float32)
@example(bounds=(-1.0, -TINY), fraction=0.0, dtype=torch.float32)
@example(bounds=(5e-84, 0.25), fraction=0.0, dtype=torch.float32)
def test_bounded_round_trip_keeps_the_gap(
    bounds: tuple[float, float], fraction: float, dtype: torch.dtype
) -> None:
    _gap_survives(BoundedSigmoid(*bounds), fraction, dtype)


@given(bounds=positive_bounds, fraction=st.floats(0.0, 1.0), dtype=dtypes)
def test_bounded_log_round_trip_keeps_the_gap(
    bounds: tuple[float, float], fraction: float, dtype: torch.dtype
) -> None:
    _gap_survives(BoundedSigmoid(*bounds, spacing="log"), fraction, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bounds", [(1e-20, 1e20), (1e-3, 1e36), (1e-30, 1e10), (1e-30, 1e30)])
def test_bounded_log_keeps_its_digits_where_the_ratio_of_the_bounds_is_beyond_single_precision(
    bounds: tuple[float, float], dtype: torch.dtype
) -> None:
    parametrization = BoundedSigmoid(*bounds, spacing="log")
    lowest, highest = (math.log10(bound) for bound in bounds)
    value = torch.logspace(lowest + 0.5, highest - 0.5, 500, dtype=torch.float64).to(dtype)
    raw = parametrization.right_inverse(value)
    share = (value.double().log10() - lowest) / (highest - lowest)
    torch.testing.assert_close(raw, share.logit().to(dtype), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parametrization(raw), value, rtol=1e-5, atol=0)


def test_bounded_log_takes_bounds_whose_ratio_is_beyond_every_float() -> None:
    parametrization = BoundedSigmoid(1e-200, 1e200, spacing="log")
    value = torch.tensor([3e-200, 1e-100, 1.0, 1e100, 3e199], dtype=torch.float64)
    back = parametrization(parametrization.right_inverse(value))
    torch.testing.assert_close(back, value, rtol=1e-12, atol=0)


def _gap_survives(parametrization: BoundedSigmoid, fraction: float, dtype: torch.dtype) -> None:
    """At both ends and in between: the error is small against the distance to the bound."""
    lowest, highest = parametrization.limits(dtype)
    width = parametrization.upper - parametrization.lower
    gap = width * 10.0 ** (-8 * fraction) / 2
    value = torch.tensor(
        [
            lowest,
            highest,
            max(lowest, min(highest, parametrization.lower + gap)),
            max(lowest, min(highest, parametrization.upper - gap)),
        ],
        dtype=dtype,
    )
    back = parametrization(parametrization.right_inverse(value))
    nearest = torch.minimum(
        value.double() - parametrization.lower, parametrization.upper - value.double()
    )
    error = (back.double() - value.double()).abs() / nearest
    limit = 1e-5 if dtype == torch.float32 else 1e-12
    assert error.max() <= limit, (parametrization, value, back)


# --------------------------------------------------------------- every raw value is valid


@given(
    parametrization=any_map,
    raw=st.floats(allow_nan=False, allow_infinity=False, width=32),
    dtype=dtypes,
)
def test_any_finite_raw_gives_a_valid_value_and_a_finite_gradient(
    parametrization: Parametrization, raw: float, dtype: torch.dtype
) -> None:
    tensor = torch.tensor([raw], dtype=dtype, requires_grad=True)
    value = parametrization(tensor)
    (gradient,) = torch.autograd.grad(value.sum(), tensor)
    assert inside(parametrization, value.detach())
    assert torch.isfinite(gradient).all()
    assert gradient >= 0


@every_map
@pytest.mark.parametrize("dtype", [*FULL, *HALF], ids=str)
def test_extreme_raws_stay_inside(build, dtype: torch.dtype) -> None:
    parametrization = build()
    try:
        parametrization.limits(dtype)
    except ParametrizationError:
        assert dtype in HALF  # float16 cannot hold 1e6, nor bfloat16 separate 0.1 and 0.12 ...
        return
    raws = torch.tensor([s * r for r in EXTREMES for s in (1, -1)]).to(dtype)
    raws = raws[torch.isfinite(raws)].sort().values.requires_grad_()
    value = parametrization(raws)
    assert value.dtype == dtype
    assert inside(parametrization, value.detach())
    (gradient,) = torch.autograd.grad(value.double().sum(), raws)
    assert torch.isfinite(gradient).all()
    # what the map returns, it also takes back
    assert parametrization.right_inverse(value.detach()).isfinite().all()


@given(parametrization=any_map, raw=st.floats(-1e3, 1e3), step=st.floats(0, 10), dtype=dtypes)
def test_monotone_up_to_four_units_in_the_last_place(
    parametrization: Parametrization, raw: float, step: float, dtype: torch.dtype
) -> None:
    low, high = parametrization(torch.tensor([raw, raw + step], dtype=dtype))
    assert high >= low - 4 * units_in_last_place(low)


@pytest.mark.parametrize("spacing", ["linear", "log"])
@pytest.mark.parametrize("dtype", FULL, ids=str)
@pytest.mark.parametrize("upper", [1e-6 * math.e, 1.0, 1e6])
def test_no_gap_where_two_branches_meet(spacing: str, dtype: torch.dtype, upper: float) -> None:
    parametrization = BoundedSigmoid(1e-6, upper, spacing=spacing)
    near = torch.linspace(-1e-4, 1e-4, 20001, dtype=dtype)
    everywhere = torch.linspace(-40, 40, 200001, dtype=dtype)
    for raw in (near, everywhere):
        value = parametrization(raw)
        assert (value.diff() >= -4 * units_in_last_place(value[1:])).all()


@pytest.mark.parametrize("dtype", [*FULL, *HALF], ids=str)
@pytest.mark.parametrize("bounds", [(1.0, 100.0), (0.5, 2.0), (0.125, 0.375), (0.3, 1.2)])
@pytest.mark.parametrize("side", [1, -1], ids=["lower", "upper"])
def test_at_a_seam_of_the_log_spacing_all_is_that_of_the_formula(
    side: int, bounds: tuple[float, float], dtype: torch.dtype
) -> None:
    """Up to half a unit of log(value) from a bound, another formula computes the value."""
    parametrization = BoundedSigmoid(*bounds, spacing="log")
    lowest, highest = parametrization.limits(dtype)
    extent, eps = math.log(highest / lowest), torch.finfo(dtype).eps
    seam = -side * math.log(2 * extent - 1)
    raw = seam + torch.arange(-2000, 2001, dtype=torch.float64) * min(eps, 1e-4)
    raw = raw.to(dtype).unique().requires_grad_()
    value = parametrization(raw)
    (gradient,) = torch.autograd.grad(value.sum(), raw)
    exact_raw = raw.detach().double().requires_grad_()
    exact = lowest * torch.exp(extent * torch.sigmoid(exact_raw))
    (slope,) = torch.autograd.grad(exact.sum(), exact_raw)
    torch.testing.assert_close(value.double(), exact, rtol=16 * eps, atol=0.0)
    torch.testing.assert_close(gradient.double(), slope, rtol=16 * eps, atol=0.0)
    assert (value.diff() >= 0).all()
    back = parametrization.right_inverse(value.detach())
    torch.testing.assert_close(back, raw.detach(), rtol=16 * eps, atol=16 * eps)


def test_between_log_bounds_far_apart_every_gradient_is_finite() -> None:
    parametrization = BoundedSigmoid(1e-30, 1e30, spacing="log")
    raw = torch.linspace(-100, 100, 2001, requires_grad=True)
    value = parametrization(raw)
    assert inside(parametrization, value.detach())
    assert (value.diff() >= 0).all()
    (gradient,) = torch.autograd.grad(value.sum(), raw)
    assert gradient.isfinite().all()


# ------------------------------------------------------------------ raw = 0, slopes, domain


def test_raw_zero_is_the_documented_value_with_the_documented_slope() -> None:
    for parametrization, value, slope in (
        (Softplus(lower=0.5, scale=2.0), 2.5, (1 - 1 / math.e) * 2.0),
        (ExpScaledLog(scale=0.3, reference=100.0), 100.0, 30.0),
        (BoundedSigmoid(-10.0, 30.0), 10.0, 10.0),
        (BoundedSigmoid(1.0, 100.0, spacing="log"), 10.0, 10.0 * math.log(100.0) / 4),
    ):
        raw = torch.zeros((), dtype=torch.float64, requires_grad=True)
        result = parametrization(raw)
        (gradient,) = torch.autograd.grad(result, raw)
        assert result.item() == pytest.approx(value, rel=1e-14)
        assert gradient.item() == pytest.approx(slope, rel=1e-14)


@given(parametrization=any_map, dtype=dtypes)
def test_slope_at_zero_is_positive(parametrization: Parametrization, dtype: torch.dtype) -> None:
    raw = torch.zeros(1, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(parametrization(raw).sum(), raw)
    assert gradient > 0


def test_softplus_has_a_slope_at_every_raw_value_where_two_formulas_meet() -> None:
    raw = torch.tensor([39.0, 40.0, 41.0], requires_grad=True)  # they meet at 40
    (gradient,) = torch.autograd.grad(Softplus(scale=2.0)(raw).sum(), raw)
    assert gradient.tolist() == [2.0, 2.0, 2.0]


def test_exp_reference_is_bit_exact() -> None:
    for reference in (1 / 3, 100.0, 1e-6, 123456.789):
        parametrization = ExpScaledLog(scale=0.7, reference=reference)
        for dtype in FULL:
            value = torch.tensor(reference, dtype=dtype)
            assert parametrization(torch.zeros((), dtype=dtype)) == value


@every_map
def test_gradcheck(build) -> None:
    parametrization = build()
    raw = torch.tensor(
        [-30.0, -5.0, -1e-3, 0.0, 1e-3, 2.0, 21.0, 45.0], dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(parametrization, (raw,))
    assert torch.autograd.gradgradcheck(parametrization, (raw[2:6].detach().requires_grad_(),))


@every_map
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0,)], ids=str)
def test_any_shape(build, shape: tuple[int, ...]) -> None:
    raw = torch.zeros(shape)
    assert build()(raw).shape == shape


@every_map
def test_the_inverse_keeps_no_history(build) -> None:
    value = build()(torch.zeros(2, requires_grad=True))
    assert value.requires_grad
    assert not build().right_inverse(value).requires_grad


@every_map
def test_domain_is_what_is_accepted(build) -> None:
    parametrization = build()
    lower = getattr(parametrization, "lower", 0.0)
    upper = getattr(parametrization, "upper", math.inf)
    wrong = [lower, math.nan, math.inf, -math.inf, lower - 1.0]
    wrong += [upper, upper + 1.0] if math.isfinite(upper) else []
    good = parametrization(torch.zeros(()))
    for number in wrong:
        value = torch.stack([good, torch.tensor(number)])
        assert not bool(parametrization.domain.check(value)[1] & torch.isfinite(value)[1])
        with pytest.raises(OutOfDomainError) as caught:
            parametrization.right_inverse(value)
        assert caught.value.outside == 1
        assert "1 of 2 values" in str(caught.value)
        assert parametrization.domain_in_words() in str(caught.value)


def test_error_says_how_many_were_outside_and_their_span() -> None:
    with pytest.raises(OutOfDomainError, match=r"2 of 4 values .* span -3 to 0\."):
        ExpScaledLog(reference=1.0).right_inverse(torch.tensor([1.0, -3.0, 2.0, 0.0]))


@pytest.mark.parametrize("dtype", [*FULL, *HALF], ids=str)
@given(reference=st.floats(-9, 9), scale=st.floats(-7, 10))
@example(reference=0.0, scale=0.0)
@example(reference=9.0, scale=10.0)
@example(reference=-9.0, scale=10.0)
def test_exp_reaches_the_documented_limits_and_no_further(
    dtype: torch.dtype, reference: float, scale: float
) -> None:
    most = 2.0 ** {torch.float64: 510, torch.float16: 14}.get(dtype, 62)
    numbers = torch.finfo(dtype)
    parametrization = ExpScaledLog(2.0**scale, 2.0**reference)
    # The slope, which is scale * value, is a number of the dtype too.
    top = min(most, numbers.max / max(1.0, parametrization.scale))
    if parametrization.reference >= top:
        with pytest.raises(ParametrizationError, match=r"leave no room in torch\.float16"):
            parametrization.limits(dtype)
        return
    raw = torch.tensor([-numbers.max, numbers.max], dtype=dtype, requires_grad=True)
    value = parametrization(raw)
    (gradient,) = torch.autograd.grad(value.sum(), raw)
    assert gradient.tolist() == [0.0, 0.0]
    low, high = value.double().tolist()
    assert 1 / most <= low <= 1.01 / most
    assert 0.99 * top <= high <= top
    assert not parametrization.outside(value.detach()).any()
    # What lies within has its gradient.
    within = torch.tensor([1.25 * low, 0.75 * high], dtype=dtype)
    raw = parametrization.right_inverse(within).requires_grad_()
    value = parametrization(raw)
    (gradient,) = torch.autograd.grad(value.double().sum(), raw)
    slope = parametrization.scale * value.detach().double()
    torch.testing.assert_close(
        gradient.double(), slope, rtol=2 * numbers.eps, atol=numbers.tiny * numbers.eps
    )


def test_exp_refuses_values_whose_raw_is_beyond_the_dtype() -> None:
    parametrization = ExpScaledLog(scale=1e-4, reference=1.0)
    for number in (-3.2, 3.2):
        value = torch.tensor(math.exp(number), dtype=torch.float16)
        raw = parametrization.right_inverse(value)
        assert raw.item() == pytest.approx(1e4 * number, rel=1e-3)
        assert parametrization(raw).item() == pytest.approx(value.item(), rel=1e-2)
    for number in (-7.0, 7.0):  # Raw would be 70,000, and float16 ends at 65,504.
        with pytest.raises(OutOfDomainError):
            parametrization.right_inverse(torch.tensor(math.exp(number), dtype=torch.float16))


# -------------------------------------------------------------------------- fitted constants


@given(values=st.lists(decades, min_size=1, max_size=8), unit=decades)
def test_fitted_constants(values: list[float], unit: float) -> None:
    value = torch.tensor(values, dtype=torch.float64)
    exp, softplus = ExpScaledLog(), Softplus(lower=-unit)
    exp.right_inverse(value)
    softplus.right_inverse(value)
    assert exp.reference == pytest.approx(value.log().mean().exp().item(), rel=1e-12)
    assert softplus.scale == pytest.approx((value + unit).mean().item(), rel=1e-12)


@given(unit=decades, build=st.sampled_from([ExpScaledLog, Softplus]), lr=st.sampled_from([0.01, 1]))
def test_the_unit_does_not_matter(unit: float, build, lr: float) -> None:
    """The same problem stored in another unit trains along the same relative values."""

    def train(unit: float) -> Tensor:
        parametrization = build()
        start = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) * unit
        raw = nn.Parameter(parametrization.right_inverse(start))
        optimizer = torch.optim.Adam([raw], lr=lr)
        target = torch.tensor([3.0, 0.1, 0.6], dtype=torch.float64)
        trajectory = []
        for _ in range(20):
            value = parametrization(raw) / unit
            loss = (value - target).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trajectory.append(value.detach())
        return torch.stack(trajectory)

    torch.testing.assert_close(train(unit), train(1.0), rtol=1e-6, atol=0)


def test_weight_decay_pulls_to_the_value_at_raw_zero() -> None:
    for parametrization in (
        Softplus(scale=10.0),
        ExpScaledLog(reference=10.0),
        BoundedSigmoid(1.0, 100.0),
        BoundedSigmoid(1.0, 100.0, spacing="log"),
    ):
        raw = nn.Parameter(parametrization.right_inverse(torch.tensor(25.0)))
        optimizer = torch.optim.AdamW([raw], lr=0.1, weight_decay=0.5)
        for _ in range(400):
            raw.grad = torch.zeros_like(raw)
            optimizer.step()
        torch.testing.assert_close(parametrization(raw), parametrization(torch.zeros(())))


def test_constants_are_floats_not_buffers() -> None:
    for build in MAPS.values():
        parametrization = build()
        assert not list(parametrization.buffers())
        assert not list(parametrization.parameters())
        constants = [getattr(parametrization, name) for name in parametrization.constant_names]
        assert all(isinstance(value, (float, str, type(None))) for value in constants)


def test_extra_state_adopts_fitted_and_refuses_other_given_constants() -> None:
    trained = Softplus()
    trained.right_inverse(torch.tensor([10.0]))
    fresh = Softplus()
    fresh.load_state_dict(trained.state_dict())
    assert fresh.scale == 10.0
    assert torch.equal(fresh(torch.zeros(1)), torch.tensor([10.0]))

    for other in (Softplus(scale=20.0), Softplus(lower=1.0), ExpScaledLog()):
        before = copy.deepcopy(other.get_extra_state())
        with pytest.raises(CheckpointError):
            other.load_state_dict(trained.state_dict())
        torch.testing.assert_close(other.get_extra_state(), before, equal_nan=True)
    with pytest.raises(CheckpointError, match=r"scale=10\.0, this module has scale=20\.0"):
        Softplus(scale=20.0).load_state_dict(trained.state_dict())


@pytest.mark.parametrize("scale", [None, "10", math.nan, -1.0, 0.0, math.inf])
def test_extra_state_that_makes_no_sense_is_refused(scale) -> None:
    fresh = Softplus()
    for state in (
        {"parametrization": "Softplus", "lower": 0.0, "scale": scale},
        {"parametrization": "Softplus", "lower": 0.0},
    ):
        with pytest.raises(CheckpointError, match="scale="):
            fresh.set_extra_state(state)
    assert fresh.scale is None


# ----------------------------------------------------------------------------- half precision


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(
    "parametrization",
    [
        Softplus(scale=1.0),
        Softplus(lower=-70.0, scale=10.0),
        ExpScaledLog(scale=3.0, reference=100.0),
        BoundedSigmoid(0.0, 1000.0),
        BoundedSigmoid(-80.0, -10.0),
        BoundedSigmoid(1.0, 100.0, spacing="log"),
    ],
    ids=repr,
)
def test_half_precision_is_computed_in_float32(
    parametrization: Parametrization, dtype: torch.dtype
) -> None:
    raw = torch.linspace(-1, 1, 50).to(dtype)
    value = parametrization(raw)
    exact = parametrization(raw.double())
    # rounded once at the end, between bounds that are themselves one unit inside
    allowed = torch.finfo(dtype).eps * (exact.abs() + abs(parametrization.limits(dtype).lowest))
    assert value.dtype == dtype
    assert ((value.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", [*FULL, *HALF], ids=str)
@pytest.mark.parametrize("bound", [0.999, 0.9999999999, -1.0000000001, 1.001])
def test_a_bound_that_a_dtype_rounds_keeps_the_contract(bound: float, dtype: torch.dtype) -> None:
    for parametrization in (
        Softplus(lower=bound, scale=1.0),
        BoundedSigmoid(bound, 10.0),
        BoundedSigmoid(-10.0, bound),
        BoundedSigmoid(abs(bound), 10.0, spacing="log"),
    ):
        value = parametrization(torch.tensor([-1e4, 0.0, 1e4], dtype=dtype))
        assert inside(parametrization, value)
        raw = parametrization.right_inverse(value)
        allowed = 8 * torch.finfo(dtype).eps
        torch.testing.assert_close(parametrization(raw), value, rtol=allowed, atol=allowed)


# ----------------------------------------------------------------------------- bad constants


@every_map
def test_serves_torchs_own_register_parametrization(build) -> None:
    module = nn.Module()
    start = build()(torch.tensor([0.5, -0.5]))
    module.tau = nn.Parameter(start.clone())
    parametrize.register_parametrization(module, "tau", build())
    torch.testing.assert_close(module.tau, start)
