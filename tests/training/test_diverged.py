"""A step that leaves raw values inf or NaN raises, and says where and what to do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from neuroparam import errors, make_fixed, make_trainable, neuron_parameters
from tests.support.inside import attached
from tests.support.modules import STORAGES, FromRecord, Pair, assert_unchanged, snapshot
from tests.support.subjects import PLAIN, network


def module() -> nn.Module:
    return make_trainable(FromRecord(Pair()), ["p.tau", "p.gain"], shape={"p.tau": (3,)})


def diverge(module: nn.Module, number: float) -> None:
    """One step with a gradient of inf or NaN in the second of three entries."""
    raw, other = neuron_parameters(module)
    raw.grad, other.grad = torch.tensor([0.0, number, 0.0]), torch.zeros_like(other)
    torch.optim.SGD([raw, other], lr=0.1).step()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "of",
    [lambda made: made, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))],
    ids=["itself", "copied", "unpickled"],
)
def test_the_step_raises(of, number: float) -> None:
    with pytest.raises(errors.NonFiniteError, match=r"after a step of SGD with lr=0\.1") as caught:
        diverge(of(module()), number)
    assert caught.value.paths == ["p.tau"]
    assert "p.tau: 1 of 3" in str(caught.value)
    assert "clip_grad_norm_" in str(caught.value)
    assert "checkpoint" in str(caught.value)


def test_clipping_an_infinite_norm_makes_it_nan() -> None:
    made = module()
    raws = neuron_parameters(made)
    for raw in raws:
        raw.grad = torch.full_like(raw, float("inf"))
    nn.utils.clip_grad_norm_(raws, 1.0)
    with pytest.raises(errors.NonFiniteError, match="gain"):
        torch.optim.Adam(raws).step()


def test_a_learning_rate_that_overflows() -> None:
    made = module()
    raws = neuron_parameters(made)
    for raw in raws:
        raw.grad = torch.full_like(raw, 1e35)
    with pytest.raises(errors.NonFiniteError, match=r"lr=1e\+08"):
        torch.optim.SGD(raws, lr=1e8).step()


def test_weights_alone_are_no_business_of_ours() -> None:
    net = network(PLAIN)
    weights = list(net.linear.parameters())
    for weight in weights:
        weight.grad = torch.full_like(weight, float("nan"))
    torch.optim.SGD(weights, lr=0.1).step()
    assert all(weight.isnan().all() for weight in weights)


def test_neither_is_what_has_been_fixed() -> None:
    made = make_trainable(STORAGES["parameter"][0](), "tau")
    (a,) = attached(made)  # which keeps the parametrization alive
    tau = make_fixed(made).tau
    assert tau is a.parameter.raw
    tau.grad = torch.full_like(tau, float("nan"))
    torch.optim.SGD([tau], lr=0.1).step()
    assert tau.isnan()


def test_a_step_that_a_grad_scaler_leaves_out_is_none() -> None:
    made = module()
    raws = neuron_parameters(made)
    before = [raw.detach().clone() for raw in raws]
    for fused in (False, True):
        scaler = torch.amp.GradScaler("cpu")
        optimizer = torch.optim.Adam(raws, fused=fused)
        loss = scaler.scale(sum((raw * float("inf")).sum() for raw in raws))
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
        scaler.step(optimizer)
        scaler.update()
        assert all(torch.equal(raw, old) for raw, old in zip(raws, before, strict=True))


def test_make_fixed_does_not_hand_a_lost_value_on() -> None:
    made = module()
    neuron_parameters(made)[0].data[0] = float("inf")  # by hand: no step of an optimizer saw it
    before = snapshot(made)
    with pytest.raises(errors.NonFiniteError, match=r"at make_fixed, .*\n +p\.tau: 1 of 3"):
        make_fixed(made)
    assert_unchanged(made, before)
