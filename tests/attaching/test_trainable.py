"""Attaching, for every way in which a value can be stored."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from neuroparam import ExpScaledLog, Softplus, errors, make_trainable, neuron_parameters, values
from tests.support.modules import (
    INPUT,
    STORAGES,
    Doubled,
    FromRecord,
    Nest,
    Pair,
    Stored,
    every_storage,
    of,
)


@every_storage
def test_attach_keeps_the_value_and_the_forward(build, name: str) -> None:
    plain, module = build(), build()
    before = torch.as_tensor(of(plain, name), dtype=torch.float32)
    assert make_trainable(module, {name: ExpScaledLog()}) is module
    assert list(values(module)) == [name]
    torch.testing.assert_close(of(module, name), before, rtol=1e-6, atol=0)
    torch.testing.assert_close(module(INPUT), plain(INPUT), rtol=1e-6, atol=0)


@every_storage
@pytest.mark.parametrize("training", [True, False])
def test_what_is_attached_is_in_the_mode_of_its_module(build, name: str, training: bool) -> None:
    """A map of the user's may do something else in training."""
    module = build().train(training)
    make_trainable(module, {name: ExpScaledLog().train(not training)})
    assert {part.training for part in module.modules()} == {training}
    module.train(not training)
    assert {part.training for part in module.modules()} == {not training}


