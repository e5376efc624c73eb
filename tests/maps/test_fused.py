"""A chain as one autograd function: the numbers of the maps themselves, bit for bit."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Parametrization,
    Rate,
    Softplus,
    Steps,
    make_trainable,
    parametrizations,
    units,
)
from neuroparam.units import Above, Bitshift, Leak, Logarithm, LogRate, SigmoidRate
from tests.support.inside import FUSED, NeuronParameter, fused

Chain = tuple[Parametrization, ...]

DTYPES = (torch.float32, torch.float64)
FIRST: dict[str, Callable[[], Parametrization]] = {
    "exp": lambda: ExpScaledLog(reference=0.02),
    "exp, steep": lambda: ExpScaledLog(scale=3.0, reference=100.0),
    "softplus": lambda: Softplus(scale=0.0123),
    "softplus above a bound": lambda: Softplus(lower=0.05, scale=0.5),
    "softplus, large": lambda: Softplus(scale=1e6),
    "sigmoid": lambda: BoundedSigmoid(0.0, 200.0),
    "sigmoid between bounds": lambda: BoundedSigmoid(2e-3, 5e-2),
    "sigmoid, log": lambda: BoundedSigmoid(1e-3, 0.1, spacing="log"),
    "sigmoid, log, wide": lambda: BoundedSigmoid(1e-6, 1e6, spacing="log"),
    "sigmoid, log, narrow": lambda: BoundedSigmoid(0.1, 0.12, spacing="log"),
}
ALONE: dict[str, Callable[[], Parametrization]] = {  # values that are no time constants
    "softplus above a negative bound": lambda: Softplus(lower=-70.0, scale=10.0),
    "sigmoid between negative bounds": lambda: BoundedSigmoid(-80.0, -10.0),
    "sigmoid up to zero": lambda: BoundedSigmoid(-1.0, 0.0),
    "sigmoid across zero": lambda: BoundedSigmoid(-64.0, 64.0),
}
REST: dict[str, Callable[[], Chain]] = {
    "": lambda: (),
    "rate": lambda: (Rate(),),
    "decay": lambda: (Decay(1e-3),),
    "steps": lambda: (Steps(1e-3),),
    "bitshift": lambda: (Bitshift(1e-3),),
    "leak": lambda: (Leak(1e-3, 4096),),
    "log rate": lambda: (LogRate(1e-3),),
    "logarithm": lambda: (Logarithm(),),
    "above, sigmoid rate": lambda: (Above(1e-3), SigmoidRate(1e-3)),
    "above": lambda: (Above(1e-3),),
    "above, rate": lambda: (Above(1e-3), Rate()),
    "above, decay": lambda: (Above(1e-3), Decay(1e-3)),
    "above, steps": lambda: (Above(1e-3), Steps(1e-3)),
}
CHAINS: dict[str, Callable[[], Chain]] = {
    **{
        f"{first}; {rest}": lambda first=first, rest=rest: (FIRST[first](), *REST[rest]())
        for first in FIRST
        for rest in REST
    },
    **{name: lambda name=name: (ALONE[name](),) for name in ALONE},
}
# in these, every stage is steep enough for differences, and one digit of raw is one of the value
SMOOTH = [name for name in CHAINS if not name.startswith(("softplus, large", "sigmoid, log, wide"))]
every_chain = pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS.keys())
every_smooth_chain = pytest.mark.parametrize("build", [CHAINS[name] for name in SMOOTH], ids=SMOOTH)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)

EXTREMES = (0.0, 1e-30, 1.0, 17.0, 40.0, 88.0, 104.0, 700.0, 746.0, 1e4, 1e30, math.inf)


def plain(maps: Sequence[nn.Module], raw: Tensor) -> Tensor:
    for each in maps:
        raw = each(raw)
    return raw


def one(maps: Sequence[nn.Module], raw: Tensor) -> Tensor:
    value = fused(tuple(maps), raw)
    assert value is not None
    return value


def raws(dtype: torch.dtype) -> Tensor:
    """The range of training densely, the range of the dtype thinly."""
    draw = torch.Generator().manual_seed(0)
    numbers = torch.finfo(dtype)
    extremes = [*EXTREMES, numbers.max, numbers.tiny]
    return torch.cat(
        [
            torch.empty(3000, dtype=dtype).uniform_(-15, 15, generator=draw),
            torch.empty(1000, dtype=dtype).uniform_(-120, 120, generator=draw),
            torch.tensor([*extremes, *(-each for each in extremes)], dtype=dtype),
        ]
    )


def slopes(value: Tensor, raw: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), raw)[0]


# ------------------------------------------------------------------------------- numbers


@every_chain
@every_dtype
def test_the_value_is_that_of_the_maps_in_every_bit(
    build: Callable[[], Chain], dtype: torch.dtype
) -> None:
    maps, raw = build(), raws(dtype)
    value = one(maps, raw)
    assert torch.equal(value, plain(maps, raw))
    lowest, highest = maps[-1].limits(dtype)
    assert bool(((value >= lowest) & (value <= highest)).all())
    assert one(maps, torch.tensor(math.nan, dtype=dtype)).isnan()


@every_chain
@every_dtype
def test_the_slope_is_that_of_the_maps(build: Callable[[], Chain], dtype: torch.dtype) -> None:
    maps, raw = build(), raws(dtype).requires_grad_()
    value = one(maps, raw)
    found, wanted = slopes(value, raw), slopes(plain(maps, raw), raw)
    numbers, edge = torch.finfo(dtype), torch.zeros(1, requires_grad=True)
    assert bool(found.isfinite().all())
    rtol, atol = 32 * numbers.eps, 0.0
    if isinstance(maps[-1], Bitshift):
        rtol = 1e-1  # the maps' own 1 + expm1(...) keeps few digits of a short time constant
        atol = 64 * numbers.eps * wanted.abs().max().item()
    # The maps' own slope may overflow on the way, and pass through subnormal numbers, which keep
    # few digits.
    least = numbers.tiny / numbers.eps**2.5
    told = wanted.isfinite() & (wanted.abs() > least)
    if slopes(edge.clamp(0.0, 1.0), edge).item() == 1.0:
        # This release of torch lets a gradient through a clamp at its very bound.
        told &= (found != 0.0) | ((value != value.min()) & (value != value.max()))
    torch.testing.assert_close(found[told], wanted[told], rtol=rtol, atol=atol)
    assert bool((found[wanted.abs() <= least].abs() <= 2 * least).all())


@every_smooth_chain
def test_values_and_slopes_are_as_near_to_the_exact_ones(build: Callable[[], Chain]) -> None:
    maps = build()
    raw = torch.linspace(-4, 4, 4001).requires_grad_()
    twice = raw.detach().double().requires_grad_()
    exact = plain(maps, twice)
    exact_slope = slopes(exact, twice)

    def furthest(found: Tensor, wanted: Tensor) -> float:
        error = (found.double() - wanted).abs() / wanted.abs()
        return error.max().item() / torch.finfo(torch.float32).eps

    assert furthest(one(maps, raw).detach(), exact.detach()) <= furthest(
        plain(maps, raw).detach(), exact.detach()
    )
    # half a unit for another order of the roundings
    ours, theirs = (slopes(f(maps, raw), raw) for f in (one, plain))
    assert furthest(ours, exact_slope) <= 1.5 * furthest(theirs, exact_slope) + 0.5


@every_dtype
def test_beyond_the_limits_the_slope_is_exactly_zero(dtype: torch.dtype) -> None:
    raw = torch.tensor([-1e5, 1e5, -math.inf, math.inf], dtype=dtype, requires_grad=True)
    for maps in ((ExpScaledLog(reference=1.0),), (ExpScaledLog(reference=1.0), Rate())):
        assert slopes(one(maps, raw), raw).tolist() == [0.0] * 4


@every_smooth_chain
def test_first_and_second_derivatives(build: Callable[[], Chain]) -> None:
    maps = build()
    raw = torch.tensor([-1.3, -0.4, 0.2, 1.1], dtype=torch.float64, requires_grad=True)
    scale = 1 / plain(maps, raw).detach().abs().max()

    def value(raw: Tensor) -> Tensor:
        return scale * one(maps, raw)

    assert gradcheck(value, raw, check_batched_grad=True, check_undefined_grad=True)
    assert gradgradcheck(value, raw)


@every_chain
def test_the_graph_of_a_gradient_is_that_of_the_maps(build: Callable[[], Chain]) -> None:
    maps, raw = build(), torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    found, wanted = (
        torch.autograd.grad(f(maps, raw).square().sum(), raw, create_graph=True)[0]
        for f in (one, plain)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    second = (torch.autograd.grad(g.square().sum(), raw)[0] for g in (found, wanted))
    torch.testing.assert_close(*second, rtol=1e-3, atol=1e-30)


SHAPES: dict[str, Callable[[], Tensor]] = {
    "no dimensions": lambda: torch.tensor(0.3),
    "empty": lambda: torch.empty(0, 3),
    "transposed": lambda: torch.linspace(-2, 2, 12).view(3, 4).t(),
    "every second one": lambda: torch.linspace(-2, 2, 12)[::2],
    "expanded": lambda: torch.tensor([0.3]).expand(5),
    "channels last": lambda: (
        torch.linspace(-2, 2, 96).view(2, 3, 4, 4).to(memory_format=torch.channels_last)
    ),
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES.keys())
@every_chain
def test_any_shape_and_any_strides(build: Callable[[], Chain], make: Callable[[], Tensor]) -> None:
    maps, raw = build(), make().requires_grad_()
    value, wanted = one(maps, raw), plain(maps, raw)
    assert torch.equal(value, wanted)
    gradient = torch.ones_like(raw).t() if raw.ndim == 2 else torch.ones_like(raw)
    gradient = gradient.t() if raw.ndim == 2 else gradient
    found, expected = (torch.autograd.grad(v, raw, gradient)[0] for v in (value, wanted))
    assert found.shape == raw.shape
    # of a short time constant, Bitshift's own slope has few digits
    rtol, atol = (1e-2, 1e-4) if isinstance(maps[-1], Bitshift) else (1e-5, 1e-6)
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


# ------------------------------------------------------------------------------ one node


@every_chain
def test_one_node(build: Callable[[], Chain]) -> None:
    raw = torch.zeros(3, requires_grad=True)
    value = one(build(), raw)
    (following,) = value.grad_fn.next_functions[:1]
    assert following[0].variable is raw


def test_a_gradient_is_not_written_to() -> None:
    """Autograd may hand the same one to several."""
    for build in CHAINS.values():
        raw, gradient = torch.zeros(3, requires_grad=True), torch.full((3,), 0.7)
        one(build(), raw).backward(gradient)
        assert gradient.tolist() == torch.full((3,), 0.7).tolist()


def test_two_backward_passes_through_one_evaluation() -> None:
    for build in CHAINS.values():
        raw = torch.linspace(-1, 1, 3).requires_grad_()
        value = one(build(), raw)
        first, second = slopes(value * 1.0, raw), slopes(value * 1.0, raw)
        assert torch.equal(first, second)


def test_none_stays_none() -> None:
    raw = torch.zeros(3, requires_grad=True)
    value = one([Softplus(scale=1.0)], raw)

    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return None

    (Nothing.apply(value).sum() + 0 * raw.detach().sum()).backward()
    assert raw.grad is None


@every_chain
def test_a_raw_tensor_that_changes_before_the_backward_pass(build: Callable[[], Chain]) -> None:
    raw = torch.zeros(3, requires_grad=True)
    value = one(build(), raw)
    with torch.no_grad():
        raw.add_(1.0)
    for create_graph in (False, True):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.sum().backward(create_graph=create_graph, retain_graph=True)
    assert raw.grad is None


@every_chain
def test_what_is_written_into_the_value_does_not_change_the_gradient(
    build: Callable[[], Chain],
) -> None:
    maps, raw = build(), torch.linspace(-1, 1, 3).requires_grad_()
    wanted = slopes(one(maps, raw), raw)
    value = one(maps, raw)
    value.data.zero_()
    assert torch.equal(slopes(value, raw), wanted)
    assert torch.equal(slopes(one(maps, raw).mul_(2.0), raw), 2 * wanted)


def test_a_raw_tensor_with_a_history() -> None:
    source = torch.linspace(-1, 1, 3).requires_grad_()
    maps = (ExpScaledLog(scale=0.5, reference=2.0), Rate())
    for create_graph in (False, True):
        found, wanted = (
            torch.autograd.grad(f(maps, 3 * source).sum(), source, create_graph=create_graph)[0]
            for f in (one, plain)
        )
        torch.testing.assert_close(found, wanted)


def test_nothing_is_kept_after_the_value() -> None:
    gc.disable()
    try:
        maps = (Softplus(scale=1.0), Decay(0.1))
        raw = torch.zeros(3, requires_grad=True)
        value = one(maps, raw)
        node, held = weakref.ref(value.grad_fn), weakref.ref(maps[0])
        value.sum().backward()
        del value
        assert node() is None
        del maps
        assert held() is None
    finally:
        gc.enable()


def test_nothing_of_it_is_copied_or_pickled() -> None:
    parameter = NeuronParameter([Softplus(), Steps(0.1)], torch.ones(3), "tau")
    before = pickle.dumps(parameter)
    parameter().sum().backward()
    parameter.raw.grad = None
    again = pickle.loads(pickle.dumps(parameter))
    for each in (again, copy.deepcopy(parameter)):
        assert each[0].__dict__.keys() == parameter[0].__dict__.keys()
        assert torch.equal(each(), parameter())
    assert b"slopes" not in pickle.dumps(parameter)
    assert b"slopes" not in before


def test_new_constants_are_followed() -> None:
    module = nn.Module()
    module.tau = nn.Parameter(torch.full((3,), 2.0))
    source, target = (
        make_trainable(copy.deepcopy(module), {"tau": ExpScaledLog()}, init={"tau": init})
        for init in (2.0, 5.0)
    )
    assert target.tau.tolist() == [5.0] * 3
    target.load_state_dict(source.state_dict())
    assert target.tau.tolist() == [2.0] * 3
    target.tau.sum().backward()
    assert target.parametrizations.tau.original.grad.tolist() == [2.0] * 3


# ------------------------------------------------------------- where the maps themselves run


class Ran(list[str]):
    """The maps whose own forward has run."""


@contextmanager
def counting() -> Iterator[Ran]:
    ran = Ran()
    forward = Softplus.forward

    def counted(self: Softplus, raw: Tensor) -> Tensor:
        ran.append("Softplus")
        return forward(self, raw)

    with patch.object(Softplus, "forward", counted):
        yield ran


def value_of(maps: list[nn.Module] | None = None, dtype: torch.dtype = torch.float32):
    maps = [Softplus(scale=1.0)] if maps is None else maps
    return NeuronParameter(maps, torch.full((3,), 2.0, dtype=dtype), "tau")


class Doubled(Parametrization):
    domain = torch.distributions.constraints.positive

    def forward(self, raw: Tensor) -> Tensor:
        return 2 * raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / 2


class Own(Softplus):
    pass


def hooked(parameter: NeuronParameter) -> NeuronParameter:
    parameter[0].register_forward_hook(lambda *_: None)
    return parameter


def replaced(parameter: NeuronParameter) -> NeuronParameter:
    each = parameter[0]
    each.forward = lambda raw: type(each).forward(each, raw)
    return parameter


@contextmanager
def everywhere_hooked() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        yield
    finally:
        handle.remove()


def raw_of(parameter: NeuronParameter) -> dict[str, Tensor]:
    return {"original": parameter.raw.detach().clone()}


def traced(parameter: NeuronParameter) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        torch.jit.trace(Reading(parameter), torch.ones(3), check_trace=False)


class Reading(nn.Module):
    def __init__(self, parameter: NeuronParameter):
        super().__init__()
        self.parameter = parameter

    def forward(self, x: Tensor) -> Tensor:
        return x * self.parameter()


def with_tangent(parameter: NeuronParameter) -> Tensor:
    with forward_ad.dual_level():
        raw = parameter.raw.detach()
        dual = forward_ad.make_dual(raw, torch.ones_like(raw))
        value = functional_call(parameter, {"original": dual}, ())
        tangent = forward_ad.unpack_dual(value).tangent
    torch.testing.assert_close(tangent, slopes(parameter(), parameter.raw))
    return value


def in_inference(parameter: NeuronParameter) -> Tensor:
    with torch.inference_mode():
        raw = parameter.raw.clone()
    return functional_call(parameter, {"original": raw}, ())


MAPS_RUN: dict[str, Callable[[], object]] = {
    "half precision": lambda: value_of(dtype=torch.float16)(),
    "a user's map among them": lambda: value_of([Softplus(scale=1.0), Doubled()])(),
    "a user's subclass": lambda: value_of([Own(scale=1.0)])(),
    "a hook": lambda: hooked(value_of())(),
    "a replaced forward": lambda: replaced(value_of())(),
    "vmap": lambda: vmap(lambda raw: functional_call(value_of(), {"original": raw}, ()))(
        torch.zeros(2, 3)
    ),
    "grad": lambda: grad(lambda raw: functional_call(value_of(), raw, ()).sum())(
        raw_of(value_of())
    ),
    "jvp": lambda: jvp(
        lambda raw: functional_call(value_of(), {"original": raw}, ()),
        (torch.zeros(3),),
        (torch.ones(3),),
    ),
    "forward mode": lambda: with_tangent(value_of()),
    "jit.trace": lambda: traced(value_of()),
    "make_fx": lambda: make_fx(value_of())(),
    "meta": lambda: value_of().to("meta")(),
    "inference tensors": lambda: in_inference(value_of()),
}


@pytest.mark.parametrize("run", MAPS_RUN.values(), ids=MAPS_RUN.keys())
def test_the_maps_themselves_run(run: Callable[[], object]) -> None:
    with counting() as ran:
        value_of()  # what an attachment itself needs
        ran.clear()
        run()
    assert ran


def test_the_maps_themselves_run_where_every_module_has_a_hook() -> None:
    parameter = value_of()
    with counting() as ran, everywhere_hooked():
        parameter()
    assert ran


def test_the_maps_themselves_run_for_the_graph_of_a_gradient_only() -> None:
    parameter = value_of()
    with counting() as ran:
        value = parameter()
        value.sum().backward(retain_graph=True)
        assert not ran
        torch.autograd.grad(value.sum(), parameter.raw, create_graph=True)
    assert ran == ["Softplus"]


def test_they_do_not_run_in_eager_code() -> None:
    parameter = value_of([Softplus(scale=1.0), Steps(0.1)])
    with counting() as ran:
        for around in (nullcontext, torch.no_grad, torch.inference_mode, torch.enable_grad):
            with around():
                parameter()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert parameter().dtype == torch.float32
        checkpoint(lambda: parameter().square(), use_reentrant=False).sum().backward()
    assert not ran


def test_a_batched_backward_pass() -> None:
    raw = torch.linspace(-1, 1, 3).requires_grad_()
    for build in CHAINS.values():
        maps = build()
        for f in (one, plain):
            found = torch.autograd.grad(f(maps, raw), raw, torch.eye(3), is_grads_batched=True)[0]
            torch.testing.assert_close(found, torch.diag(slopes(f(maps, raw), raw)))


def test_every_map_of_this_library_is_known() -> None:
    public = {
        each
        for module in (parametrizations, units)
        for each in map(module.__dict__.get, module.__all__)
        if isinstance(each, type) and issubclass(each, Parametrization)
    }
    assert public - {Parametrization, units.UnitMap} == FUSED
