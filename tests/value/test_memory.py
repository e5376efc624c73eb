"""Nothing of a forward outlives it but a small value that may serve the next one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef

from neuroparam import ExpScaledLog, cached, make_trainable

SMALL, LARGE = 10_000, 10_001  # values of more than 10,000 numbers are not kept
Scope = Callable[[], AbstractContextManager[None]]


class Cell(nn.Module):
    """One step of a leaky integrator; refers weakly to each value that it has read."""

    def __init__(self, neurons: int):
        super().__init__()
        self.tau = nn.Parameter(torch.full((neurons,), 10.0))

    def forward(self, x: Tensor, v: Tensor, seen: list[TensorWeakRef]) -> Tensor:
        tau = self.tau
        seen.append(TensorWeakRef(tau))
        return v + (x - v) / tau


def attached(neurons: int) -> Cell:
    return make_trainable(Cell(neurons), {"tau": ExpScaledLog()})


def living(seen: list[TensorWeakRef]) -> int:
    """How many different values there are still."""
    return len({id(value) for ref in seen if (value := ref()) is not None})


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is only reachable from itself stays, and is counted."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def training(cell: Cell, calls: int, scope: Scope = nullcontext) -> Callable[..., None]:
    """A training step, with a loop of one's own around the cell."""
    optimizer = torch.optim.Adam(cell.parameters(), lr=1e-3)
    x = torch.ones(1, cell.tau.numel())

    def step(seen: list[TensorWeakRef]) -> None:
        optimizer.zero_grad()
        with scope():
            v = torch.zeros_like(x)
            for _ in range(calls):
                v = cell(x, v, seen)
        v.sum().backward()
        optimizer.step()

    return step


def looking(cell: Cell, calls: int, scope: Scope = nullcontext) -> Callable[..., None]:
    """Forwards that nobody asks for a gradient."""
    x = torch.ones(1, cell.tau.numel())

    def step(seen: list[TensorWeakRef]) -> None:
        with scope():
            for _ in range(calls):
                cell(x, x, seen)

    return step


def left_behind(step: Callable[[list[TensorWeakRef]], None], times: int) -> tuple[int, int]:
    """How many more objects and values there are after some steps."""
    for _ in range(20):  # a value is watched at first
        step([])
    seen: list[TensorWeakRef] = []
    before = len(gc.get_objects())
    for _ in range(times):
        step(seen)
    values = living(seen)
    seen.clear()
    return len(gc.get_objects()) - before, values


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("neurons", [100, LARGE])
@pytest.mark.parametrize(
    ("doing", "calls", "scope", "times"),
    [
        pytest.param(training, 1, nullcontext, 1000, id="training steps"),
        pytest.param(training, 10, nullcontext, 100, id="training with a loop of one's own"),
        pytest.param(training, 10, cached, 100, id="training with a loop in cached()"),
        pytest.param(looking, 10, nullcontext, 100, id="forwards in a loop of one's own"),
    ],
)
def test_a_thousand_forwards_leave_no_more_objects_and_no_values(
    doing: Callable[..., Callable[..., None]],
    calls: int,
    scope: Scope,
    times: int,
    neurons: int,
) -> None:
    more, values = left_behind(doing(attached(neurons), calls, scope), times)
    # Libraries that other tests have imported leave objects of their own at each step.
    raw, _ = left_behind(doing(Cell(neurons), calls, scope), times)
    assert more - raw < times / 10
    assert values <= 1  # that which may serve the next forward


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(("neurons", "kept"), [(SMALL, 1), (LARGE, 0)])
def test_a_large_value_goes_with_the_forward_that_computed_it(neurons: int, kept: int) -> None:
    cell = attached(neurons)
    x, seen = torch.ones(neurons), []
    for _ in range(5):
        cell(x, x, seen)
    assert living(seen) == kept


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("neurons", [100, LARGE])
def test_a_value_goes_with_its_cached_block(neurons: int) -> None:
    cell = attached(neurons)
    x, seen = torch.ones(neurons), []
    with cached():
        cell(x, x, seen)
        assert living(seen) == 1
    assert living(seen) == 0


@pytest.mark.usefixtures("no_collector")
def test_a_kept_value_goes_with_its_module() -> None:
    cell = attached(100)
    x, seen = torch.ones(100), []
    for _ in range(5):
        cell(x, x, seen)
    assert living(seen) == 1
    del cell
    gc.collect()  # torch's modules refer to themselves
    assert living(seen) == 0
