"""torch.func: an argument is used, or refused; never ignored, stale, or left in the module."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap

from neuroparam import ExpScaledLog, Softplus, cached, make_trainable, neuron_parameters, values
from neuroparam.errors import AssignmentError, NoGradientWarning
from tests.support.cases import Case, spikes
from tests.support.modules import FromRecord, Pair
from tests.support.subjects import NORSE, PLAIN, SIX, SPIKINGJELLY, Network, network

X = spikes()
KEY = "neuron.p.parametrizations.tau.original"

# the others compute in custom autograd functions or in place, where torch.func refuses the plain
# module too: `test_what_torch_refuses_in_the_plain_module`
DIFFERENTIABLE = [PLAIN, NORSE, SPIKINGJELLY]

AROUND = pytest.mark.parametrize(
    "around", [contextlib.nullcontext, cached], ids=["alone", "in cached"]
)


def parameters_of(net: nn.Module) -> dict[str, Tensor]:
    """Fresh copies of all parameters, with the raw ones moved."""
    raw = {id(parameter) for parameter in neuron_parameters(net)}
    return {
        name: parameter.detach() - (0.3 if id(parameter) in raw else 0.0)
        for name, parameter in nn.Module.named_parameters(net)
    }


def loss(net: nn.Module) -> Callable[[dict[str, Tensor]], Tensor]:
    return lambda parameters: functional_call(net, parameters, (X,)).square().sum()


def by_autograd(net: nn.Module, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of the loss, in a copy of the network that holds these parameters."""
    moved = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in nn.Module.named_parameters(moved):
            parameter.copy_(parameters[name])
            # functional_call lends tensors, and Norse's hook against autapses is on the Parameter.
            (parameter._backward_hooks or {}).clear()
    owned = {n: p for n, p in nn.Module.named_parameters(moved) if p.requires_grad}
    gradients = torch.autograd.grad(moved(X).square().sum(), list(owned.values()))
    return dict(zip(owned, gradients, strict=True))


@AROUND
@pytest.mark.parametrize("case", SIX, ids=str)
def test_functional_call_uses_its_arguments_and_passes_their_gradients(
    case: Case, around: Callable
) -> None:
    net = network(case)
    before = {name: p.detach().clone() for name, p in nn.Module.named_parameters(net)}
    given = parameters_of(net)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    expected = by_autograd(net, given)
    with around():
        net(X)  # fills what is cached
        # as fast weights are: computed from others
        value = loss(net)({name: 1.0 * leaf for name, leaf in leaves.items()})
        gradients = torch.autograd.grad(value, [leaves[name] for name in expected])
        torch.testing.assert_close(dict(zip(expected, gradients, strict=True)), expected)
    for name, parameter in nn.Module.named_parameters(net):
        assert torch.equal(parameter, before[name]), name


@AROUND
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_grad_equals_autograd(case: Case, around: Callable) -> None:
    net = network(case)
    given = parameters_of(net)
    expected = by_autograd(net, given)
    with around():
        net(X)
        found = grad(loss(net))(given)
        torch.testing.assert_close({name: found[name] for name in expected}, expected)


@AROUND
def test_vmap_over_raw_values(around: Callable) -> None:
    net = network(PLAIN)  # no surrogate gradient of the libraries has a rule for vmap
    raw = net.get_parameter(KEY).detach() + torch.tensor([-0.5, 0.0, 0.5])
    with around():
        net(X)
        outputs = vmap(lambda r: functional_call(net, {KEY: r}, (X,)))(raw)
        for one, output in zip(raw, outputs, strict=True):
            torch.testing.assert_close(output, functional_call(net, {KEY: one}, (X,)))


def test_jacrev_of_the_raw_values() -> None:
    net = network(PLAIN)
    raw = net.get_parameter(KEY)
    with cached():
        net(X)
        jacobian = jacrev(lambda r: functional_call(net, {KEY: r}, (X,)).sum(dim=(1, 2)))(
            raw.detach()
        )
    for output, row in zip(net(X).sum(dim=(1, 2)), jacobian, strict=True):
        torch.testing.assert_close(torch.autograd.grad(output, raw, retain_graph=True)[0], row)


@AROUND
@pytest.mark.parametrize("case", SIX, ids=str)
def test_a_value_under_its_own_name_is_refused_and_changes_nothing(
    case: Case, around: Callable
) -> None:
    net = network(case)
    before = {name: p.detach().clone() for name, p in nn.Module.named_parameters(net)}
    for path, value in values(net).items():
        owner, _, name = path.rpartition(".")
        raw_name = f"{owner}.parametrizations.{name}.original"
        weight = torch.zeros_like(net.linear.weight)

        def call(tensor: Tensor, path: str = path, weight: Tensor = weight) -> Tensor:
            return functional_call(net, {"linear.weight": weight, path: tensor}, (X,)).sum()

        for attempt in (
            call,
            lambda tensor: call(tensor.requires_grad_()),
            lambda tensor: grad(call)(tensor),
            lambda tensor: vmap(call)(torch.stack([tensor, tensor])),
        ):
            with around(), pytest.raises(AssignmentError, match=raw_name):
                attempt(value.clone())
    for name, parameter in nn.Module.named_parameters(net):
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("case", [c for c in SIX if c not in DIFFERENTIABLE], ids=str)
def test_what_torch_refuses_in_the_plain_module(case: Case) -> None:
    for net in (Network(case), network(case)):
        with pytest.raises(RuntimeError, match=r"setup_context|in-place operation"):
            grad(loss(net))(parameters_of(net))


def test_a_functional_call_proves_nothing_of_the_module() -> None:
    class Deaf(FromRecord):
        def forward(self, x: Tensor) -> Tensor:
            return x * self.p.gain

    net = make_trainable(Deaf(Pair()), ["p.tau", "p.gain"])
    detached = {name: p.detach() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def train() -> None:
        for _ in range(10):
            functional_call(net, detached, (X,))
            net(X).sum().backward()
            optimizer.step()

    with pytest.warns(NoGradientWarning, match=r"  p\.tau\n"):
        train()


@AROUND
def test_ensembles_stack(around: Callable) -> None:
    def build(tau: float) -> nn.Module:
        # the same constants: fitted ones differ, and are not stacked
        maps = {"tau": ExpScaledLog(reference=4.0), "gain": Softplus(scale=2.0)}
        return make_trainable(FromRecord(Pair()), maps, init={"tau": tau}, shape=(3,))

    members = [build(tau) for tau in (2.0, 8.0)]
    assert len({type(member) for member in members}) == 1
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")
    with around():
        outputs = vmap(
            lambda p, b, x: functional_call(skeleton, (p, b), (x,)), in_dims=(0, 0, None)
        )(parameters, buffers, X)
        torch.testing.assert_close(outputs, torch.stack([member(X) for member in members]))
    (gradient,) = torch.autograd.grad(outputs.sum(), parameters["p.parametrizations.tau.original"])
    expected = [torch.autograd.grad(m(X).sum(), neuron_parameters(m)[0])[0] for m in members]
    torch.testing.assert_close(gradient, torch.stack(expected))