@every_storage
def test_the_raw_parameter_is_found_and_trained(build, name: str) -> None:
    module = make_trainable(build(), {name: ExpScaledLog()})
    (raw,) = neuron_parameters(module)
    assert isinstance(raw, nn.Parameter)
    assert raw.requires_grad
    assert raw.is_leaf
    assert any(p is raw for p in module.parameters())
    before = of(module, name).detach().clone()
    optimizer = torch.optim.Adam([raw], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(INPUT).square().sum().backward()
        optimizer.step()
    assert (of(module, name) != before).all()


@every_storage
def test_gradient_equals_central_differences(build, name: str) -> None:
    module = make_trainable(build().double(), {name: Softplus(lower=0.5)}, init=3.0)
    module.double()
    x = INPUT.double()
    (raw,) = neuron_parameters(module)
    (gradient,) = torch.autograd.grad(module(x).square().sum(), raw)
    step = 1e-6
    for index in np.ndindex(tuple(raw.shape)):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                raw[index] += sign * step
                sides.append(module(x).square().sum())
                raw[index] -= sign * step
        central = (sides[0] - sides[1]) / (2 * step)
        torch.testing.assert_close(gradient[index], central, rtol=1e-6, atol=1e-9)


@every_storage
def test_one_value_per_neuron(build, name: str) -> None:
    module = make_trainable(build(), name, init=torch.tensor([2.0, 3.0, 4.0]))
    torch.testing.assert_close(of(module, name), torch.tensor([2.0, 3.0, 4.0]))
    module(INPUT).sum().backward()
    (raw,) = neuron_parameters(module)
    assert raw.grad.shape == (3,)


def test_attaching_copies_what_other_tensors_share() -> None:
    shared = torch.tensor(4.0)
    modules = [Stored(lambda m: setattr(m, "tau", nn.Parameter(shared))) for _ in range(3)]
    network = nn.Sequential(*modules)
    make_trainable(network, "1.tau")
    with torch.no_grad():
        neuron_parameters(network)[0].add_(1.0)
    assert shared == 4.0
    assert network[0].tau == 4.0
    assert network[2].tau == 4.0

    default = Pair(torch.tensor(4.0))
    layers = nn.Sequential(FromRecord(default), FromRecord(default))
    make_trainable(layers, "0.p.tau")
    layers[0].p.tau = 9.0
    assert default.tau == 4.0
    assert layers[1].p.tau == 4.0


def test_an_optimizer_built_before_goes_on_training_a_parameter() -> None:
    module = STORAGES["parameter"][0]()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    make_trainable(module, "tau")
    module(INPUT).square().sum().backward()
    optimizer.step()
    assert module.tau != 4.0


def test_names_several_at_once_and_in_steps() -> None:
    for names in (["tau", "gain"], ("tau", "gain"), {"tau": None, "gain": Softplus()}):
        assert list(values(make_trainable(FromRecord(Pair()), names))) == ["p.tau", "p.gain"]
    module = make_trainable(FromRecord(Nest(Pair())), "p.inner.tau")
    make_trainable(module, {"gain": Softplus()})
    make_trainable(module, "rho")
    assert sorted(values(module)) == ["p.inner.gain", "p.inner.tau", "p.rho"]
    assert torch.equal(module.p.rho, torch.tensor(3.0))


def test_the_same_module_in_two_places_is_one_place() -> None:
    one = FromRecord(Pair())
    twice = make_trainable(nn.Sequential(one, one), "tau")
    assert list(values(twice)) == ["0.p.tau"]
    with pytest.raises(errors.AmbiguousNameError):
        make_trainable(nn.Sequential(*[FromRecord(Pair())] * 2), ["0.p.tau", "1.p.tau"])


def test_an_exact_path_wins_over_an_ending() -> None:
    network = nn.Module()
    network.tau = 3.0
    network.lif = FromRecord(Pair())
    assert list(values(make_trainable(network, "tau"))) == ["tau"]


def test_one_instance_for_several_tensors_is_a_recipe() -> None:
    recipe = ExpScaledLog()
    module = make_trainable(FromRecord(Pair()), {"tau": recipe, "gain": recipe})
    references = [p[0].reference for p in module.p.parametrizations.values()]
    assert references == [4.0, 2.0]
    assert recipe.reference is None


def test_a_chain_is_applied_from_first_to_last() -> None:
    module = make_trainable(FromRecord(Pair()), {"tau": [ExpScaledLog(), Doubled()]})
    assert module.p.parametrizations["tau"][0].reference == 2.0
    torch.testing.assert_close(module.p.tau, torch.tensor(4.0))
    module.p.tau = 6.0
    torch.testing.assert_close(module.p.tau, torch.tensor(6.0))


def test_torch_sees_a_parametrization() -> None:
    module = make_trainable(STORAGES["number"][0](), "tau")
    assert parametrize.is_parametrized(module, "tau")
    assert isinstance(module, Stored)
    assert parametrize.type_before_parametrizations(module) is Stored
    assert list(module.state_dict()) == [
        "gain",
        "parametrizations.tau.original",
        "parametrizations.tau.0._extra_state",
    ]


def test_torchs_own_functions_on_an_attached_module_leave_others_alone() -> None:
    def build() -> nn.Module:
        module = STORAGES["number"][0]()
        module.weight = nn.Parameter(torch.ones(2, 2))
        return make_trainable(module, "tau")

    first, second = build(), build()
    assert type(first) is type(second)
    parametrize.register_parametrization(first, "weight", Doubled())
    assert torch.equal(first.weight, torch.ones(2, 2))
    first.weight = torch.full((2, 2), 3.0)
    assert torch.equal(second.weight, torch.ones(2, 2))
    second.weight = nn.Parameter(torch.zeros(2, 2))
    assert torch.equal(first.weight, torch.full((2, 2), 3.0))
    parametrize.remove_parametrizations(first, "weight")
    assert torch.equal(first.weight, torch.full((2, 2), 3.0))
    parametrize.remove_parametrizations(first, "tau")
    assert isinstance(first.tau, nn.Parameter)
    torch.testing.assert_close(first.tau.detach(), torch.tensor(4.0))
    torch.testing.assert_close(second.tau.detach(), torch.tensor(4.0))

    # and the other way round: ours beside one that is there already
    third = STORAGES["parameter"][0]()
    parametrize.register_parametrization(third, "gain", Doubled())
    make_trainable(third, "tau")
    torch.testing.assert_close(third.gain, torch.tensor(2.0))
    third(INPUT).sum().backward()
    assert third.parametrizations.gain.original.grad is not None


def test_all_unknown_names_are_reported_at_once() -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        make_trainable(FromRecord(Pair()), ["tua", "p.tau", "gian"])
    assert set(caught.value.missing) == {"tua", "gian"}
    assert "p.tau" in caught.value.available


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_warns(dtype: torch.dtype) -> None:
    module = STORAGES["parameter"][0]().to(dtype)
    with pytest.warns(UserWarning, match="'tau' is stored in"):
        make_trainable(module, "tau")
    assert module.tau.dtype == dtype


@pytest.mark.parametrize("name", ["parameter", "buffer", "number"])
def test_a_module_in_double_precision_gets_a_double_parameter(name: str) -> None:
    module = make_trainable(STORAGES[name][0]().double(), "tau", np.float32(3.0))
    assert module.tau.dtype == torch.float64


def test_a_record_field_named_like_a_method_of_tuple() -> None:
    odd = namedtuple("odd", ["count", "tau"])
    module = make_trainable(FromRecord(odd(2.0, 3.0)), "p.tau")
    assert module.p.count == 2.0
