"""An optimizer that holds none of our values is neither slowed nor broken by those of others."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuroparam import errors, make_fixed, make_trainable, neuron_parameters


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.tau, self.threshold = 5.0, 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) / self.tau - self.threshold


def network(layers: int) -> nn.ModuleList:
    return make_trainable(nn.ModuleList(Layer() for _ in range(layers)), ["*.tau", "*.threshold"])


def stranger(groups: int = 1, **options: Any) -> torch.optim.Optimizer:
    module = nn.Linear(4, 4)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    return torch.optim.SGD([{"params": [p]} for p in module.parameters()][:groups], 0.1, **options)


def calls_in(act: Callable[[], object]) -> int:
    """How many calls of Python and of C functions something takes."""
    count = 0

    def note(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def test_a_step_takes_as_many_calls_whatever_is_attached_elsewhere() -> None:
    optimizer = stranger()
    optimizer.step()
    alone = calls_in(optimizer.step)
    few = network(1)
    optimizer.step()  # finds out that nothing of it is in the network
    assert calls_in(optimizer.step) == alone
    many = [network(20) for _ in range(5)]
    optimizer.step()
    assert calls_in(optimizer.step) == alone
    assert few
    assert many


def test_finding_out_takes_calls_in_proportion_to_what_is_attached() -> None:
    """Once, after something was attached, and never quadratically."""
    optimizer = stranger()
    first = network(10)
    small = calls_in(optimizer.step)
    second = network(90)
    assert calls_in(optimizer.step) < 20 * small
    assert first
    assert second


class Relative(torch.optim.Optimizer):
    """Steps by a rate of its own, like Adafactor, whatever `lr` its groups have."""

    def __init__(self, params: Any, **defaults: Any):
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-1e-3)


class Untouched:
    """A learning rate of which nothing may be made: no number and no text."""

    def refuse(self, *_: object) -> Any:
        raise AssertionError("the learning rate was looked at")

    __float__ = __index__ = __bool__ = __format__ = item = refuse


RATES: list[Any] = [None, (1e-3, 1e-2), torch.tensor(1e-3), torch.ones(2), "relative", Untouched()]


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: type(rate).__name__)
@pytest.mark.parametrize("ours", [False, True], ids=["a stranger", "one that holds values"])
def test_a_step_looks_at_no_learning_rate(rate: Any, ours: bool) -> None:
    net = network(1)
    parameters = neuron_parameters(net) if ours else [nn.Parameter(torch.ones(2))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = Relative(parameters, lr=rate)
    optimizer.step()
    assert all((p != old).all() for p, old in zip(parameters, before, strict=True))


def test_a_group_without_a_learning_rate_steps() -> None:
    net = network(1)
    optimizer = Relative(net.parameters())
    net[0](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert "lr" not in optimizer.param_groups[0]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ([0.5], "Relative with lr=0.5"),
        ([0.5, 0.25], "Relative with lr=0.25 and 0.5"),
        ([torch.tensor(0.5)], "Relative with lr=0.5"),
        ([None], "after a step of Relative,"),
        ([(0.1, 0.2)], "after a step of Relative,"),
        ([None, 0.5], "Relative with lr=0.5"),
        (["relative"], "after a step of Relative,"),
    ],
    ids=str,
)
def test_a_diverged_step_says_the_rates_that_are_numbers(rates: list[Any], said: str) -> None:
    net = network(len(rates))
    groups = [
        {"params": list(layer.parameters()), "lr": rate}
        for layer, rate in zip(net, rates, strict=True)
    ]
    optimizer = Relative(groups)
    neuron_parameters(net)[0].grad = torch.tensor(torch.inf)
    with pytest.raises(errors.NonFiniteError, match=said) as caught:
        optimizer.step()
    assert caught.value.paths == ["0.tau"]


# ------------------------------------------------- what an optimizer holds is known at each step


def diverges(optimizer: torch.optim.Optimizer, net: nn.Module) -> bool:
    raw = neuron_parameters(net)[0]
    raw.grad = torch.full_like(raw, torch.nan)
    try:
        optimizer.step()
    except errors.NonFiniteError:
        return True
    finally:
        raw.grad = None
    return False


def test_a_group_that_is_added_after_the_first_step() -> None:
    net = network(1)
    optimizer = stranger()
    optimizer.step()
    optimizer.add_param_group({"params": neuron_parameters(net)})
    assert diverges(optimizer, net)


def test_a_parameter_that_is_exchanged_in_a_group() -> None:
    net = network(1)
    optimizer = stranger()
    optimizer.step()
    optimizer.param_groups[0]["params"][0] = neuron_parameters(net)[0]
    assert diverges(optimizer, net)


def test_a_raw_parameter_that_is_exchanged_by_a_load() -> None:
    net, other = network(1), network(1)
    optimizer = torch.optim.SGD(neuron_parameters(other), 0.1)
    assert diverges(optimizer, other)
    other = copy.deepcopy(network(1))
    state = {
        key: nn.Parameter(entry.clone()) if isinstance(entry, Tensor) else entry
        for key, entry in other.state_dict().items()
    }
    optimizer = torch.optim.SGD([e for e in state.values() if isinstance(e, Tensor)], 0.1)
    optimizer.step()
    net.load_state_dict(state, assign=True)
    assert neuron_parameters(net)[0] is state["0.parametrizations.tau.original"]
    assert diverges(optimizer, net)


def test_a_raw_parameter_that_is_exchanged_by_a_move() -> None:
    net = network(1)
    with torch.device("meta"):
        template = [nn.Parameter(torch.zeros(())) for _ in range(1)]
    optimizer = torch.optim.SGD(template, 0.1)
    optimizer.step()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        before = neuron_parameters(net)[0]
        net.double()
        after = neuron_parameters(net)[0]
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    assert after is not before
    optimizer.param_groups[0]["params"] = [after]
    assert diverges(optimizer, net)


def test_a_copy_of_a_network_is_known_to_its_optimizer() -> None:
    twin = copy.deepcopy(network(1))
    assert diverges(torch.optim.SGD(twin.parameters(), 0.1), twin)


def test_a_value_that_is_fixed_is_not_looked_at_any_more() -> None:
    """Its raw Parameter is the module's own again, and so is what becomes of it."""
    module = nn.Module()
    module.tau = nn.Parameter(torch.tensor(5.0))
    optimizer = torch.optim.SGD(make_trainable(module, "tau").parameters(), 0.1)
    assert diverges(optimizer, module)
    with torch.no_grad():
        neuron_parameters(module)[0].zero_()
    kept = module.parametrizations["tau"]
    make_fixed(module)
    module.tau.grad = torch.full_like(module.tau, torch.nan)
    optimizer.step()
    assert module.tau.isnan()
    assert kept is not None


def test_a_value_that_is_attached_later_is_expected() -> None:
    """An optimizer that has made steps already is asked anew after `make_trainable`."""
    net = nn.Sequential(Layer())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def step() -> None:
        optimizer.zero_grad()
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    step()
    make_trainable(net, "tau")
    for _ in range(9):
        step()
    with pytest.warns(errors.NoGradientWarning, match=r"(?s)0\.tau.*Build the optimizer after"):
        step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()
