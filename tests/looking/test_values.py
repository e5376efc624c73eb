"""The present values of a module, as copies or with their graph."""

from __future__ import annotations

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from neuroparam import (
    ExpScaledLog,
    Quantity,
    errors,
    make_trainable,
    neuron_parameters,
    summary,
    values,
)
from tests.support.network import two_values


def test_values_are_copies() -> None:
    network = two_values()
    present = values(network)
    assert list(present) == ["1.p.tau", "1.p.gain"]
    assert not present["1.p.tau"].requires_grad
    present["1.p.tau"].zero_()
    torch.testing.assert_close(network[1].p.tau.detach(), torch.tensor([2.0, 4.0, 60.0]))
    assert values(nn.Linear(2, 2)) == {}


def test_values_with_their_graph_are_a_prior_of_one_line() -> None:
    net = nn.Sequential(snn.Leaky(beta=0.9), snn.Leaky(beta=0.8))
    make_trainable(net[0], Quantity.TAU_MEM, dt=1e-3)  # as a quantity
    make_trainable(net, "1.beta")  # and by its path
    for each in (values(net, Quantity.TAU_MEM, dt=1e-3, detach=False), values(net, detach=False)):
        assert all(value.requires_grad for value in each.values())
    for raw in neuron_parameters(net):
        raw.grad = None
    expected = values(net, Quantity.TAU_MEM, dt=1e-3)
    found = values(net, Quantity.TAU_MEM, dt=1e-3, detach=False)
    torch.testing.assert_close({p: v.detach() for p, v in found.items()}, expected)
    sum(((tau / 0.02).log().square() for tau in found.values()), torch.zeros(())).backward()
    for raw, tau in zip(neuron_parameters(net), expected.values(), strict=True):
        # tau is below 20 ms in both, and both values grow with raw.
        assert tau < 0.02
        assert raw.grad is not None
        assert raw.grad < 0


def test_a_prior_on_nothing_is_warned_of() -> None:
    net = make_trainable(nn.Sequential(snn.Leaky(beta=0.9)), "0.threshold")
    with pytest.warns(errors.MisuseWarning, match="Sequential has no value of Quantity.TAU_MEM"):
        assert values(net, Quantity.TAU_MEM, detach=False) == {}
    assert values(net, Quantity.TAU_MEM) == {}


def test_the_gradient_of_a_time_constant_agrees_with_finite_differences() -> None:
    leaky = make_trainable(snn.Leaky(beta=0.9).double(), "beta")
    (raw,) = neuron_parameters(leaky)

    def seconds() -> Tensor:
        return values(leaky, Quantity.TAU_MEM, dt=1e-3, detach=False)["beta"]

    (gradient,) = torch.autograd.grad(seconds(), raw)
    losses = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            raw += step
        losses.append(seconds().item())
    assert gradient.item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6)


def test_a_decay_that_a_map_let_pass_one_is_nan_in_seconds_and_the_table_still_prints() -> None:
    leaky = make_trainable(snn.Leaky(beta=0.9), {"beta": ExpScaledLog()})
    leaky.beta = 1.5
    assert values(leaky, Quantity.TAU_MEM, dt=1e-3)["beta"].isnan()
    assert "nan ms" in summary(leaky, dt=1e-3)
