"""SpikingJelly 0.0.0.0.14, the release before 2.0: its nodes train, as do those of clock_driven.

It cannot be installed beside 2.0; `.ci/run` puts it before it on the path for this file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuroparam import Quantity, errors, find, make_fixed, make_trainable, neuron_parameters, values
from tests.support.modules import assert_unchanged, snapshot

if version("spikingjelly") != "0.0.0.0.14":
    pytest.skip("needs SpikingJelly 0.0.0.0.14", allow_module_level=True)

from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.clock_driven import functional as clock_functional
from spikingjelly.clock_driven import neuron as clock_neuron
from spikingjelly.clock_driven import surrogate as clock_surrogate

N = 5
# class, and what trains in it
NODES: list[tuple[Callable[..., Any], list[str]]] = [
    (neuron.IFNode, ["v_threshold"]),
    (neuron.LIFNode, ["tau", "v_threshold"]),
    (neuron.ParametricLIFNode, ["v_threshold"]),
    (neuron.QIFNode, ["tau", "v_threshold"]),
    (neuron.EIFNode, ["tau", "v_threshold"]),
    (neuron.IzhikevichNode, ["tau", "tau_w", "v_threshold"]),
    (neuron.KLIFNode, ["tau", "v_threshold", "k"]),
]
CLOCK_DRIVEN: list[tuple[Callable[..., Any], list[str]]] = [
    (clock_neuron.IFNode, ["v_threshold"]),
    (clock_neuron.LIFNode, ["tau", "v_threshold"]),
    (clock_neuron.ParametricLIFNode, ["v_threshold"]),
    (clock_neuron.MultiStepIFNode, ["v_threshold"]),
    (clock_neuron.MultiStepLIFNode, ["tau", "v_threshold"]),
    (clock_neuron.MultiStepParametricLIFNode, ["v_threshold"]),
]
ALL = [(kind, names, mode) for kind, names in NODES for mode in "sm"]
ALL += [(kind, names, "") for kind, names in CLOCK_DRIVEN]
ids = [f"{k.__module__.split('.')[1]}-{k.__name__}{'-' if m else ''}{m}" for k, _, m in ALL]
every_node = pytest.mark.parametrize(("kind", "names", "mode"), ALL, ids=ids)
every_reset = pytest.mark.parametrize("v_reset", [0.0, -0.1, None], ids=["0", "-0.1", "soft"])


def built(kind: Callable[..., Any], mode: str, v_reset: float | None = 0.0, **keywords: Any) -> Any:
    if kind is neuron.KLIFNode and v_reset is None:
        pytest.skip("KLIFNode cannot subtract the threshold, attached or not")
    keywords["v_reset"] = v_reset
    if kind is neuron.IzhikevichNode:  # With its own constants it does not adapt.
        keywords |= {"a": 0.2, "b": 0.1}
    if mode:
        keywords["step_mode"] = mode
    torch.manual_seed(0)
    return kind(**keywords)


def run(node: Any, x: Tensor) -> Tensor:
    """The output over time steps, from the first state."""
    is_clock_driven = "clock_driven" in type(node).__module__
    (clock_functional if is_clock_driven else functional).reset_net(node)
    over_time = getattr(node, "step_mode", "s") == "m" or "MultiStep" in type(node).__name__
    return node(x) if over_time else torch.stack([node(step) for step in x])


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2.0 * torch.rand(12, 3, N, dtype=torch.float64, generator=generator).to(dtype)


def loss_of(output: Tensor) -> Tensor:
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).reshape(output.shape)
    return (weights * output).sum()


@every_node
@every_reset
@pytest.mark.parametrize("shape", [None, (N,)], ids=["single", "per neuron"])
def test_a_node_computes_bit_for_bit_what_it_did_and_trains(
    kind: Callable[..., Any],
    names: list[str],
    mode: str,
    v_reset: float | None,
    shape: tuple[int, ...] | None,
) -> None:
    plain, node = (built(kind, mode, v_reset) for _ in range(2))
    make_trainable(node, names, shape=shape)
    x = inputs()
    for training in (False, True):
        plain.train(training), node.train(training)
        with torch.set_grad_enabled(training):
            found, expected = run(node, x), run(plain, x)
        assert torch.equal(found, expected)
    loss_of(found).backward()
    for raw in neuron_parameters(node):
        assert raw.grad is not None
        assert raw.grad.abs().sum() > 0
    fixed = make_fixed(copy.deepcopy(node))
    assert type(fixed) is type(plain)
    if shape is None:  # The plain nodes take one number.
        assert torch.equal(run(fixed, x), found)


@every_node
@pytest.mark.parametrize("v_reset", [0.0, None], ids=["0", "soft"])
def test_gradients_agree_with_finite_differences(
    kind: Callable[..., Any], names: list[str], mode: str, v_reset: float | None
) -> None:
    surrogates = clock_surrogate if "clock_driven" in kind.__module__ else surrogate
    smooth = surrogates.Sigmoid(alpha=2.0, spiking=False)
    node = built(kind, mode, v_reset, surrogate_function=smooth)
    make_trainable(node, names, shape=(N,)).double()
    x = inputs(torch.float64)
    loss_of(run(node, x)).backward()
    for raw in neuron_parameters(node):
        assert raw.dtype == torch.float64
        for index in range(N):
            kept = raw.detach().clone()
            losses = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    raw.copy_(kept)[index] += step
                    losses.append(loss_of(run(node, x)).item())
                    raw.copy_(kept)
            assert raw.grad is not None
            difference = (losses[0] - losses[1]) / 2e-5
            assert raw.grad[index].item() == pytest.approx(difference, rel=1e-7, abs=1e-8)


@every_node
def test_find_lists_what_trains(kind: Callable[..., Any], names: list[str], mode: str) -> None:
    assert sorted(found.path for found in find(built(kind, mode))) == sorted(names)


@pytest.mark.parametrize("kind", [neuron.LIFNode, clock_neuron.LIFNode])
def test_one_recipe_in_seconds(kind: Callable[..., Any]) -> None:
    net = nn.Sequential(nn.Linear(3, N), kind())
    make_trainable(
        net, [Quantity.TAU_MEM, Quantity.THRESHOLD], init={Quantity.TAU_MEM: 0.02}, dt=1e-3
    )
    torch.testing.assert_close(values(net, Quantity.TAU_MEM, dt=1e-3)["1.tau"], torch.tensor(0.02))
    fixed = make_fixed(net)[1]
    assert (fixed.tau, fixed.v_threshold) == (pytest.approx(20.0), pytest.approx(1.0))


@pytest.mark.parametrize(
    "kind",
    [
        neuron.ParametricLIFNode,
        clock_neuron.ParametricLIFNode,
        clock_neuron.MultiStepParametricLIFNode,
    ],
)
def test_what_plif_maps_itself_is_read_and_trained_in_seconds(kind: Callable[..., Any]) -> None:
    net = nn.Sequential(nn.Linear(3, N), kind(init_tau=5.0))
    assert values(net, Quantity.TAU_MEM, dt=1e-3)["1.w"].item() == pytest.approx(5e-3)
    with pytest.raises(errors.NotTrainableError, match=r"sigmoid\(w\)"):
        make_trainable(net, "1.w")
    make_trainable(net, Quantity.TAU_MEM, init=0.02, dt=1e-3)
    net(torch.rand(4, 2, 3)).sum().backward()
    (raw,) = neuron_parameters(net)
    assert raw.grad is not None
    assert raw.grad != 0
    assert make_fixed(net)[1].w.sigmoid().item() == pytest.approx(1 / 20)


def test_a_trained_threshold_of_clock_driven_outlives_a_reset() -> None:
    node = make_trainable(clock_neuron.LIFNode(), "v_threshold")
    node.v_threshold = 0.7
    clock_functional.reset_net(node)
    torch.testing.assert_close(values(node)["v_threshold"], torch.tensor(0.7))
    fixed = make_fixed(node)
    clock_functional.reset_net(fixed)
    assert fixed.v_threshold == pytest.approx(0.7)
    assert list(fixed._memories) == list(clock_neuron.LIFNode()._memories)


def test_a_threshold_on_the_meta_device_is_not_made_a_number() -> None:
    node = make_trainable(clock_neuron.LIFNode(), "v_threshold").to("meta")
    with pytest.raises(errors.UnsupportedModuleError, match="materialise the module first"):
        make_fixed(node)


class Derived(clock_neuron.MultiStepLIFNode):
    """A user's class."""


