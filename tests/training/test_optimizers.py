"""Any optimizer, built before or after attaching, trains the values, or it is said."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Softplus,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    param_groups,
    values,
)
from tests.support.cases import Case, spikes
from tests.support.inside import evidence, optimizers
from tests.support.modules import STORAGES, FromRecord, Pair
from tests.support.subjects import (
    NORSE,
    PLAIN,
    ROCKPOOL,
    SINABS,
    SIX,
    SPIKINGJELLY,
    THREE,
    Network,
    network,
    paths,
)

every_network = pytest.mark.parametrize("case", SIX, ids=str)
three_networks = pytest.mark.parametrize("case", THREE, ids=str)

Optimizers = dict[str, Callable[..., torch.optim.Optimizer]]
OPTIMIZERS: Optimizers = {
    kind.__name__: kind
    for kind in (
        *(torch.optim.Adadelta, torch.optim.Adagrad, torch.optim.Adam, torch.optim.Adamax),
        *(torch.optim.AdamW, torch.optim.ASGD, torch.optim.NAdam, torch.optim.RAdam),
        *(torch.optim.RMSprop, torch.optim.Rprop, torch.optim.SGD),
    )
}


def loss(module: nn.Module, x: Tensor | None = None) -> Tensor:
    return module(spikes() if x is None else x).square().mean()


def moved(module: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """The values that are no longer what they were."""
    return [path for path, value in values(module).items() if (value != before[path]).all()]


# ------------------------------------------------------------------------------ built after


@three_networks
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_every_value(case: Case, name: str) -> None:
    module = network(case)
    before = values(module)
    optimizer = OPTIMIZERS[name](param_groups(module, lr=0.01, neuron_lr=0.1))
    for _ in range(2):
        optimizer.zero_grad()
        loss(module).backward()
        optimizer.step()
    assert moved(module, before) == list(before)


@pytest.mark.parametrize("name", ["Adagrad", "Adam", "AdamW", "SGD"])
@pytest.mark.parametrize("variant", ["foreach", "fused"])
def test_variants_take_the_same_steps(name: str, variant: str) -> None:
    results = []
    for chosen in (False, True):
        module = network(NORSE)
        optimizer = OPTIMIZERS[name](nn.Module.parameters(module), lr=0.1, **{variant: chosen})
        for _ in range(3):
            optimizer.zero_grad()
            loss(module).backward()
            optimizer.step()
        results.append(values(module))
    for path in results[0]:
        torch.testing.assert_close(results[0][path], results[1][path], rtol=1e-5, atol=0.0)


@every_network
def test_lbfgs(case: Case) -> None:
    """Its closure runs the forward many times within one step."""
    module = network(case)
    before = values(module)
    optimizer = torch.optim.LBFGS(neuron_parameters(module), lr=0.1, max_iter=4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(module)
        value.backward()
        return value

    optimizer.step(closure)
    assert moved(module, before) == list(before)
    assert all(value.isfinite().all() for value in values(module).values())


@pytest.mark.parametrize(
    ("parametrization", "reference"),
    [
        (ExpScaledLog(reference=10.0), 10.0),
        (ExpScaledLog(), 25.0),  # fitted to where it starts: it stays
        (Softplus(scale=10.0), 10.0),
        (Softplus(lower=2.0, scale=8.0), 10.0),
        (BoundedSigmoid(1.0, 100.0), 50.5),
        (BoundedSigmoid(1.0, 100.0, spacing="log"), 10.0),
    ],
    ids=repr,
)
def test_weight_decay_pulls_to_the_reference(parametrization, reference: float) -> None:
    module = make_trainable(FromRecord(Pair()), {"tau": parametrization}, init=25.0)
    optimizer = torch.optim.AdamW(neuron_parameters(module), lr=0.1, weight_decay=0.5)
    for _ in range(400):
        for raw in neuron_parameters(module):
            raw.grad = torch.zeros_like(raw)
        optimizer.step()
    assert module.p.tau.item() == pytest.approx(reference, rel=1e-3)


@every_network
def test_param_groups_set_the_rates_apart(case: Case) -> None:
    module = network(case)
    before, weight = values(module), module.linear.weight.detach().clone()
    optimizer = torch.optim.Adam(param_groups(module, lr=0.0, neuron_lr=0.1))
    loss(module).backward()
    optimizer.step()
    assert moved(module, before) == list(before)
    assert torch.equal(module.linear.weight, weight)


# ------------------------------------------------------------------------------- gradients


@three_networks
def test_clipping_scales_the_gradients_of_values_with_the_others(case: Case) -> None:
    module = network(case)
    (1e6 * loss(module)).backward()
    norm = torch.nn.utils.clip_grad_norm_(nn.Module.parameters(module), 1.0)
    assert norm > 1.0
    gradients = [p.grad.flatten() for p in nn.Module.parameters(module) if p.grad is not None]
    assert torch.cat(gradients).norm() == pytest.approx(1.0, rel=1e-4)
    assert all(raw.grad.abs().sum() > 0 for raw in neuron_parameters(module))
    torch.nn.utils.clip_grad_value_(neuron_parameters(module), 1e-3)
    assert all(raw.grad.abs().max() <= 1e-3 for raw in neuron_parameters(module))


@every_network
def test_accumulated_gradients_are_those_of_the_joint_batch(case: Case) -> None:
    joint, parts = network(case), network(case)
    x = spikes().repeat(1, 2, 1)
    x[:, 2:] = 1 - x[:, 2:]
    joint(x).square().sum().backward()
    for part in x.split(2, dim=1):
        parts(part).square().sum().backward()
    for one, other in zip(neuron_parameters(joint), neuron_parameters(parts), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


@every_network
def test_a_second_backward_through_a_retained_graph(case: Case) -> None:
    module = network(case)
    value = loss(module)
    value.backward(retain_graph=True)
    once = [raw.grad.clone() for raw in neuron_parameters(module)]
    value.backward()
    for raw, first in zip(neuron_parameters(module), once, strict=True):
        torch.testing.assert_close(raw.grad, 2 * first)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()
    loss(module).backward()  # and another forward starts afresh


def test_double_backward() -> None:
    module = make_trainable(FromRecord(Pair()), {"tau": ExpScaledLog(), "gain": Softplus()})
    module.double()
    raws = [raw.detach().clone().requires_grad_() for raw in neuron_parameters(module)]
    names = [name for name, _ in module.named_parameters()]
    x = torch.linspace(-1, 2, 3, dtype=torch.float64)

    def output(*given: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, given, strict=True)), (x,))

    assert torch.autograd.gradgradcheck(output, raws)
    # and as gradient penalties do it
    gradients = torch.autograd.grad(module(x).sum(), neuron_parameters(module), create_graph=True)
    sum(g.square() for g in gradients).backward()
    assert all(raw.grad.abs() > 0 for raw in neuron_parameters(module))


# ------------------------------------------------------------------------------ built before


def with_parameters(case: Case) -> tuple[Network, list[str]]:
    """A plain network and those of its values that are Parameters already."""
    module = Network(case)
    held = dict(nn.Module.named_parameters(module))
    return module, [path for path in paths(case) if path in held]


def started(module: nn.Module, **options: object) -> torch.optim.Optimizer:
    """An optimizer over all Parameters that has made one step and so has moments."""
    optimizer = torch.optim.Adam(nn.Module.parameters(module), lr=0.01, **options)
    for parameter in nn.Module.parameters(module):
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("case", [SINABS, ROCKPOOL], ids=str)
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_built_before_it_goes_on_training_what_was_a_parameter(case: Case, options) -> None:
    module, names = with_parameters(case)
    assert names
    optimizer = started(module, **options)
    make_trainable(module, names)
    before = values(module)
    for _ in range(3):
        optimizer.zero_grad()
        loss(module).backward()
        optimizer.step()
    assert moved(module, before) == names
    make_fixed(module)
    assert len({id(p) for p in nn.Module.parameters(module)}) == len(
        [p for group in optimizer.param_groups for p in group["params"]]
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_built_before_and_of_another_shape_it_is_refused(name: str, options) -> None:
    """Its moments have the old shape: fused kernels would write beyond their ends."""
    module, x = STORAGES["parameter"][0](), torch.ones(1000)
    try:
        optimizer = OPTIMIZERS[name](module.parameters(), **options)
    except TypeError:
        pytest.skip(f"{name} has no {options}")
    loss(module, x).backward()
    optimizer.step()
    gc.collect()
    replaced = len(optimizers.replaced)
    make_trainable(module, "tau", shape=(1000,))
    loss(module, x).backward()
    before = [p.detach().clone() for p in module.parameters()]
    for _ in range(2):
        with pytest.raises(errors.OptimizerError, match=r"'tau'.*after make_trainable") as caught:
            optimizer.step()
        assert caught.value.path == "tau"
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
    # another optimizer steps, and once the old one is gone nothing is left of it
    new = torch.optim.Adam(module.parameters(), lr=0.1)
    new.step()
    assert len(optimizers.replaced) == replaced + 1
    del optimizer, caught  # whose traceback holds it too
    gc.collect()
    assert len(optimizers.replaced) == replaced


@every_network
def test_built_before_and_without_the_new_parameters_it_warns(case: Case) -> None:
    module = Network(case)
    held = dict(nn.Module.named_parameters(module))
    new = [path for path in paths(case) if path not in held]
    optimizer = torch.optim.SGD(nn.Module.parameters(module), lr=1e-5)
    make_trainable(module, paths(case))

    def step() -> None:
        optimizer.zero_grad()
        loss(module).backward()
        optimizer.step()

    for _ in range(9):
        step()
    if not new:  # all were Parameters
        step()
        return
    with pytest.warns(errors.NoGradientWarning, match="Build the optimizer after") as caught:
        step()
    assert [w for w in caught if all(f"  {path}\n" in str(w.message) for path in new)]
    for _ in range(20):  # once
        step()


@every_network
def test_no_warning_where_every_value_has_its_optimizer(case: Case) -> None:
    module = network(case)
    weights = torch.optim.Adam(module.linear.parameters(), lr=1e-5)
    neurons = torch.optim.Adam(neuron_parameters(module), lr=1e-5)
    for _ in range(15):
        loss(module).backward()
        weights.step()
        neurons.step()
    assert not evidence.accumulated


def test_no_warning_for_what_is_not_meant_to_train() -> None:
    module = network(PLAIN)
    for raw in neuron_parameters(module):
        raw.requires_grad_(False)
    other = nn.Linear(3, 3)
    for trained in (module.linear, other):
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        for _ in range(3):
            (module(spikes()).sum() + other(torch.ones(3)).sum()).backward()
            optimizer.step()
    assert all(raw.grad is None for raw in neuron_parameters(module))


def test_an_optimizer_of_another_network_may_step_in_between() -> None:
    module, other = network(PLAIN), nn.Linear(3, 3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    own = torch.optim.SGD(nn.Module.parameters(module), lr=1e-5)
    for _ in range(5):
        for _ in range(9):
            (loss(module) + other(torch.ones(3)).sum()).backward()
            optimizer.step()
        own.step()
        assert not evidence.accumulated  # What counted against the values is forgotten.


class Gradients(TorchFunctionMode):
    """Notes whose gradient is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function == Tensor.grad.__get__:
            self.seen.append(args[0])
        return function(*args, **(kwargs or {}))


