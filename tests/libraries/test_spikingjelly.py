"""What is special about SpikingJelly 2.0: compiled operators that take floats."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.precision import PrecisionConfig
from spikingjelly.activation_based.precision.api import prepare_model_for_precision
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuroparam import (
    ExpScaledLog,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    param_groups,
    values,
)

N, STEPS = 3, 6


def x(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2.0 * torch.rand(STEPS, 2, N, generator=generator).to(dtype)


def run(node: nn.Module, inputs: Tensor) -> Tensor:
    functional.reset_net(node)
    if node.step_mode == "m":
        return node(inputs)
    return torch.stack([node(part) for part in inputs])


# -------------------------------------------------------------------------- compiled operators


@pytest.mark.parametrize("mode", ["s", "m"])
def test_why_a_way_round_is_needed(mode: str) -> None:
    """With torch's parametrize alone the forward is right and the gradient is lost, in silence."""
    node = neuron.LIFNode(tau=2.0, step_mode=mode)
    del node.tau
    node.register_parameter("tau", nn.Parameter(torch.tensor(2.0)))
    parametrize.register_parametrization(node, "tau", ExpScaledLog(reference=2.0))
    output = run(node, x())
    assert torch.equal(output, run(neuron.LIFNode(tau=2.0, step_mode=mode), x()))
    assert not output.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [None, (N,)], ids=["shared", "per neuron"])
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize(
    "function",
    [surrogate.Sigmoid(), surrogate.ATan(), surrogate.PiecewiseQuadratic(), surrogate.Erf()],
    ids=lambda function: type(function).__name__,
)
def test_trains_in_both_modes_and_precisions_with_the_forward_unchanged(
    function, mode: str, shape, dtype: torch.dtype
) -> None:
    def built() -> nn.Module:
        return neuron.LIFNode(tau=1.7, step_mode=mode, surrogate_function=function)

    node = make_trainable(built(), ["tau", "v_threshold"], shape=shape).to(dtype)
    inputs = x(dtype).requires_grad_()
    output = run(node, inputs)
    plain = x(dtype).requires_grad_()
    expected = run(built(), plain)
    assert torch.equal(output, expected)
    # weighted, so that the gradients of spikes do not cancel
    weights = torch.arange(output.numel(), dtype=dtype).reshape(output.shape)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(inputs.grad, plain.grad, rtol=1e-5, atol=1e-5)
    for raw in neuron_parameters(node):
        assert raw.grad is not None
        assert raw.grad.isfinite().all()
        assert raw.grad.abs().sum() > 0


def test_what_a_node_reads_of_its_surrogate_is_still_there() -> None:
    node = make_trainable(neuron.ComplementaryLIFNode(), "tau")
    assert node.surrogate_function.alpha == 1.0
    assert node.surrogate_function.spiking
    assert isinstance(node._modules["surrogate_function"], surrogate.Rect)
    node.surrogate_function = surrogate.ATan()
    assert node.surrogate_function.alpha == 2.0
    assert isinstance(make_fixed(node).surrogate_function, surrogate.ATan)


SURROGATES = [
    kind
    for _, kind in inspect.getmembers(surrogate, inspect.isclass)
    if issubclass(kind, surrogate.SurrogateFunctionBase)
    and kind.__module__ == surrogate.__name__
    and kind is not surrogate.SurrogateFunctionBase
]


@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize("kind", SURROGATES)
def test_a_wrapped_surrogate_computes_what_it_computes_by_itself(kind, spiking: bool) -> None:
    """To the last bit, on both sides of its kinks: spikes, gradients, and their gradients."""
    needed = {surrogate.MultiLevelSpikeCount: {"max_spike_count": 2}}
    function = kind(**needed.get(kind, {}))
    function.spiking = spiking
    node = make_trainable(neuron.LIFNode(surrogate_function=function), "tau")
    v = torch.cat([torch.linspace(-3.0, 3.0, 49), torch.tensor([-0.0, 1e-8])]).double()
    if kind is surrogate.PoissonPass:
        v = v.abs() / 3.0  # takes probabilities

    def computed(by) -> list[Tensor | None]:
        torch.manual_seed(0)  # PoissonPass draws
        inputs = v.clone().requires_grad_()
        output = by(inputs)
        (first,) = torch.autograd.grad((output * v).sum(), inputs, create_graph=True)
        if not first.requires_grad:
            return [output, first]
        return [output, first, *torch.autograd.grad(first.sum(), inputs, allow_unused=True)]

    try:
        expected = computed(function)
    except NotImplementedError as error:  # SpikingJelly has no primitive function of its SuperSpike
        with pytest.raises(type(error)):
            computed(node.surrogate_function)
        return
    for got, wanted in zip(computed(node.surrogate_function), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0.0, atol=0.0, equal_nan=True)


