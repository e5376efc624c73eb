"""No silent failure: a parameter that gets no gradient is an error."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neuroparam import errors, make_trainable, neuron_parameters
from tests.support.modules import FromRecord, Pair
from tests.support.unreached import DropsGradient, Reads

INPUT = torch.ones(3)


@dataclass
class Fields:
    spikes: Tensor


class Own:
    def __init__(self, spikes: Tensor):
        self.spikes = spikes


class Output(NamedTuple):
    spikes: Tensor
    state: Any


@pytest.mark.parametrize(
    "output",
    [
        lambda module, x: x,
        lambda module, x: {"a": [x.detach(), (x,)]},
        lambda module, x: Output(x.detach(), Output(x, None)),
        lambda module, x: Fields(x),
        lambda module, x: torch.distributions.Normal(x, 1.0),
        lambda module, x: torch.distributions.Independent(torch.distributions.Normal(x, 1.0), 1),
        lambda module, x: Own(x),
    ],
    ids=["tensor", "nested", "named tuple", "dataclass", "distribution", "independent", "a class"],
)
def test_outputs_of_any_kind_are_watched(output) -> None:
    """Of a value that is read and detached, when a gradient comes to what it could have moved."""
    seen = []

    def use(module: nn.Module, x: Tensor) -> Any:
        seen.append(x * torch.as_tensor(module.rate).detach())
        return output(module, seen[-1])

    module = make_trainable(Reads(use), "rate")
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)

    def step() -> None:
        module(INPUT)
        seen[-1].sum().backward()
        optimizer.step()

    step()
    step()
    with pytest.raises(errors.NoGradientError, match="rate"):
        step()


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
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)

    def train() -> None:
        for _ in range(10):
            module(INPUT).sum().backward()
            optimizer.step()

    with pytest.warns(errors.NoGradientWarning, match="  unused\n"):
        train()


def test_a_copy_is_checked_by_itself() -> None:
    module = make_trainable(Reads(lambda m, x: DropsGradient.apply(x, m.rate)), "rate")
    module(INPUT)
    other = copy.deepcopy(module)
    module(INPUT).sum().backward()
    other(INPUT)
    with pytest.raises(errors.NoGradientError):
        module(INPUT)


def test_once_a_gradient_has_come_nothing_is_watched() -> None:
    module = make_trainable(FromRecord(Pair()), "tau")
    module(INPUT).sum().backward()
    assert not module(INPUT)._backward_hooks


def test_a_value_that_is_proven_stays_so_in_copies() -> None:
    module = make_trainable(FromRecord(Pair()), "tau")
    module(INPUT).sum().backward()
    assert not copy.deepcopy(module)(INPUT)._backward_hooks
