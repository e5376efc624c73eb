"""BrainCog as it is installed: its nodes train, or say why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuroparam import (
    Quantity,
    audit,
    errors,
    find,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.support.modules import assert_unchanged, snapshot

node = pytest.importorskip("braincog.base.node", reason="BrainCog is not installed")

N, STEPS = 5, 10
# class, options, and what trains in it by its name
NODES: list[tuple[Callable[..., Any], dict[str, Any], list[str]]] = [
    (node.IFNode, {}, ["threshold"]),
    (node.LIFNode, {"tau": 3.0}, ["tau", "threshold"]),
    (node.LIFNode, {"tau": 3.0, "layer_by_layer": True, "step": STEPS}, ["tau", "threshold"]),
    (node.BiasLIFNode, {"tau": 3.0}, ["tau", "threshold"]),
    (node.LIFSTDPNode, {"tau": 0.8}, ["tau", "threshold"]),
    (node.PLIFNode, {"tau": 3.0}, ["threshold"]),
    (node.BiasPLIFNode, {"tau": 3.0}, ["threshold"]),
]
every_node = pytest.mark.parametrize(
    ("kind", "options", "names"),
    NODES,
    ids=[f"{k.__name__}{'-layer' if 'step' in o else ''}" for k, o, _ in NODES],
)


def built(kind: Callable[..., Any], options: dict[str, Any]) -> Any:
    made = kind(threshold=0.5, **options).double()
    made.n_reset()
    return made


def x(scale: float = 2.0) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(STEPS, 3, N, dtype=torch.float64, generator=draw) * scale


def run(module: Any, inputs: Tensor) -> Tensor:
    module.n_reset()
    if module.layer_by_layer:
        found: Tensor = module(inputs.flatten(0, 1))
        return found.unflatten(0, inputs.shape[:2])
    return torch.stack([module(step) for step in inputs])


@every_node
def test_find_lists_what_trains(kind: Any, options: dict[str, Any], names: list[str]) -> None:
    assert sorted(each.path for each in find(built(kind, options))) == sorted(names)


@every_node
def test_attached_it_computes_the_same_and_its_gradient_is_native(
    kind: Any, options: dict[str, Any], names: list[str]
) -> None:
    plain, attached = built(kind, options), built(kind, options)
    for name in names:
        leaf = torch.as_tensor(getattr(plain, name), dtype=torch.float64).detach().clone()
        if name in plain._parameters:
            del plain._parameters[name]
        setattr(plain, name, leaf.requires_grad_())
    make_trainable(attached, names)
    weight = torch.rand(STEPS, 3, N, dtype=torch.float64)
    found, wanted = run(attached, x()), run(plain, x())
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert found.any()
    (found * weight).sum().backward()
    (wanted * weight).sum().backward()
    for name, raw in zip(values(attached), neuron_parameters(attached), strict=True):
        (expected,) = torch.autograd.grad(getattr(attached, name), raw, getattr(plain, name).grad)
        assert raw.grad != 0
        torch.testing.assert_close(raw.grad, expected, rtol=1e-9, atol=0)


@every_node
def test_it_trains_and_is_given_back(kind: Any, options: dict[str, Any], names: list[str]) -> None:
    module = make_trainable(built(kind, options), names)
    before = values(module)
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        run(module, x()).mean().backward()
        optimizer.step()
    assert all(value != before[name] for name, value in values(module).items())
    trained = run(module, x()).detach()
    make_fixed(module)
    assert type(module) is kind
    torch.testing.assert_close(run(module, x()), trained)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [(node.LIFNode, 3e-3), (node.PLIFNode, 3e-3), (node.BiasPLIFNode, 3e-3)],
)
def test_a_time_constant_is_read_and_trained_in_seconds(kind: Any, seconds: float) -> None:
    module = built(kind, {"tau": 3.0})
    make_trainable(module, Quantity.TAU_MEM, dt=1e-3)
    (tau,) = values(module, Quantity.TAU_MEM).values()
    assert tau.item() == pytest.approx(seconds, rel=1e-6)
    # below the threshold the voltages are smooth
    (raw,) = neuron_parameters(module)

    def loss() -> Tensor:
        module.n_reset()
        seen = []
        for step in x(0.2):
            module(step)
            seen.append(module.mem)
        return torch.stack(seen).square().sum()

    (gradient,) = torch.autograd.grad(loss(), raw)
    losses = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            raw += step
        losses.append(loss().item())
    assert gradient.item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6)


def test_plif_is_read_as_it_is_and_not_mapped_again() -> None:
    module = built(node.PLIFNode, {"tau": 1.5})
    (tau,) = values(module, Quantity.TAU_MEM, dt=1e-3).values()
    assert tau.item() == pytest.approx(1.5e-3, rel=1e-6)
    before = snapshot(module)
    with pytest.raises(errors.NotTrainableError, match=r"sigmoid\(w\).*Quantity\.TAU_MEM"):
        make_trainable(module, "w")
    assert_unchanged(module, before)
    (measured,) = (m for m in audit(module, x()[0]) if m.path == "w")
    assert measured.verdict == "trains as it is"


@pytest.mark.parametrize(
    ("build", "name", "why"),
    [
        (lambda: node.IFNode(sigmoid_thres=True), "threshold", "sigmoid_thres=False"),
        (lambda: node.IFNode(sigmoid_thres=True), Quantity.THRESHOLD, "sigmoid_thres=False"),
        (lambda: node.PLIFNode(dt=0.5), Quantity.TAU_MEM, "dt=1"),
        (lambda: node.IFNode(), "act_fun.alpha", "surrogate"),
        (lambda: node.IFNode(), "dt", "time step"),
        (lambda: node.IzhNode(), "tau", "does not read it"),
    ],
)
def test_what_does_not_train_is_refused_with_a_cure(
    build: Callable[[], nn.Module], name: Any, why: str
) -> None:
    module = build()
    before = snapshot(module)
    with pytest.raises(errors.NotTrainableError, match=why):
        make_trainable(module, name, dt=None if name != Quantity.TAU_MEM else 1e-3)
    assert_unchanged(module, before)


def test_its_own_ways_of_setting_a_value_reach_the_attached_one() -> None:
    module = make_trainable(node.LIFNode(tau=3.0), ["tau", "threshold"])
    module.set_n_threshold(0.75)
    module.set_n_tau(4.0)
    assert values(module)["threshold"].item() == pytest.approx(0.75)
    assert values(module)["tau"].item() == pytest.approx(4.0)
