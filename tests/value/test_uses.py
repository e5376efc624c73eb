"""A forward that bounds a value once more is found, once, and a parametrization is proposed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import snntorch
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from neuroparam import BoundedSigmoid, ExpScaledLog, Softplus, errors, make_trainable

X = torch.rand(4, 3)
LOW, HIGH = torch.tensor(0.82), torch.tensor([0.96, 0.97, 0.98])


class Layer(nn.Module):
    def __init__(self, use: Callable[[Tensor], Tensor]):
        super().__init__()
        self.decay = nn.Parameter(torch.full((3,), 0.9))
        self.linear = nn.Linear(3, 3)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        h, v = self.linear(x), torch.zeros_like(x)
        for _ in range(3):
            v = self.use(self.decay) * v + h
        return v


def said(net: nn.Module, times: int = 3) -> list[str]:
    """What is said in some steps of training."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(times):
            net(X).sum().backward()
    assert all(issubclass(w.category, errors.MisuseWarning) for w in seen)
    assert all(w.filename == __file__ for w in seen)
    return [str(w.message) for w in seen]


@pytest.mark.parametrize(
    ("use", "proposed"),
    [
        (lambda d: d.clamp(0.82, 0.96), "BoundedSigmoid(0.82, 0.96)"),
        (lambda d: torch.clip(d, 0.82, 0.96), "BoundedSigmoid(0.82, 0.96)"),
        (lambda d: functional.hardtanh(d, 0.82, 0.96), "BoundedSigmoid(0.82, 0.96)"),
        (lambda d: d.clamp(min=0.82), "Softplus(lower=0.82)"),
        (lambda d: torch.clamp_min(d, 0.82), "Softplus(lower=0.82)"),
        (lambda d: d.clamp(max=0.96), "BoundedSigmoid(0, 0.96)"),
        (lambda d: torch.clamp_max(d, 0.96), "BoundedSigmoid(0, 0.96)"),
        (lambda d: d.view(1, 3).clamp(0.82, 0.96), "BoundedSigmoid(0.82, 0.96)"),
        (lambda d: d[None].expand(4, 3).clamp(0.82, 0.96), "BoundedSigmoid(0.82, 0.96)"),
        (lambda d: d.double().clamp(0.82, 0.96).float(), "BoundedSigmoid(0.82, 0.96)"),
    ],
)
def test_a_clamp_is_said_once_with_a_parametrization_that_stays_inside(use, proposed: str) -> None:
    net = make_trainable(nn.Sequential(Layer(use)), {"0.decay": ExpScaledLog()})
    (message,) = said(net)
    assert message.startswith("'0.decay': the forward of its module clamps it to [")
    assert proposed in message
    inside = eval(proposed, {"BoundedSigmoid": BoundedSigmoid, "Softplus": Softplus})
    assert said(make_trainable(Layer(use), {"decay": inside})) == []


@pytest.mark.skipif(torch.__version__ < "2.7", reason="tells nothing of saved tensors")
@pytest.mark.parametrize(
    ("use", "proposed"),
    [
        (lambda d: torch.clamp(d, LOW, HIGH), "BoundedSigmoid(0.82, 0.96)"),
        (lambda d: torch.maximum(d, LOW), "Softplus(lower=0.82)"),
        (lambda d: torch.maximum(LOW, d), "Softplus(lower=0.82)"),
        (lambda d: torch.minimum(d, HIGH), "BoundedSigmoid(0, 0.96)"),
        (lambda d: torch.max(d, LOW), "Softplus(lower=0.82)"),
    ],
)
def test_a_bound_may_be_a_tensor(use, proposed: str) -> None:
    (message,) = said(make_trainable(Layer(use), {"decay": ExpScaledLog()}))
    assert proposed in message


@pytest.mark.parametrize(
    "use",
    [
        lambda d: d,
        lambda d: d.clamp(min=0.0),
        lambda d: d.relu(),
        lambda d: torch.exp(-d),
        lambda d: 1 - torch.exp(-1 / d),
        lambda d: (d * 2).clamp(0.1, 0.2),
        lambda d: torch.clamp(torch.zeros(3), max=d),
        lambda d: torch.maximum(d, d * 2),
        lambda d: d.square(),
    ],
)
def test_other_uses_say_nothing(use) -> None:
    assert said(make_trainable(Layer(use), {"decay": ExpScaledLog()})) == []


def test_a_map_that_states_no_domain_may_stay_inside() -> None:
    class Grid(nn.Module):
        def forward(self, value: Tensor) -> Tensor:
            return value + ((value * 4096).round() / 4096 - value).detach()

        def right_inverse(self, value: Tensor) -> Tensor:
            return value

    chain = [BoundedSigmoid(0.0, 1.0), Grid()]
    assert said(make_trainable(Layer(lambda d: d.clamp(0, 1)), {"decay": chain})) == []


def test_snntorch_clamps_its_decay_to_the_domain_of_its_parametrization() -> None:
    for parametrization, times in ((BoundedSigmoid(0.0, 1.0), 0), (Softplus(), 1)):
        net = make_trainable(snntorch.Leaky(beta=0.9, init_hidden=True), {"beta": parametrization})
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(3):
                net.reset_mem()
                torch.stack([net(x) for x in X]).sum().backward()
        assert len(seen) == times


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (torch.sigmoid, "sigmoid"),
        (torch.exp, "exp"),
        (functional.softplus, "softplus"),
        (torch.tanh, "tanh"),
    ],
)
def test_a_second_map_is_said_once(use, name: str) -> None:
    (message,) = said(make_trainable(nn.Sequential(Layer(use)), {"*.decay": ExpScaledLog()}))
    assert message.startswith(f"'0.decay': the forward of its module maps it by {name}")


def test_activation_checkpointing_computes_no_region_again_for_the_look() -> None:
    computed = 0

    def region(decay: Tensor) -> Tensor:
        nonlocal computed
        computed += 1
        return torch.clamp(decay, LOW, HIGH)

    net = Layer(lambda d: checkpoint(region, d, use_reentrant=False))
    make_trainable(net, {"decay": ExpScaledLog()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.MisuseWarning)
        net(X)
    assert computed == 3  # once for each time step
