"""Threads: forwards at the same time, on one module or on several, do not disturb each other."""

from __future__ import annotations

import copy
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from neuroparam import (
    cached,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.support.cases import Case, spikes
from tests.support.counting import Cell, build, evaluations
from tests.support.inside import all_modules, injected, once
from tests.support.modules import INPUT, FromRecord, Pair
from tests.support.subjects import NORSE, PLAIN, SIX, Network, network, paths
from tests.support.unreached import DropsGradient, Reads

COUNT = 8

Result = TypeVar("Result")

every_network = pytest.mark.parametrize("case", SIX, ids=str)

MODES: list[Callable[[], AbstractContextManager[object]]] = [
    nullcontext,
    torch.no_grad,
    torch.inference_mode,
    cached,
]


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(work: Callable[[int], Result]) -> list[Result]:
    """What each of several threads returns, which start together; raises what any raises."""
    start = threading.Barrier(COUNT)

    def started(index: int) -> Result:
        start.wait()
        try:
            return work(index)
        finally:
            assert not once.active.scopes, "a scope was left open"

    with ThreadPoolExecutor(COUNT) as pool:
        return [done.result() for done in [pool.submit(started, i) for i in range(COUNT)]]


def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    return [*torch.autograd.grad(module(x).square().mean(), neuron_parameters(module))]


@pytest.mark.parametrize("mixed", [False, True], ids=["with gradients", "mixed modes"])
def test_one_module_in_all_threads(mixed: bool) -> None:
    module = build(steps=10)
    output, expected = module(INPUT).detach(), gradients(module, INPUT)

    def work(index: int) -> None:
        mode = MODES[index % len(MODES)] if mixed else nullcontext
        with mode():
            for round_ in range(20):
                outputs: list[Tensor] = []
                count = evaluations(lambda: outputs.append(module(INPUT)))  # noqa: B023
                assert count == (0 if mode is cached and round_ else 2)
                assert torch.equal(outputs[0].detach(), output)
                assert outputs[0].requires_grad == (mode in (nullcontext, cached))
                assert outputs[0].is_inference() == (mode is torch.inference_mode)
        assert all(map(torch.equal, gradients(module, INPUT), expected))

    at_once(work)


@pytest.mark.parametrize("case", [PLAIN, NORSE], ids=str)
def test_one_network_that_keeps_no_state(case: Case) -> None:
    module = network(case)
    inputs = [spikes(seed) for seed in range(COUNT)]
    expected = [gradients(module, x) for x in inputs]

    def work(index: int) -> None:
        for _ in range(3):
            with MODES[index % len(MODES)]():
                module(inputs[index])
            assert all(map(torch.equal, gradients(module, inputs[index]), expected[index]))

    at_once(work)


def trained(module: nn.Module, block: bool) -> dict[str, Tensor]:
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=0.05, fused=True)
    with cached() if block else nullcontext():
        for _ in range(4):
            optimizer.zero_grad()
            module(spikes()).square().mean().backward()
            optimizer.step()
    return values(module)


@every_network
@pytest.mark.parametrize("block", [False, True], ids=["plainly", "in cached()"])
def test_each_thread_trains_a_copy(case: Case, block: bool) -> None:
    modules = [network(case) for _ in range(COUNT)]
    expected = trained(copy.deepcopy(modules[0]), block=False)
    for found in at_once(lambda index: trained(modules[index], block)):
        if block:
            # a step in another thread makes values anew, also in the middle of a forward, and
            # then the sum of gradients is rounded in another order
            torch.testing.assert_close(found, expected)
        else:
            assert all(torch.equal(found[path], value) for path, value in expected.items())


@every_network
def test_each_thread_attaches_copies_and_fixes(case: Case, monkeypatch) -> None:
    # the threads are the first to make the classes
    monkeypatch.setattr(injected, "classes", weakref.WeakValueDictionary())

    def work(index: int) -> nn.Module:
        module = copy.deepcopy(make_trainable(Network(case), paths(case)))
        fixed = make_fixed(copy.deepcopy(module))
        assert torch.equal(fixed(spikes()), module(spikes()))
        return module

    made = [[*map(type, all_modules(module))] for module in at_once(work)]
    assert all(kinds == made[0] for kinds in made)  # as torch.func.stack_module_state needs it
    assert {*made[0]} & {*injected.classes.values()}


def test_the_guard_after_the_first_backward() -> None:
    for _ in range(5):
        module = make_trainable(Reads(lambda m, x: DropsGradient.apply(x, m.rate)), "rate")

        def refused(index: int, module: nn.Module = module) -> bool:
            try:
                for _ in range(3):
                    torch.autograd.grad(module(INPUT).sum(), module.weight)
                    torch.autograd.grad(
                        module(INPUT).sum(), neuron_parameters(module), allow_unused=True
                    )
            except errors.NoGradientError:
                return True
            return False

        assert any(at_once(refused))


def test_a_backward_pass_in_another_thread() -> None:
    cell = make_trainable(Cell(), "rate")
    expected = gradients(cell, INPUT)
    with cached(), ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            loss = cell(INPUT).square().mean()
            found = pool.submit(torch.autograd.grad, loss, neuron_parameters(cell)).result()
            assert all(map(torch.equal, found, expected))


def test_a_forward_that_raises_leaves_the_others_alone() -> None:
    class Fails(FromRecord):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            if x.isnan().any():
                raise ValueError
            return output

    module = make_trainable(Fails(Pair()), ["tau", "gain"])
    expected = gradients(module, INPUT)

    def work(index: int) -> None:
        for _ in range(10):
            if index % 2:
                with pytest.raises(ValueError), MODES[index % len(MODES)]():  # noqa: PT011
                    module(INPUT * torch.nan)
            else:
                assert all(map(torch.equal, gradients(module, INPUT), expected))

    at_once(work)


def test_cached_in_one_thread_is_not_seen_by_another() -> None:
    cell = make_trainable(Cell(), "rate")
    with cached(), torch.no_grad(), ThreadPoolExecutor(1) as pool:
        cell(INPUT)
        assert pool.submit(lambda: cell.rate.requires_grad).result()