def test_spikes_take_no_signature_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_trainable(neuron.LIFNode(step_mode="m"), "tau")
    run(node, x())
    calls = []
    plain = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda *a, **k: calls.append(a) or plain(*a, **k))
    run(node, x())
    assert calls == []


def test_the_surrogate_that_all_nodes_share_cannot_be_attached() -> None:
    first, second = neuron.LIFNode(), neuron.LIFNode()
    assert first.surrogate_function is second.surrogate_function  # SpikingJelly's own doing
    with pytest.raises(errors.NotTrainableError, match="shares its default surrogate"):
        make_trainable(first, "surrogate_function.alpha")


def test_a_fixed_node_with_one_tau_per_neuron_needs_the_torch_formulas() -> None:
    """The compiled operators of a plain node take one number, and say so."""
    node = make_trainable(neuron.LIFNode(step_mode="m"), "tau", shape=(N,))
    fixed = make_fixed(copy.deepcopy(node))
    assert type(fixed) is neuron.LIFNode
    assert fixed.tau.shape == (N,)
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        run(fixed, x())
    torch.testing.assert_close(run(fixed, x(torch.float64)), run(node, x(torch.float64)))
    fixed.surrogate_function = surrogate.Rect()  # not one of the compiled ones
    assert torch.equal(run(fixed, x()), run(node, x()))


# ---------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_network_trains_with_the_librarys_own_helpers(mode: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Linear(N, 8), neuron.LIFNode(), layer.Linear(8, 2), neuron.LIFNode(v_reset=None)
    )
    functional.set_step_mode(net, mode)
    make_trainable(net, {"*.tau": None, "*.v_threshold": None}, shape={"*.tau": None})
    optimizer = torch.optim.Adam(param_groups(net, lr=1e-2, neuron_lr=5e-2))
    before = values(net)
    losses = []
    for _ in range(20):
        functional.reset_net(net)
        output = net(x()) if mode == "m" else torch.stack([net(part) for part in x()])
        loss = (output.mean() - 0.6).square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for path, value in values(net).items():
        assert value != before[path], path
    assert (values(net)["1.tau"] > 1).all()


def test_a_time_constant_below_one_step_is_refused() -> None:
    with pytest.raises(errors.OutOfDomainError, match=r"\(1, inf\)"):
        make_trainable(neuron.LIFNode(), "tau", init=0.9)


def test_plif_keeps_its_own_way() -> None:
    node = neuron.ParametricLIFNode()
    with pytest.raises(errors.NotTrainableError, match=r"sigmoid\(w\).*name Quantity\.TAU_MEM"):
        make_trainable(node, "w")
    make_trainable(node, "v_threshold")
    (run(node, x()) * torch.rand(STEPS, 2, N)).sum().backward()
    assert node.w.grad is not None
    assert neuron_parameters(node)[0].grad is not None


# ----------------------------------------------------------------------- what the page says


def test_neuron_precision_does_not_see_attached_nodes() -> None:
    node = make_trainable(neuron.LIFNode(step_mode="m"), "tau")
    config = PrecisionConfig(mode="fp32", neuron_storage="fp16")
    with pytest.raises(RuntimeError, match="no multi-step"):
        prepare_model_for_precision(nn.Sequential(node), "cpu", config)


def test_a_checkpoint_of_the_plain_network_lacks_the_floats() -> None:
    def network() -> nn.Module:
        return nn.Sequential(layer.Linear(N, N), neuron.LIFNode())

    net, saved = make_trainable(network(), "*.tau"), network().state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict(saved)
    net.load_state_dict(saved, strict=False)
    assert torch.equal(net[0].weight, saved["0.weight"])


def test_a_map_given_by_path_is_taken_as_it_is() -> None:
    node = make_trainable(neuron.LIFNode(), {"tau": ExpScaledLog()})
    with torch.no_grad():
        neuron_parameters(node)[0].fill_(-3.0)
    assert node.tau < 1


def test_the_dsr_nodes_take_one_threshold() -> None:
    node = make_trainable(neuron.DSRIFNode(T=STEPS), "v_threshold", shape=(N,))
    with pytest.raises(RuntimeError, match="invalid gradient"):
        node(x()).sum().backward()


def test_a_plain_node_with_a_history_is_not_copied_and_an_attached_one_is() -> None:
    plain = neuron.LIFNode()
    plain(x()[0].requires_grad_())
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(plain)
    node = make_trainable(neuron.LIFNode(), "tau")
    node(x()[0])
    assert not copy.deepcopy(node).v.requires_grad