@pytest.mark.parametrize(
    "kind", [neuron.LIFNode, neuron.IFNode, clock_neuron.MultiStepLIFNode, Derived]
)
def test_kernels_that_take_floats_are_refused(kind: Callable[..., Any]) -> None:
    node = kind()
    is_clock_driven = isinstance(node, clock_neuron.BaseNode)
    node.__dict__["backend" if is_clock_driven else "_backend"] = "cupy"
    before = snapshot(node)
    with pytest.raises(errors.NotTrainableError, match='Set backend="torch"'):
        make_trainable(node, "v_threshold")
    assert not find(node)
    assert_unchanged(node, before)


def test_without_the_source_of_its_functions_a_node_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class WithoutSource(neuron.LIFNode):
        @staticmethod
        @torch.jit.script
        def jit_hard_reset(v: torch.Tensor, spike: torch.Tensor, v_reset: float):
            return (1.0 - spike) * v + spike * v_reset

    del WithoutSource.jit_hard_reset._torchdynamo_inline
    node = WithoutSource()
    before = snapshot(node)
    with pytest.raises(errors.NotTrainableError, match=r"Upgrade to SpikingJelly 2\.0"):
        make_trainable(node, "v_threshold")
    network = nn.Sequential(nn.Linear(2, 2), node)
    with pytest.raises(errors.NotTrainableError, match=r"'1\.v_threshold' .* Upgrade"):
        make_trainable(network, Quantity.THRESHOLD)
    assert not find(node)
    assert_unchanged(node, before)
