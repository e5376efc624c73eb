"""sequence: snnTorch's Leaky over a whole sequence, against its own loop."""

from __future__ import annotations

import itertools
import warnings

import norse.torch as norse
import pytest
import snntorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snntorch import surrogate
from torch import Tensor, nn

from neuroparam import cached, errors, make_trainable, neuron_parameters, values
from neuroparam.adjoint import sequence
from tests.adjoint.layers import relative_error

STEPS, BATCH, NEURONS = 30, 3, 6
SURROGATES = {
    "atan": surrogate.atan(),
    "fast sigmoid": surrogate.fast_sigmoid(),
    "sigmoid": surrogate.sigmoid(),
    "triangular": surrogate.triangular(),
    "straight through": surrogate.straight_through_estimator(),
    "sparse fast sigmoid": surrogate.SFS(),
    "a function of one's own": lambda x: surrogate.ATan.apply(x, 3.0),
}
RESETS = ("subtract", "zero", "none")


def loop(leaky: nn.Module, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """snnTorch's own steps, as a user writes them."""
    mem = torch.zeros_like(x[0]) if mem is None else mem
    spikes, membranes = [], []
    with cached():
        for step in x:
            spike, mem = leaky(step, mem)
            spikes.append(spike)
            membranes.append(mem)
    return torch.stack(spikes), torch.stack(membranes)


def build(
    dtype=torch.float32, per_neuron=True, spike=None, reset="subtract", **options
) -> snntorch.Leaky:
    generator = torch.Generator().manual_seed(0)
    shape = (NEURONS,) if per_neuron else ()
    return snntorch.Leaky(
        beta=0.8 + 0.15 * torch.rand(shape, dtype=dtype, generator=generator),
        threshold=0.5 + 0.2 * torch.rand(shape, dtype=dtype, generator=generator),
        spike_grad=spike or surrogate.atan(),
        reset_mechanism=reset,
        learn_beta=True,
        learn_threshold=True,
        **options,
    )


def outcome(run, leaky: nn.Module, dtype=torch.float32, steps: int = STEPS) -> list[Tensor]:
    """Spikes, membranes, and the gradients of everything."""
    generator = torch.Generator().manual_seed(1)
    shape = (steps, BATCH, NEURONS)
    x = (torch.randn(shape, generator=generator, dtype=dtype) * 0.5 + 0.2).requires_grad_()
    mem = torch.randn(shape[1:], generator=generator, dtype=dtype).requires_grad_()
    a, b = (torch.randn(shape, generator=generator) for _ in range(2))
    leaky.zero_grad()
    spikes, membranes = run(leaky, x, mem)
    ((a * spikes).sum() + (b * membranes).sum()).backward()
    gradients = [x.grad, mem.grad, *(p.grad for p in leaky.parameters())]
    return [spikes.detach(), membranes.detach(), *(g.clone() for g in gradients)]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for mine, own in zip(found[:2], expected[:2], strict=True):
        assert mine.dtype == own.dtype
        assert torch.equal(mine, own)
    for mine, own in zip(found[2:], expected[2:], strict=True):
        assert mine.shape == own.shape
        assert relative_error(mine, own) <= tolerance


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("per_neuron", [True, False], ids=["per neuron", "scalar"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_bit_for_bit_and_exact(name: str, reset: str, per_neuron: bool, dtype) -> None:
    leaky = build(dtype, per_neuron, SURROGATES[name], reset)
    # snnTorch's spikes are float32 also in float64, so that its gradients of a single threshold,
    # and of the sigmoid, are rounded to float32 on the way
    rounded = name == "sigmoid" or (not per_neuron and reset == "subtract")
    tolerance = 2e-5 if dtype == torch.float32 else (1e-6 if rounded else 1e-12)
    assert_same(outcome(sequence, leaky, dtype), outcome(loop, leaky, dtype), tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {"reset_delay": False},
        {"reset_delay": False, "reset": "zero"},
        {"graded_spikes_factor": 2.5},
        {"graded_spikes_factor": 2.5, "learn_graded_spikes_factor": True},
        {"surrogate_disable": True},
        {"output": True},
    ],
    ids=str,
)
def test_options(options) -> None:
    leaky = build(**options)
    assert_same(outcome(sequence, leaky), outcome(loop, leaky), 2e-5)


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_inhibition_and_quantized_states_run_snntorch() -> None:
    rounding = {"state_quant": lambda mem: torch.round(mem, decimals=1)}
    for options in ({"inhibition": True}, rounding):
        leaky = build(**options)
        x = torch.rand(STEPS, BATCH, NEURONS)
        for mine, own in zip(sequence(leaky, x), loop(leaky, x), strict=True):
            assert torch.equal(mine, own)


@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_lengths(steps: int) -> None:
    leaky = build()
    found, expected = (outcome(run, leaky, steps=steps) for run in (sequence, loop))
    assert_same(found, expected, 2e-5)


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    reset=st.sampled_from(RESETS),
    beta=st.floats(-0.5, 1.5),
    threshold=st.floats(0.01, 3.0),
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-9)])
@settings(deadline=None, max_examples=50)
def test_any_shape_and_any_constants(dtype, tolerance, shape, reset, beta, threshold) -> None:
    leaky = snntorch.Leaky(beta, threshold, reset_mechanism=reset, learn_beta=True).to(dtype)
    leaky.graded_spikes_factor.fill_(0.1)  # In double precision: no float32 has these digits.
    results = []
    for run in (loop, sequence):
        leaky.zero_grad()
        x = torch.rand(shape[0] + 1, *shape[1:], dtype=dtype, requires_grad=True)
        with torch.no_grad():
            x.copy_(torch.linspace(-1, 2, x.numel()).reshape(x.shape))
        spikes, membranes = run(leaky, x)
        (spikes.sum() + membranes.square().sum()).backward()
        results.append([spikes.detach(), membranes.detach(), x.grad, leaky.beta.grad])
    if dtype == torch.float32:  # The gradient of beta is a sum, whose summands may cancel.
        results = [result[:-1] for result in results]
    own, mine = results
    assert_same(mine, own, tolerance)


