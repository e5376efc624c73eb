"""Several places share one trainable value."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    Softplus,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    param_groups,
    summary,
    values,
)
from tests.support.modules import FromRecord, Pair, assert_unchanged, snapshot

DT = 1e-3


class Layers(nn.Module):
    """Leaky layers one after the other, each with a way of its own of storing its decay."""

    def __init__(self, *betas: Any):
        super().__init__()
        self.layers = nn.ModuleList(Leaky(beta) for beta in betas or (0.9, 0.9, 0.9))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Leaky(nn.Module):
    def __init__(self, beta: Any):
        super().__init__()
        if isinstance(beta, Tensor) and not isinstance(beta, nn.Parameter):
            self.register_buffer("beta", beta)
        else:
            self.beta = beta
        self.threshold = 1.0

    def forward(self, x: Tensor) -> Tensor:
        v, seen = torch.zeros_like(x[0]), []
        for step in x:
            v = self.beta * v + step
            seen.append(torch.sigmoid(v - self.threshold))
        return torch.stack(seen)


def x() -> Tensor:
    return torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0))


def stores() -> tuple[Any, ...]:
    """A number, a buffer and a Parameter, which store the same value."""
    return 0.9, torch.tensor(0.9), nn.Parameter(torch.tensor(0.9))


def test_one_raw_tensor_serves_all_and_gets_the_sum_of_the_gradients() -> None:
    net, apart = Layers(*stores()), Layers(*stores())
    make_trainable(net, "*.beta", tie=True)
    make_trainable(apart, "*.beta")
    (raw,) = neuron_parameters(net)
    assert len(list(net.parameters())) == 1
    assert list(values(net)) == [f"layers.{i}.beta" for i in range(3)]
    assert len(summary(net).splitlines()) == 4
    net(x()).sum().backward()
    apart(x()).sum().backward()
    total = sum(each.grad for each in neuron_parameters(apart))
    torch.testing.assert_close(raw.grad, total)
    assert [len(group["params"]) for group in param_groups(net, 1e-3)] == [1]
    torch.optim.Adam(neuron_parameters(net), lr=0.1).step()
    assert len({value.item() for value in values(net).values()}) == 1
    assert values(net)["layers.0.beta"] != pytest.approx(0.9, rel=1e-3)


def test_an_assignment_at_one_place_is_seen_at_all() -> None:
    net = make_trainable(Layers(*stores()), "*.beta", tie="*.beta")
    net.layers[1].beta = 0.5
    assert all(value.item() == pytest.approx(0.5) for value in values(net).values())


@pytest.mark.parametrize(
    ("tie", "count"),
    [
        (None, 6),
        (False, 6),
        (True, 2),
        ("*.beta", 4),
        (["*.beta", "*.threshold"], 2),
        ([("layers.0.beta", "layers.2.beta")], 5),
        (["*.beta", ("layers.0.threshold", "layers.1.threshold")], 3),
        (["*.thr*", "layers.[01].beta"], 3),  # the most specific name counts
        ("layers.[01].*", None),
    ],
    ids=repr,
)
def test_what_shares_a_value(tie: Any, count: int | None) -> None:
    net = Layers()
    before = snapshot(net)
    if count is None:  # decays and thresholds have other defaults
        with pytest.raises(errors.ParametrizationError, match=r"tied to 'layers.*would get"):
            make_trainable(net, ["*.beta", "*.threshold"], tie=tie)
        assert_unchanged(net, before)
        return
    make_trainable(net, ["*.beta", "*.threshold"], tie=tie)
    assert len(neuron_parameters(net)) == count


def test_a_random_start_is_drawn_once() -> None:
    torch.manual_seed(0)
    drawn = torch.distributions.Uniform(0.5, 0.95)
    net = make_trainable(Layers(), "*.beta", init=drawn, shape=(4,), tie=True)
    first, *others = values(net).values()
    assert all(torch.equal(first, other) for other in others)
    assert len(set(first.tolist())) == 4
    net(x()).sum().backward()
    (raw,) = neuron_parameters(net)
    assert raw.shape == (4,)
    assert (raw.grad != 0).all()


def test_one_time_constant_for_several_libraries() -> None:
    """The libraries store a decay, and numbers of steps; one of them integrates by Euler."""
    net = nn.ModuleList([snn.Leaky(beta=0.9), sl.LIF(tau_mem=10.0), neuron.LIFNode(tau=5.0)])
    recipe = {Quantity.TAU_MEM: BoundedSigmoid(2e-3, 0.1)}
    make_trainable(net, recipe, init=20e-3, dt=DT, tie=True)
    (raw,) = neuron_parameters(net)
    with torch.no_grad():
        raw += 0.7
    taus = values(net, Quantity.TAU_MEM)
    assert len(taus) == 3
    assert len({round(tau.item(), 9) for tau in taus.values()}) == 1
    assert net[2].tau.item() == pytest.approx(taus["2.tau"].item() / DT, rel=1e-6)


def test_a_map_that_one_library_needs_and_the_other_does_not_is_refused() -> None:
    net = nn.ModuleList([snn.Leaky(beta=0.9), norse.LIFCell()])
    before = snapshot(net)
    with pytest.raises(errors.ParametrizationError, match=r"Above.*BoundedSigmoid\(lower, upper\)"):
        make_trainable(net, Quantity.TAU_MEM, init=20e-3, dt=DT, tie=True)
    assert_unchanged(net, before)


@pytest.mark.parametrize(
    ("build", "keywords", "why"),
    [
        (lambda: Layers(0.9, 0.8), {}, "another value is stored: .*0.9.*0.8.*Give the value"),
        (lambda: Layers(0.999, 0.9995), {}, "another value is stored"),
        (lambda: Layers(torch.full((3,), 0.9), torch.full((4,), 0.9)), {}, r"shape is \(3,\)"),
        (
            lambda: Layers(torch.full((3,), 0.9), torch.full((4,), 0.9)),
            {"init": 0.5},
            r"shape is \(3,\)",
        ),
        (lambda: Layers(0.9, torch.tensor(0.9, dtype=torch.float64)), {}, "dtype is"),
        (lambda: Layers(), {"tie": ["layers.0.beta", "layers.1.beta"]}, r"tie=\[\("),
        (lambda: Layers(), {"tie": [("layers.0.beta",)]}, "must bring several places together"),
        (lambda: Layers(), {"tie": 3}, "must be a name"),
        (lambda: Layers(), {"tie": [()]}, "must be a name"),
        (lambda: Layers(), {"tie": [3]}, "must be a name"),
        (lambda: Layers(), {"tie": "*.tau"}, "tie speaks of"),
        (lambda: Layers(), {"tie": ["*.beta", "tau"]}, "tie speaks of"),
        (lambda: Layers(), {"shape": {"layers.0.*": 4}}, "shape.*give one for both"),
    ],
)
def test_what_cannot_share_a_value_is_refused(
    build: Callable[[], nn.Module], keywords: dict[str, Any], why: str
) -> None:
    net = build()
    before = snapshot(net)
    with pytest.raises((errors.NeuroparamError,), match=why):
        make_trainable(net, "*.beta", **({"tie": True} | keywords))
    assert_unchanged(net, before)


def test_other_starts_and_maps_for_the_names_of_one_tie_are_refused() -> None:
    net = Layers()
    names = ["layers.0.beta", "layers.1.beta"]
    before = snapshot(net)
    for keywords in (
        {"names": {names[0]: Softplus(), names[1]: ExpScaledLog()}},
        {"names": names, "init": {names[0]: 0.5, names[1]: 0.6}},
    ):
        with pytest.raises(errors.NeuroparamError, match=r"tied to 'layers\.0\.beta'"):
            make_trainable(net, **keywords, tie=[tuple(names)])
        assert_unchanged(net, before)
    make_trainable(net, names, init=dict.fromkeys(names, 0.5), tie=[tuple(names)])


# ------------------------------------------------------------------------- afterwards


def test_fixing_gives_each_place_the_value_as_it_was_stored() -> None:
    net = Layers(*stores())
    plain = net.layers[2].beta
    make_trainable(net, "*.beta", tie=True)
    net.layers[0].beta = 0.7
    make_fixed(net, "layers.1.beta")
    assert not net.layers[1].beta.requires_grad
    net.layers[0].beta = 0.6  # the others go on together
    assert values(net)["layers.2.beta"].item() == pytest.approx(0.6)
    make_fixed(net)
    assert net.layers[0].beta == pytest.approx(0.6)
    assert net.layers[1].beta.item() == pytest.approx(0.7)
    assert net.layers[2].beta is plain
    assert plain.item() == pytest.approx(0.6)


def test_a_parameter_in_several_places_is_one_again_afterwards() -> None:
    tied = nn.Parameter(torch.tensor(4.0))
    cells = nn.Sequential(FromRecord(Pair(tied)), FromRecord(Pair(tied, 3.0)))
    with pytest.raises(errors.NotTrainableError, match="tie="):
        make_trainable(cells, "*.tau")
    with pytest.raises(errors.NotTrainableError, match="tie="):
        make_trainable(cells, "0.p.tau", tie=True)  # the other one would be left behind
    make_trainable(cells, "*.tau", tie=True)
    cells[0].p.tau = 5.0
    make_fixed(cells)
    assert cells[0].p.tau is cells[1].p.tau is tied
    assert tied.item() == 5.0


def test_an_optimizer_that_was_built_before_is_refused() -> None:
    net = Layers(*stores())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    make_trainable(net, "*.beta", tie=True)
    net(x()).sum().backward()
    with pytest.raises(errors.OptimizerError, match="Build the optimizer anew"):
        optimizer.step()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_stay_tied_and_fix_on_their_own(copied: Callable[[Any], Any]) -> None:
    net = make_trainable(Layers(*stores()), "*.beta", tie=True)
    other = copied(net)
    assert len(neuron_parameters(other)) == 1
    other.layers[0].beta = 0.4
    assert {round(v.item(), 5) for v in values(other).values()} == {0.4}
    assert {round(v.item(), 5) for v in values(net).values()} == {0.9}
    make_fixed(other)
    assert other.layers[2].beta.item() == pytest.approx(0.4)
    assert net.layers[2].beta.item() == pytest.approx(0.9)


def test_a_state_dict_holds_it_at_each_place_and_loads() -> None:
    net = make_trainable(Layers(*stores()), "*.beta", tie=True)
    net.layers[0].beta = 0.7
    other = make_trainable(Layers(*stores()), "*.beta", tie=True)
    other.load_state_dict(net.state_dict())
    assert {round(v.item(), 5) for v in values(other).values()} == {0.7}
    assert len(neuron_parameters(other)) == 1


def test_a_change_of_precision_keeps_the_tie() -> None:
    net = make_trainable(Layers(*stores()), "*.beta", tie=True).double()
    assert len(neuron_parameters(net)) == 1
    make_fixed(net)
    assert net.layers[2].beta.dtype == torch.float64


def test_without_a_gradient_at_one_place_the_shared_value_still_trains() -> None:
    net = make_trainable(Layers(), "*.beta", tie=True)
    (raw,) = neuron_parameters(net)
    optimizer = torch.optim.SGD([raw], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        net.layers[0](x()).sum().backward()
        optimizer.step()
    assert raw.grad is not None


def test_true_with_names_of_one_place_each_is_refused() -> None:
    names = ["layers.0.beta", "layers.1.beta"]
    with pytest.raises(errors.InvalidArgumentError, match="must bring several places together"):
        make_trainable(Layers(), names, tie=True)
    make_trainable(Layers(), [*names, "*.threshold"], tie=True)
