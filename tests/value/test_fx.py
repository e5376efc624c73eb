"""torch.fx: a traced network is attached and copied, and an attached one is traced."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from neuroparam import errors, make_fixed, make_trainable, neuron_parameters
from tests.support.modules import FromRecord, Pair, assert_unchanged, snapshot

X = torch.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.register_buffer("tau", torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) / self.tau


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Net()
        self.second = FromRecord(Pair())

    def forward(self, x: Tensor) -> Tensor:
        return self.second.step(self.first(x), x)


def test_a_traced_network_is_attached_copied_and_fixed() -> None:
    net = make_trainable(fx.symbolic_trace(Net()), "tau")
    copied = copy.deepcopy(net)
    copied.tau = 10.0
    torch.testing.assert_close(copied(X), 2 * net(X))
    copied(X).square().sum().backward()
    assert neuron_parameters(copied)[0].grad.abs() > 0
    assert neuron_parameters(net)[0].grad is None
    # Each copy has code of its own.
    copied.graph.output_node().args = (next(iter(copied.graph.nodes)),)
    copied.recompile()
    assert torch.equal(copied(X), X)
    assert not torch.equal(net(X), X)
    assert isinstance(make_fixed(copied), fx.GraphModule)


@pytest.mark.parametrize(
    ("build", "names"),
    [(Net, ["tau"]), (Deep, ["first.tau", "second.p.tau", "second.p.gain"])],
)
def test_an_attached_network_is_traced_and_trains(build, names: list[str]) -> None:
    net = make_trainable(build(), names)
    traced = fx.symbolic_trace(net)
    assert torch.equal(traced(X), net(X))
    traced(X).square().sum().backward()
    assert all(raw.grad.abs() > 0 for raw in neuron_parameters(net))
    for name in names:
        owner, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(owner), attribute, 7.0)
    assert torch.equal(traced(X), net(X))
    assert torch.equal(copy.deepcopy(traced)(X), net(X))


def test_a_module_of_torch_export_is_attached_and_copied() -> None:
    net = torch.export.export(Net(), (X,)).module()
    before = net(X)
    make_trainable(net, "tau")
    torch.testing.assert_close(copy.deepcopy(net)(X), before)
    net(X).square().sum().backward()
    assert neuron_parameters(net)[0].grad.abs() > 0


def test_make_fx_traces_through_the_maps() -> None:
    net = make_trainable(Net(), "tau")
    traced = make_fx(net)(X)
    assert torch.equal(traced(X), net(X))


def test_a_traced_network_that_is_attached_is_not_pickled() -> None:
    net = make_trainable(fx.symbolic_trace(Net()), "tau")
    before = snapshot(net)
    with pytest.raises(errors.UnsupportedModuleError, match=r"make_fixed\(copy.deepcopy"):
        pickle.dumps(net)
    assert_unchanged(net, before)
    fixed = make_fixed(copy.deepcopy(net))
    torch.testing.assert_close(fixed(X), net(X))