def test_a_step_looks_at_no_gradient_of_another_network() -> None:
    """A backward pass in another thread may be setting it, without holding Python's lock."""
    module, other = network(PLAIN), network(PLAIN)
    loss(other).backward()
    loss(module).backward()
    optimizer = torch.optim.SGD(nn.Module.parameters(module), lr=1e-3)
    assert evidence.accumulated  # of both
    with Gradients() as gradients:
        optimizer.step()
    assert gradients.seen  # those of its own
    others = {id(p) for p in nn.Module.parameters(other)}
    assert not [seen for seen in gradients.seen if id(seen) in others]


def test_nothing_is_kept_of_networks_that_are_gone() -> None:
    gc.collect()
    before = len(evidence.accumulated)
    modules = [network(SPIKINGJELLY) for _ in range(10)]
    for module in modules:
        loss(module).backward()
    assert len(evidence.accumulated) > before
    del modules, module
    gc.collect()
    assert len(evidence.accumulated) == before


def test_added_as_a_group_the_new_parameters_train() -> None:
    """What the warning advises."""
    module = Network(NORSE)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    make_trainable(module, paths(NORSE))
    optimizer.add_param_group({"params": neuron_parameters(module), "lr": 0.1})
    before = values(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            optimizer.zero_grad()
            loss(module).backward()
            optimizer.step()
    assert moved(module, before) == list(before)


def test_the_state_of_an_optimizer_travels_with_the_network() -> None:
    module = network(NORSE)
    optimizer = torch.optim.Adam(param_groups(module, lr=1e-2, neuron_lr=0.1))

    def steps(net: nn.Module, opt: torch.optim.Optimizer) -> dict[str, Tensor]:
        for _ in range(3):
            opt.zero_grad()
            loss(net).backward()
            opt.step()
        return values(net)

    steps(module, optimizer)
    saved = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
    expected = steps(module, optimizer)
    fresh = network(NORSE)
    resumed = torch.optim.Adam(param_groups(fresh, lr=1.0, neuron_lr=1.0))
    fresh.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for path, value in steps(fresh, resumed).items():
        assert torch.equal(value, expected[path])
