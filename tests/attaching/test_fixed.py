"""make_fixed gives the plain module back, trained values inside."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from neuroparam import (
    ExpScaledLog,
    Softplus,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.support.modules import (
    INPUT,
    STORAGES,
    FromRecord,
    FrozenData,
    Nest,
    Pair,
    assert_unchanged,
    every_storage,
    of,
    snapshot,
)


def kinds(module: nn.Module) -> dict[str, object]:
    """What a user can tell of a module's build, without the numbers."""
    described: dict[str, object] = {}
    for name, part in module.named_modules():
        described[name] = type(part)
        for key, value in part.__dict__.items():
            if isinstance(value, (dict, set)):
                described[f"{name}.{key}"] = list(value)
            elif isinstance(value, tuple):
                described[f"{name}.{key}"] = type(value), [type(v) for v in value]
            else:
                described[f"{name}.{key}"] = type(value)
        for key, parameter in part.named_parameters(recurse=False):
            described[f"{name}.{key}"] = parameter.requires_grad
    return described


@every_storage
def test_undoes_make_trainable_exactly(build, name: str) -> None:
    module, plain = build(), build()
    make_trainable(module, {name: ExpScaledLog()})
    module(INPUT)
    assert make_fixed(module) is module
    assert not values(module)
    expected, found = kinds(plain), kinds(module)
    assert found.keys() == expected.keys()
    # a trained value is not an integer any more
    assert all(expected[key] is int for key in expected if found[key] != expected[key])
    assert list(module.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(module(INPUT), plain(INPUT), rtol=1e-6, atol=0)


@every_storage
def test_the_trained_value_is_inside(build, name: str) -> None:
    module = make_trainable(build(), {name: ExpScaledLog()})
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=0.3)
    for _ in range(5):
        optimizer.zero_grad()
        module(INPUT).square().sum().backward()
        optimizer.step()
    trained, output = of(module, name).detach().clone(), module(INPUT).detach()
    make_fixed(module)
    value = of(module, name)
    if isinstance(value, Tensor):
        assert value.is_leaf
        assert value.dtype == torch.float32
        assert torch.equal(value.detach(), trained)
    else:
        assert value == trained.item()
    torch.testing.assert_close(module(INPUT).detach(), output, rtol=0, atol=0)


@every_storage
def test_per_neuron_stays_per_neuron(build, name: str) -> None:
    module = make_trainable(build(), name, init=torch.tensor([2.0, 3.0, 4.0]))
    make_fixed(module)
    torch.testing.assert_close(of(module, name).detach(), torch.tensor([2.0, 3.0, 4.0]))


def test_exact_undo_leaves_order_and_hooks() -> None:
    module = STORAGES["parameter"][0]()
    module.last = nn.Parameter(torch.ones(1))
    before = snapshot(module)
    parameter = module.tau
    make_trainable(module, {"tau": ExpScaledLog(reference=4.0), "gain": Softplus(scale=2.0)})
    make_fixed(module)
    assert module.tau is parameter
    assert_unchanged(module, before)


def test_several_values_beside_each_other_come_back_in_their_order() -> None:
    def build() -> nn.Module:
        module = nn.Module()
        for name in "abcde":
            module.register_buffer(f"buffer_{name}", torch.tensor(4.0))
            module.register_parameter(f"parameter_{name}", nn.Parameter(torch.tensor(4.0)))
            setattr(module, f"number_{name}", 4.0)
        return module

    plain, module = build(), build()
    names = [f"{kind}_{name}" for name in "acd" for kind in ("buffer", "parameter", "number")]
    make_trainable(module, names)
    make_fixed(module)
    assert list(module.state_dict()) == list(plain.state_dict())
    assert list(module.__dict__) == list(plain.__dict__)


def test_some_names_only() -> None:
    module = make_trainable(FromRecord(Nest(Pair())), ["tau", "gain", "rho"])
    make_fixed(module, "gain")
    assert list(values(module)) == ["p.rho", "p.inner.tau"]
    assert module.p.inner.gain == pytest.approx(2.0)
    assert isinstance(module.p.inner.gain, float)
    make_fixed(module, ["p.rho", "tau"])
    assert module.p == Nest(Pair(4.0, pytest.approx(2.0)))
    assert type(module.p.inner) is Pair


def test_a_module_without_trainable_values_is_left_alone() -> None:
    module = FromRecord(Pair())
    before = snapshot(module)
    assert make_fixed(module) is module
    assert_unchanged(module, before)


@every_storage
def test_fixing_a_copy_leaves_the_source_working(build, name: str) -> None:
    module = make_trainable(build(), {name: ExpScaledLog()})
    module(INPUT).sum().backward()
    fixed = make_fixed(copy.deepcopy(module))
    assert not values(fixed)
    assert list(values(module)) == [name]
    module(INPUT).sum().backward()
    assert neuron_parameters(module)[0].grad.abs().sum() > 0
    # and the other way round
    other = copy.deepcopy(module)
    make_fixed(module)
    other(INPUT).sum().backward()
    assert neuron_parameters(other)[0] is not None
    assert isinstance(of(other, name), Tensor)


def test_a_frozen_dataclass_keeps_its_computed_field() -> None:
    module = make_fixed(make_trainable(FromRecord(FrozenData()), "tau", init=5.0))
    assert type(module.p) is FrozenData
    assert (module.p.tau, module.p.gain, module.p.computed) == (pytest.approx(5.0), 2.0, 7.0)
