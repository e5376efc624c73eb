"""Raw tensors that are copied to another network mean the same there, or it is said."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Cauchy, Distribution, LogNormal, Uniform
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    Softplus,
    errors,
    make_trainable,
    values,
)
from tests.support.inside import fingerprint
from tests.support.modules import INPUT


class Leaky(nn.Module):
    def __init__(self, tau: Any = 20.0):
        super().__init__()
        self.tau = tau

    def forward(self, x: Tensor) -> Tensor:
        return x / self.tau


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            mine.copy_(theirs)


def through_a_vector(source: nn.Module, target: nn.Module) -> None:
    vector_to_parameters(parameters_to_vector(source.parameters()), target.parameters())


COPIES = [copy_parameters, through_a_vector]
each_copy = pytest.mark.parametrize("copied", COPIES)

RANDOM: dict[str, Any] = {
    "a function": lambda shape: 5 + 40 * torch.rand(shape),
    "a distribution": LogNormal(math.log(20.0), 0.3),
    "another": Uniform(5.0, 45.0),
    "without a mean": torch.distributions.TransformedDistribution(
        Uniform(1.0, 2.0), [torch.distributions.transforms.ExpTransform()]
    ),
}


@each_copy
@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize(
    "chain", [ExpScaledLog(), Softplus(), [BoundedSigmoid(-9.0, 9.0), ExpScaledLog()]]
)
def test_networks_of_the_same_code_have_the_same_constants(
    copied: Callable[..., None], kind: str, chain: Any
) -> None:
    def build() -> nn.Module:
        return make_trainable(Leaky(), {"tau": chain}, init=RANDOM[kind], shape=(3,))

    source, target = build(), build()
    assert not torch.equal(values(source)["tau"], values(target)["tau"])
    copied(source, target)
    assert torch.equal(values(source)["tau"], values(target)["tau"])


@each_copy
def test_so_have_networks_attached_by_a_quantity(copied: Callable[..., None]) -> None:
    snn = pytest.importorskip("snntorch")

    def build(init: Any) -> nn.Module:
        net = nn.Sequential(snn.Leaky(beta=0.9), snn.Leaky(beta=0.8))
        return make_trainable(net, Quantity.TAU_MEM, init=init, shape=(3,), dt=1e-3)

    for init in (Uniform(5e-3, 20e-3), lambda shape: 5e-3 + 15e-3 * torch.rand(shape)):
        source, target = build(init), build(init)
        copied(source, target)
        for path, value in values(source).items():
            assert torch.equal(values(target)[path], value), path


@pytest.mark.parametrize(
    ("init", "present", "reference"),
    [
        (Uniform(10.0, 30.0), 5.0, 20.0),  # the mean
        (Cauchy(10.0, 1e-3), 5.0, 5.0),  # which is none here
        (lambda shape: torch.full(shape, 7.0), 5.0, 5.0),
        (lambda shape: torch.full(shape, 7.0), 0.0, 7.0),  # the present value has no logarithm
        (7.0, 5.0, 7.0),
        ([7.0, 7.0], 5.0, 7.0),
    ],
)
def test_what_constants_are_fitted_to(init: Any, present: float, reference: float) -> None:
    maps = {"tau": ExpScaledLog()}
    if isinstance(init, Cauchy):
        with pytest.raises(errors.InvalidArgumentError, match="leaves the domain"):
            make_trainable(Leaky(present), maps, init=init, shape=(2,))
        init = lambda shape, drawn=init: drawn.sample(shape)  # noqa: E731
    module = make_trainable(Leaky(present), maps, init=init, shape=(2,))
    assert module.parametrizations.tau[0].reference == pytest.approx(reference)
    if not isinstance(init, Distribution):
        wanted = init(torch.Size([2])) if callable(init) else torch.tensor(init)
        torch.testing.assert_close(module.tau.detach(), wanted.expand(2), rtol=1e-2, atol=0.0)


def drawn() -> nn.Module:
    """Its constants are fitted to what its own constructor has drawn."""
    return make_trainable(Leaky(5 + 40 * torch.rand(3)), "tau")


@each_copy
@pytest.mark.parametrize("read", [values, lambda net: net(INPUT), lambda net: net.tau])
def test_raw_numbers_under_other_constants_are_said(
    copied: Callable[..., None], read: Callable[[nn.Module], object]
) -> None:
    source, target = drawn(), drawn()
    read(target)
    copied(source, target)
    with pytest.warns(UserWarning, match=r"'tau' are a copy .* load_state_dict"):
        read(target)
    target.load_state_dict(source.state_dict())
    copied(source, target)
    read(target)
    assert torch.equal(values(source)["tau"], values(target)["tau"])


@each_copy
def test_so_is_a_single_number(copied: Callable[..., None]) -> None:
    source, target = (make_trainable(Leaky(tau), "tau") for tau in (20.0, 30.0))
    source(INPUT).sum().backward()
    source.tau = 21.0
    copied(source, target)
    with pytest.warns(UserWarning, match=r"reference=20\) there, .*reference=30\) here"):
        values(target)


def test_the_fingerprint_differs_where_all_raw_numbers_have_the_mean_0() -> None:
    raws = [torch.tensor(raw) for raw in ([1.0, -1.0], [2.0, -2.0], [-1.0, 1.0], [0.0, 0.0])]
    assert len({fingerprint(raw) for raw in raws}) == 4


def test_functional_call_with_the_parameters_of_another_network_is_said() -> None:
    source, target = drawn(), drawn()
    with pytest.warns(UserWarning, match="are a copy"):
        torch.func.functional_call(target, dict(source.named_parameters()), INPUT)


def test_nothing_is_said_of_networks_that_train_side_by_side() -> None:
    profile = torch.tensor([1.0, 2.0, 4.0])
    networks = [make_trainable(Leaky(scale * profile), "tau") for scale in (1.0, 2.0, 4.0)]
    networks += [make_trainable(Leaky(tau), "tau") for tau in (10.0, 20.0, 40.0)]
    raws = [net.parametrizations.tau.original for net in networks]
    assert torch.equal(raws[0], raws[1])  # from the start, which is no copy
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for optimizer in (
            torch.optim.SGD(raws, lr=0.0),
            torch.optim.Adam(raws, lr=0.01),
            torch.optim.AdamW(raws, lr=0.01, weight_decay=0.1),
        ):
            for _ in range(3):
                optimizer.zero_grad()
                for net in networks:
                    net(INPUT).square().sum().backward()
                optimizer.step()
        for net in networks:
            net.tau = 3.0
            values(net)
            with torch.no_grad():
                net.parametrizations.tau.original.zero_()  # back to the reference
            values(net)
            values(copy.deepcopy(net))


def test_networks_of_other_kinds_may_have_equal_raw_numbers() -> None:
    class Other(Leaky):
        pass

    source, target = drawn(), make_trainable(Other(5 + 40 * torch.rand(3)), "tau")
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            mine.copy_(theirs)
    assert values(target)["tau"].isfinite().all()