def test_frozen_inputs_get_nothing() -> None:
    leaky = build()
    for beta, threshold in itertools.product((True, False), repeat=2):
        leaky.zero_grad()
        leaky.beta.requires_grad_(beta)
        leaky.threshold.requires_grad_(threshold)
        spikes, membranes = sequence(leaky, torch.rand(STEPS, BATCH, NEURONS))
        if beta or threshold:
            (spikes.sum() + membranes.sum()).backward()
        else:
            assert not spikes.requires_grad
        assert (leaky.beta.grad is not None) == beta
        assert (leaky.threshold.grad is not None) == threshold


def test_hidden_states_go_on() -> None:
    x = torch.rand(STEPS, BATCH, NEURONS)
    whole = build(init_hidden=True)
    spikes, membranes = sequence(whole, x)
    parts = build(init_hidden=True)
    first, second = x[:11], x[11:]
    assert torch.equal(torch.cat([sequence(parts, first)[0], sequence(parts, second)[0]]), spikes)
    assert torch.equal(parts.mem, membranes[-1])
    own = build(init_hidden=True)
    assert torch.equal(torch.stack([own(step) for step in x]), spikes)
    whole.reset_mem()
    assert torch.equal(sequence(whole, x)[0], spikes)
    with pytest.raises(TypeError, match="init_hidden"):
        sequence(whole, x, torch.zeros(BATCH, NEURONS))


def test_a_state_of_another_shape_counts_as_zeros() -> None:
    leaky = build()
    x = torch.rand(STEPS, BATCH, NEURONS)
    assert torch.equal(sequence(leaky, x, leaky.reset_mem())[0], sequence(leaky, x)[0])


def test_attached_values_train_through_it() -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"fc": nn.Linear(4, NEURONS), "leaky": snntorch.Leaky(beta=0.9)})
    make_trainable(net, ["leaky.beta", "leaky.threshold"], shape=(NEURONS,))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = {path: each.clone() for path, each in values(net).items()}
    x = torch.rand(STEPS, BATCH, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(15):
            optimizer.zero_grad()
            spikes, _ = sequence(net["leaky"], net["fc"](x))
            spikes.square().mean().backward()
            optimizer.step()
    assert all(bool((values(net)[path] != each).any()) for path, each in before.items())
    assert len(neuron_parameters(net)) == 2


def test_without_gradients() -> None:
    leaky, x = build(), torch.rand(STEPS, BATCH, NEURONS)
    with torch.no_grad():
        for mine, own in zip(sequence(leaky, x), loop(leaky, x), strict=True):
            assert torch.equal(mine, own)


def test_autocast_and_half_precision() -> None:
    leaky, x = build(), torch.rand(STEPS, BATCH, NEURONS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sequence(leaky, x)[0], loop(leaky, x)[0])
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(sequence(leaky, x.to(dtype))[0], loop(leaky, x.to(dtype))[0])


def test_second_derivatives_are_refused() -> None:
    leaky = build()
    spikes, _ = sequence(leaky, torch.rand(STEPS, BATCH, NEURONS))
    (gradient,) = torch.autograd.grad(spikes.sum(), leaky.beta, create_graph=True)
    with pytest.raises(errors.AdjointError):
        gradient.sum().backward()


class Derived(snntorch.Leaky):
    pass


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sequence(norse.LIF(), torch.rand(3, 2)), TypeError, "got LIF.*use_adjoint"),
        (lambda: sequence(Derived(0.9), torch.rand(3, 2)), TypeError, "got Derived"),
        (lambda: sequence(snntorch.Leaky, torch.rand(3, 2)), TypeError, "must be an instance"),
        (lambda: sequence(snntorch.Leaky(0.9), torch.rand(0, 2)), ValueError, "inputs must be"),
        (lambda: sequence(snntorch.Leaky(0.9), torch.tensor(1.0)), ValueError, "inputs must be"),
        (lambda: sequence(snntorch.Leaky(0.9), [1.0]), ValueError, "inputs must be"),
        (lambda: sequence(snntorch.Leaky(0.9), torch.rand(3, 2), 0.0), ValueError, "mem must be"),
    ],
)
def test_what_is_refused(call, error, message: str) -> None:
    with pytest.raises(errors.NeuroparamError, match=message) as caught:
        call()
    assert isinstance(caught.value, error)
