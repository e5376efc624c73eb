"""The adjoint of Norse's layers: forward bit for bit, gradients to rounding."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuroparam.adjoint import use_adjoint
from tests.adjoint.layers import (
    NEURONS,
    PARAMETERS,
    SURROGATES,
    Case,
    layer_of,
    leaves,
    loss_of,
    outcome,
    relative_error,
    state_of,
    worst_error,
)

lean = functools.partial(use_adjoint, lean=True)
every_way = pytest.mark.parametrize("change", [use_adjoint, lean], ids=["full", "lean"])
every_layer = pytest.mark.parametrize("recurrent", [True, False], ids=["recurrent", "feed forward"])
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def assert_same(case: Case, change, frozen=(), tolerance: float | None = None) -> None:
    expected, found = outcome(case, frozen=frozen), outcome(case, change, frozen)
    for mine, norse in zip(found.outputs, expected.outputs, strict=True):
        assert mine.dtype == norse.dtype
        assert torch.equal(mine, norse)
    assert worst_error(found, expected) <= (tolerance or TOLERANCE[case.dtype])


@every_way
@every_layer
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("per_neuron", [True, False], ids=["per neuron", "scalar"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_all_gradients_are_those_of_autograd(
    change, recurrent: bool, surrogate: str, per_neuron: bool, dtype: torch.dtype
) -> None:
    case = Case(recurrent, dtype, per_neuron, surrogate)
    spikes = outcome(case).outputs[0]
    assert 0.05 < spikes.mean() < 0.95  # neither silent nor saturated
    assert_same(case, change)


@every_way
@every_layer
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no state"])
@pytest.mark.parametrize("batch", [(3,), (), (0,), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_every_shape(change, recurrent, with_state, batch, steps, dtype) -> None:
    case = Case(recurrent, dtype, with_state=with_state, batch=batch, steps=steps)
    # Without a state v_leak is one number, and its gradient a small difference of large terms.
    assert_same(case, change, tolerance=1e-4 if dtype == torch.float32 else None)


@every_layer
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_any_size_and_any_frozen_inputs(recurrent: bool, data) -> None:
    case = Case(
        recurrent,
        per_neuron=data.draw(st.booleans()),
        surrogate=data.draw(st.sampled_from(sorted(SURROGATES))),
        steps=data.draw(st.integers(1, 30)),
        batch=tuple(data.draw(st.lists(st.integers(0, 4), max_size=2))),
        with_state=data.draw(st.booleans()),
        neurons=data.draw(st.integers(1, 9)),
        threshold=data.draw(st.floats(0.01, 3.0)),
    )
    frozen = data.draw(st.sets(st.sampled_from(case.names), max_size=len(case.names) - 1))
    change = data.draw(st.sampled_from([use_adjoint, lean]))
    assert_same(case, change, frozen)


@every_way
@every_layer
def test_finite_differences_below_threshold(change, recurrent: bool) -> None:
    # no neuron fires, so that the dynamics are smooth; resets are tested by autograd above
    case = Case(recurrent, threshold=1e9)
    given = leaves(case)

    def loss(**changed: Tensor) -> Tensor:
        all_given = {**given, **changed}
        layer = change(layer_of(case, all_given))
        spikes, state = layer(all_given["x"], state_of(case, all_given))
        assert not spikes.any()
        return loss_of((state.v, state.i))

    gradients = torch.autograd.grad(loss(), list(given.values()), allow_unused=True)
    for (name, leaf), gradient in zip(given.items(), gradients, strict=True):
        if name in ("v_th", "v_reset"):
            assert gradient is None or relative_error(gradient, torch.zeros_like(leaf)) < 1e-9
            continue
        generator = torch.Generator().manual_seed(3)
        direction = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        step = 1e-6 * max(1.0, leaf.detach().abs().max().item())
        with torch.enable_grad():
            up, down = (
                loss(**{name: (leaf + sign * step * direction).detach().requires_grad_()}).item()
                for sign in (1, -1)
            )
        assert (gradient * direction).sum().item() == pytest.approx(
            (up - down) / (2 * step), rel=1e-6, abs=1e-7
        ), name


@every_way
@every_layer
def test_an_input_that_is_not_contiguous_or_expanded(change, recurrent: bool) -> None:
    case = Case(recurrent, steps=6)

    def run(turn, view) -> tuple[Tensor, ...]:
        given = leaves(case)
        base = given["x"].detach()
        base = base.transpose(0, 1).contiguous() if view == "transposed" else base[:1]
        base.requires_grad_()
        x = base.transpose(0, 1) if view == "transposed" else base.expand(6, *base.shape[1:])
        spikes, state = turn(layer_of(case, given))(x, state_of(case, given))
        loss_of((spikes, state.v, state.i)).backward()
        return spikes, base.grad, *(given[name].grad for name in case.names if name != "x")

    for view in ("transposed", "expanded"):
        for mine, norse in zip(run(change, view), run(lambda layer: layer, view), strict=True):
            assert relative_error(mine, norse) < 1e-12


@every_way
@every_layer
def test_nan_in_the_input_goes_where_norse_lets_it_go(change, recurrent: bool) -> None:
    case = Case(recurrent, steps=8)

    def run(turn) -> list[Tensor]:
        given = leaves(case)
        with torch.no_grad():
            given["x"][3, 1, 2] = float("nan")
        spikes, state = turn(layer_of(case, given))(given["x"], state_of(case, given))
        outputs = (spikes, state.v, state.i)
        loss_of(outputs).backward()
        return [*outputs, *(given[name].grad for name in case.names)]

    for mine, norse in zip(run(change), run(lambda layer: layer), strict=True):
        torch.testing.assert_close(mine, norse, equal_nan=True, rtol=1e-9, atol=1e-9)


@every_layer
def test_the_backward_of_a_loss_on_one_output_alone(recurrent: bool) -> None:
    case = Case(recurrent, steps=5)
    for index in range(3):
        results = []
        for turn in (lambda layer: layer, use_adjoint):
            given = leaves(case)
            spikes, state = turn(layer_of(case, given))(given["x"], state_of(case, given))
            loss_of(((spikes, state.v, state.i)[index],)).backward()
            results.append([given[name].grad for name in case.names])
        for norse, mine in zip(*results, strict=True):
            if norse is None:
                assert mine is None or not mine.any()
            else:
                assert relative_error(mine, norse) < 1e-12


def test_sequences_chained_by_their_states() -> None:
    case = Case(steps=20)

    def run(turn) -> list[Tensor]:
        given = leaves(case)
        layer, state = turn(layer_of(case, given)), state_of(case, given)
        outputs = []
        for part in given["x"].split(7):
            spikes, state = layer(part, state)
            outputs.append(spikes)
        loss_of((torch.cat(outputs), *state)).backward()
        return [torch.cat(outputs), *state, *(given[name].grad for name in case.names)]

    for mine, norse in zip(run(use_adjoint), run(lambda layer: layer), strict=True):
        assert relative_error(mine, norse) < 1e-12


def test_float64_layers_start_from_norses_float32_states() -> None:
    # v_leak - v is computed in float32 in the first step, and the rest in float64
    case = Case(with_state=False)
    found = outcome(case, use_adjoint)
    assert found.outputs[0].dtype == torch.float64
    assert torch.equal(found.outputs[1], outcome(case).outputs[1])


@pytest.mark.parametrize("frozen", [*PARAMETERS, "x", "input_weights", "recurrent_weights"])
def test_nothing_is_computed_for_a_frozen_input(frozen: str) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    def operations(without: tuple[str, ...]) -> int:
        case = Case(steps=10, neurons=NEURONS)
        given = leaves(case, without)
        spikes, _ = use_adjoint(layer_of(case, given))(given["x"], state_of(case, given))
        with Counting() as counting:
            spikes.sum().backward()
        return counting.count

    assert operations((frozen,)) < operations(())
