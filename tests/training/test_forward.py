"""No silent failure: a parameter that gets no gradient is an error."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neuroparam import errors, make_fixed, make_trainable, neuron_parameters
from tests.support.inside import watched
from tests.support.modules import FromRecord, Pair
from tests.support.unreached import DropsGradient, Reads

INPUT = torch.ones(3)


class Output(NamedTuple):
    spikes: Tensor
    state: Any


@pytest.mark.parametrize(
    "use",
    [
        lambda module, x: x,
        lambda module, x: x * torch.as_tensor(module.rate).item(),
        lambda module, x: x * torch.as_tensor(module.rate).detach(),
        lambda module, x: x.detach() * torch.as_tensor(module.rate).detach(),
        lambda module, x: None,
        lambda module, x: 3.0,
        lambda module, x: (x * module.rate > 0).float(),
    ],
    ids=["unused", "as a number", "detached", "all detached", "none", "number", "no graph"],
)
def test_unreachable_raises_at_the_first_forward_with_gradients(use) -> None:
    module = make_trainable(nn.Sequential(Reads(use)), "rate")
    with torch.no_grad():
        module(INPUT)
    for _ in range(2):
        with pytest.raises(errors.NoGradientError, match=r"0\.rate") as caught:
            module(INPUT)
        assert caught.value.paths == ["0.rate"]
    make_fixed(module)
    module(INPUT)


@pytest.mark.parametrize(
    "use",
    [
        lambda module, x: x * module.rate,
        lambda module, x: {"a": [x.detach(), (x * module.rate,)]},
        lambda module, x: Output(x.detach(), Output(x * module.rate, None)),
        lambda module, x: setattr(module, "state", x * module.rate) or x.detach(),
        lambda module, x: checkpoint(lambda y: y * module.rate, x, use_reentrant=False),
        lambda module, x: checkpoint(lambda y: y * module.rate, x, use_reentrant=True),
    ],
    ids=["tensor", "nested", "named tuple", "kept as state", "checkpoint", "reentrant"],
)
def test_reachable_in_any_output(use) -> None:
    module = make_trainable(Reads(use), "rate")
    for _ in range(3):
        module(INPUT)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_forward_trains(reentrant: bool) -> None:
    module = make_trainable(
        Reads(lambda m, x: checkpoint(lambda y: y * m.rate, x, use_reentrant=reentrant)), "rate"
    )
    module(INPUT).sum().backward()
    torch.testing.assert_close(neuron_parameters(module)[0].grad, torch.tensor(1.5))


def test_a_gradient_that_comes_as_none_raises_at_the_next_forward() -> None:
    module = make_trainable(Reads(lambda m, x: DropsGradient.apply(x, m.rate)), "rate")
    module(INPUT)
    module(INPUT).sum().backward()
    assert module.weight.grad is not None
    module.zero_grad()
    with pytest.raises(errors.NoGradientError, match="custom autograd function") as caught:
        module(INPUT)
    assert caught.value.paths == ["rate"]


def test_once_mended_it_goes_on() -> None:
    module = make_trainable(Reads(lambda m, x: DropsGradient.apply(x, m.rate)), "rate")
    module(INPUT).sum().backward()
    with pytest.raises(errors.NoGradientError):
        module(INPUT)
    module(INPUT).sum().backward()
    with pytest.raises(errors.NoGradientError):
        module(INPUT)
    module.use = lambda m, x: x * m.rate
    for _ in range(3):
        module(INPUT).sum().backward()


def test_a_gradient_that_comes_by_another_way_is_enough() -> None:
    module = make_trainable(Reads(lambda m, x: DropsGradient.apply(x, m.rate) + m.rate), "rate")
    for _ in range(3):
        module(INPUT).sum().backward()
    torch.testing.assert_close(neuron_parameters(module)[0].grad, torch.tensor(3 * 3 * 0.5))


def test_a_backward_for_other_tensors_only_proves_nothing() -> None:
    module = make_trainable(Reads(), "rate")
    for _ in range(3):
        torch.autograd.grad(module(INPUT).sum(), module.weight)
        module(INPUT).sum().backward(inputs=[module.weight])
    assert neuron_parameters(module)[0].grad is None
    module(INPUT).sum().backward()
    assert neuron_parameters(module)[0].grad is not None


def test_a_frozen_parameter_needs_no_gradient() -> None:
    module = make_trainable(Reads(lambda m, x: x), "rate")
    (raw,) = neuron_parameters(module)
    raw.requires_grad_(False)
    module(INPUT).sum().backward()
    assert raw.grad is None


def test_silent_neurons_are_no_error() -> None:
    module = make_trainable(Reads(lambda m, x: (x * m.rate).clamp(max=0)), "rate")
    for _ in range(3):
        module(INPUT).sum().backward()
    assert neuron_parameters(module)[0].grad == 0


def test_what_is_attached_later_is_checked_too() -> None:
    module = make_trainable(FromRecord(Pair()), "tau")
    module(INPUT).sum().backward()
    module.unused = 1.0
    make_trainable(module, "unused")
    with pytest.raises(errors.NoGradientError, match="unused"):
        module(INPUT)


def test_a_copy_is_checked_by_itself() -> None:
    module = make_trainable(Reads(lambda m, x: DropsGradient.apply(x, m.rate)), "rate")
    module(INPUT)
    other = copy.deepcopy(module)
    module(INPUT).sum().backward()
    other(INPUT)
    with pytest.raises(errors.NoGradientError):
        module(INPUT)


def test_the_check_costs_nothing_once_it_has_passed() -> None:
    module = make_trainable(FromRecord(Pair()), "tau")
    for _ in range(2):
        module(INPUT).sum().backward()
    module(INPUT)
    state = watched(module)
    assert state.reachable
    assert state.unproven == []
