"""Each value is evaluated once per forward, wherever the forward begins."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from neuroparam import errors, make_fixed, make_trainable, neuron_parameters, values
from tests.support.counting import Counting, evaluations
from tests.support.inside import once

XS = torch.rand(20, 3)


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tau = 5.0

    def forward(self, x: Tensor) -> Tensor:
        return x / self.tau * self.tau / self.tau


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()

    def forward(self, xs: Tensor) -> Tensor:
        return torch.stack([self.cell(x) for x in xs])


class Task(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def training_step(self, xs: Tensor) -> Tensor:
        return self.encoder(xs).sum()


def attached(net: nn.Module, name: str = "*.tau") -> Any:
    return make_trainable(net, {name: Counting()})


ENTRIES: dict[str, Callable[[], Callable[[Tensor], Any]]] = {
    "the network": lambda: attached(nn.Sequential(Encoder())),
    "forward of the network": lambda: attached(nn.Sequential(Encoder())).forward,
    "a part of the network": lambda: attached(nn.Sequential(Encoder()))[0],
    "a step of training": lambda: attached(Task()).training_step,
    "a dictionary": lambda: attached(nn.ModuleDict({"encoder": Encoder()}))["encoder"],
    "a list": lambda: attached(nn.ModuleList([Encoder()]))[0],
    "the neuron": lambda: attached(Cell(), "tau"),
    "forward of the neuron": lambda: attached(Cell(), "tau").forward,
    "in a larger one": lambda: nn.Sequential(nn.Identity(), attached(Encoder())),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_wherever_it_is_entered(entry: str) -> None:
    run = ENTRIES[entry]()
    for _ in range(2):
        assert evaluations(lambda: run(XS)) == 1
    with torch.no_grad():
        assert evaluations(lambda: run(XS)) == 1


class Tree(nn.Module):
    """Calls itself, and reads a value below it before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()

    def forward(self, x: Tensor, depth: int = 2) -> Tensor:
        x = self.cell(x)
        return self.cell(self.cell(self(x, depth - 1))) if depth else x


def test_a_module_between_that_calls_itself() -> None:
    net = attached(nn.Sequential(Tree()))
    assert evaluations(lambda: net(XS)) == 1
    # Without the network around it, each call of its own is a forward that is not finished.
    tree = net[0]
    assert evaluations(lambda: tree(XS, 0)) == 1
    assert evaluations(lambda: tree(XS)) == 3
    assert not once.active.scopes


def test_fixed_parts_carry_nothing() -> None:
    net = attached(nn.ModuleList([Encoder(), Encoder()]))
    make_fixed(net, "0.cell.tau")
    plain = nn.ModuleList([Encoder(), Encoder()])
    for part in net[0].modules():
        assert not part._forward_pre_hooks
        assert not part._forward_hooks
        assert not part._forward_hooks_always_called
    assert [type(part) for part in net[0].modules()] == [type(p) for p in plain[0].modules()]
    assert evaluations(lambda: net[1](XS)) == 1
    make_fixed(net)
    assert [vars(part).keys() for part in net.modules()] == [
        vars(part).keys() for part in plain.modules()
    ]


class Interrupted(nn.Module):
    """A forward that a KeyboardInterrupt ends, between two of its neurons or within one."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.when = Cell(), ""

    def forward(self, x: Tensor) -> Tensor:
        x = self.cell(x)
        if self.when == "between":
            raise KeyboardInterrupt
        return self.cell(x)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: torch.optim.SGD(net.parameters(), lr=1.0, fused=True).step(),
        lambda net: net.double(),
        lambda net: setattr(net.cell, "tau", 7.0),
        lambda net: net.load_state_dict(
            {k: v + 1 if "original" in k else v for k, v in net.state_dict().items()}
        ),
    ],
    ids=["a fused step", "a conversion", "an assignment", "a checkpoint"],
)
def test_an_interrupted_forward_leaves_nothing_stale(change) -> None:
    net = make_trainable(Interrupted(), "cell.tau")
    net.when = "between"
    with pytest.raises(KeyboardInterrupt):
        net(XS)
    for raw in neuron_parameters(net):
        raw.grad = torch.ones_like(raw)
    change(net)
    assert torch.equal(net.cell.tau, values(net)["cell.tau"])
    net.when = ""
    x = XS.to(net.cell.tau.dtype)
    tau = values(net)["cell.tau"]
    torch.testing.assert_close(net(x), Cell.forward(Fixed(tau), Cell.forward(Fixed(tau), x)))


class Fixed:
    def __init__(self, tau: Tensor):
        self.tau = tau


def test_paths_are_those_of_the_network_that_runs() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tau = 20.0
            make_trainable(self, "tau")

        def forward(self, x: Tensor) -> Tensor:
            return x / self.tau

    net = nn.Sequential(*(Layer() for _ in range(10)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(3)).sum().backward()
    neuron_parameters(net)[7].grad.fill_(torch.nan)
    with pytest.raises(errors.NonFiniteError) as caught:
        optimizer.step()
    assert caught.value.paths == ["7.tau"]
    with pytest.raises(errors.OutOfDomainError) as refused:
        net[3].tau = -1.0
    assert refused.value.path == "3.tau"
    # The names of torch's own wrappers are no part of it.
    wrapped = torch.optim.swa_utils.AveragedModel(net)
    with pytest.raises(errors.OutOfDomainError) as refused:
        wrapped.module[4].tau = -1.0
    assert refused.value.path == "4.tau"


def test_a_path_is_found_when_a_message_is_written_and_not_before() -> None:
    layer = make_trainable(Cell(), "tau")

    def path() -> str | None:
        with pytest.raises(errors.OutOfDomainError) as refused:
            layer.tau = -1.0
        return refused.value.path

    assert path() == "tau"
    net = nn.Sequential(nn.Identity(), layer)
    assert path() == "1.tau"
    del net
    assert path() == "tau"


@pytest.mark.parametrize("siblings", [2, 4])
def test_siblings_share_their_compiled_code_as_without_us(siblings: int) -> None:
    """No hook of ours has a key that differs from module to module."""

    def frames(net: nn.Module) -> int:
        torch.compiler.reset()
        counter = CompileCounter()
        parts = [torch.compile(part, backend=counter) for part in net]
        for _ in range(2):
            for part in parts:
                part(XS).sum().backward()
        return counter.frame_count

    class Raw(Encoder):
        def __init__(self) -> None:
            super().__init__()
            del self.cell.tau
            self.cell.tau = nn.Parameter(torch.tensor(5.0))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = frames(nn.ModuleList(Raw() for _ in range(siblings)))
        ours = frames(make_trainable(nn.ModuleList(Encoder() for _ in range(siblings)), "*.tau"))
    assert ours == plain
