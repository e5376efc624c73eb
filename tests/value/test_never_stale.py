"""A loop of one's own around a cell reads the present value, whatever has changed raw meanwhile."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters
from torch.utils.checkpoint import checkpoint

from neuroparam import BoundedSigmoid, ExpScaledLog, Softplus, cached, errors, make_trainable
from neuroparam.units import Rate
from tests.support.inside import NeuronParameter

N = 3
CHAINS: dict[str, Callable[[], Any]] = {
    "exp": ExpScaledLog,
    "softplus": Softplus,
    "bounded": lambda: BoundedSigmoid(0.1, 9.0),
    "rate": lambda: [ExpScaledLog(), Rate()],
}


class Cell(nn.Module):
    """A single-step cell, called again and again by a loop outside."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.linspace(1.0, 3.0, N))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.tau


def cell_with(chain: str) -> nn.Module:
    return make_trainable(Cell(), {"tau": CHAINS[chain]()})


def raw_of(cell: nn.Module) -> Any:
    return cell.parametrizations.tau.original


def fresh(cell: nn.Module, raw: Tensor | None = None) -> Tensor:
    """The value, computed by the maps alone."""
    value = raw_of(cell) if raw is None else raw
    for each in cell.parametrizations.tau:
        value = each(value)
    return value


# ------------------------------------------------------------------- every way of changing raw

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda raw: torch.optim.SGD([raw], lr=0.1, foreach=False),
    "SGD foreach": lambda raw: torch.optim.SGD([raw], lr=0.1, foreach=True),
    "SGD fused": lambda raw: torch.optim.SGD([raw], lr=0.1, fused=True),
    "Adam foreach": lambda raw: torch.optim.Adam([raw], lr=0.1, foreach=True),
    "Adam fused": lambda raw: torch.optim.Adam([raw], lr=0.1, fused=True),
}


def by_optimizer(name: str) -> Callable[[nn.Module, Tensor], None]:
    def step(cell: nn.Module, new: Tensor) -> None:
        raw = raw_of(cell)
        raw.grad = (raw.detach() - new) * 10
        OPTIMIZERS[name](raw).step()
        raw.grad = None

    return step


def in_place(cell: nn.Module, new: Tensor) -> None:
    with torch.no_grad():
        raw_of(cell).copy_(new)


def by_data(cell: nn.Module, new: Tensor) -> None:
    raw_of(cell).data.copy_(new)


def by_data_add(cell: nn.Module, new: Tensor) -> None:
    raw_of(cell).data.add_(new - raw_of(cell).detach())


def by_foreach_on_data(cell: nn.Module, new: Tensor) -> None:
    torch._foreach_mul_([raw_of(cell).data], 0.5)


def by_new_data(cell: nn.Module, new: Tensor) -> None:
    raw_of(cell).data = new.clone()


def by_numpy(cell: nn.Module, new: Tensor) -> None:
    raw_of(cell).detach().numpy()[...] = new.numpy()


def by_dlpack(cell: nn.Module, new: Tensor) -> None:
    torch.from_dlpack(raw_of(cell).detach()).copy_(new)


def by_set(cell: nn.Module, new: Tensor) -> None:
    with torch.no_grad():
        raw_of(cell).set_(new.clone())


def by_state_dict(cell: nn.Module, new: Tensor) -> None:
    content = {key: value.clone() for key, value in cell.state_dict().items()}
    content["parametrizations.tau.original"] = new.clone()
    cell.load_state_dict(content)


def by_assigned_state_dict(cell: nn.Module, new: Tensor) -> None:
    content = {key: value.clone() for key, value in cell.state_dict().items()}
    content["parametrizations.tau.original"] = new.clone()
    cell.load_state_dict(content, assign=True)


def by_swap_tensors(cell: nn.Module, new: Tensor) -> None:
    torch.utils.swap_tensors(raw_of(cell), nn.Parameter(new.clone()))


def by_vector(cell: nn.Module, new: Tensor) -> None:
    vector_to_parameters(new.clone(), [raw_of(cell)])


def by_average(cell: nn.Module, new: Tensor) -> None:
    with torch.no_grad():
        raw_of(cell).lerp_(new, 0.3)


def by_another_thread(cell: nn.Module, new: Tensor) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(by_data, cell, new).result()


def in_inference_mode(cell: nn.Module, new: Tensor) -> None:
    with torch.inference_mode():
        raw_of(cell).copy_(new)


def by_assignment(cell: nn.Module, new: Tensor) -> None:
    cell.tau = fresh(cell, new).detach()


def by_memory_view(cell: nn.Module, new: Tensor) -> None:
    memoryview(raw_of(cell).detach().numpy()).cast("B").cast("f")[0] = 0.25


WAYS: dict[str, Callable[[nn.Module, Tensor], None]] = {
    **{name: by_optimizer(name) for name in OPTIMIZERS},
    **{
        way.__name__: way
        for way in (
            in_place,
            by_data,
            by_data_add,
            by_foreach_on_data,
            by_new_data,
            by_numpy,
            by_dlpack,
            by_set,
            by_state_dict,
            by_assigned_state_dict,
            by_swap_tensors,
            by_vector,
            by_average,
            by_another_thread,
            in_inference_mode,
            by_assignment,
            by_memory_view,
        )
    },
}


def assert_present(cell: nn.Module) -> None:
    """A read inside a call of the cell gives the value of the present raw tensor."""
    found = cell(torch.ones(N))
    torch.testing.assert_close(found.detach(), fresh(cell).detach(), rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore::neuroparam.errors.NeuroparamWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("calls_before", range(5))
def test_a_change_between_two_calls_is_seen(way: str, calls_before: int) -> None:
    cell = cell_with("exp")
    for _ in range(calls_before):
        assert_present(cell)
    before = fresh(cell).detach().clone()
    WAYS[way](cell, torch.tensor([-0.5, 0.25, 0.75]))
    assert not torch.equal(fresh(cell).detach(), before)
    assert_present(cell)
    assert_present(cell)


# ---------------------------------------------------------------------------- in any order


class Life(RuleBasedStateMachine):
    """Loops, changes, backward passes, copies and failures in any order."""

    @initialize(chain=st.sampled_from(sorted(CHAINS)))
    def build(self, chain: str) -> None:
        self.cell = cell_with(chain)
        self.graph: Tensor | None = None

    @rule(calls=st.integers(1, 5), way=st.sampled_from(["grad", "no_grad", "inference", "cached"]))
    def loop(self, calls: int, way: str) -> None:
        modes: dict[str, Callable[[], Any]] = {
            "grad": torch.enable_grad,
            "no_grad": torch.no_grad,
            "inference": torch.inference_mode,
            "cached": cached,
        }
        with modes[way]():
            for _ in range(calls):
                assert_present(self.cell)

    @rule(way=st.sampled_from(sorted(WAYS)), seed=st.integers(0, 99))
    def change(self, way: str, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            WAYS[way](self.cell, torch.randn(N, generator=generator))
        self.graph = None

    @rule(calls=st.integers(1, 5), kept=st.booleans())
    def gradients_are_right(self, calls: int, kept: bool) -> None:
        raw = raw_of(self.cell)
        raw.grad = None
        total = sum(self.cell(torch.ones(N)).square().sum() for _ in range(calls))
        expected = torch.autograd.grad(calls * fresh(self.cell).square().sum(), raw)[0]
        total.backward(retain_graph=kept)
        torch.testing.assert_close(raw.grad, expected, rtol=1e-5, atol=1e-6)
        if kept:
            total.backward()
            torch.testing.assert_close(raw.grad, 2 * expected, rtol=1e-5, atol=1e-6)
        raw.grad = None

    @rule()
    def truncated(self) -> None:
        """Backward passes in the middle of a loop, as in truncated backpropagation."""
        raw = raw_of(self.cell)
        raw.grad = None
        state = torch.ones(N)
        for _ in range(3):
            state = self.cell(state.detach()) + self.cell(torch.ones(N))
            state.sum().backward()
        assert bool(raw.grad.isfinite().all())
        raw.grad = None

    @rule()
    def two_losses(self) -> None:
        raw = raw_of(self.cell)
        first, second = self.cell(torch.ones(N)), self.cell(torch.ones(N))
        one = torch.autograd.grad(first.sum(), raw, retain_graph=True)[0]
        other = torch.autograd.grad(second.sum(), raw)[0]
        torch.testing.assert_close(one, other)

    @rule()
    def leave_a_graph(self) -> None:
        self.graph = self.cell(torch.ones(N))

    @precondition(lambda self: self.graph is not None)
    @rule()
    def use_the_graph_later(self) -> None:
        assert self.graph is not None
        (found,) = torch.autograd.grad(self.graph.sum(), raw_of(self.cell))
        (expected,) = torch.autograd.grad(fresh(self.cell).sum(), raw_of(self.cell))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        self.graph = None

    @rule(seed=st.integers(0, 99))
    def functional_call(self, seed: int) -> None:
        other = torch.randn(N, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        content = {"parametrizations.tau.original": other}
        found = torch.func.functional_call(self.cell, content, (torch.ones(N),))
        torch.testing.assert_close(found, fresh(self.cell, other), rtol=1e-6, atol=0)
        assert torch.autograd.grad(found.sum(), other)[0].any()

    @rule(reentrant=st.booleans())
    def checkpointing(self, reentrant: bool) -> None:
        raw = raw_of(self.cell)
        raw.grad = None
        x = torch.ones(N, requires_grad=True)
        for _ in range(2):
            checkpoint(self.cell, x, use_reentrant=reentrant).sum().backward()
        (expected,) = torch.autograd.grad(2 * fresh(self.cell).sum(), raw)
        torch.testing.assert_close(raw.grad, expected, rtol=1e-5, atol=1e-6)
        raw.grad = None

    @rule()
    def generator(self) -> None:
        """A loop that is suspended, while raw changes."""

        def steps():
            while True:
                yield self.cell(torch.ones(N))

        loop = steps()
        next(loop)
        by_data(self.cell, raw_of(self.cell).detach() + 0.125)
        self.graph = None
        torch.testing.assert_close(next(loop), fresh(self.cell), rtol=1e-6, atol=0)
        loop.close()

    @rule()
    def interrupted(self) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        handle = self.cell.register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.cell(torch.ones(N))
        handle.remove()

    @rule(by_pickle=st.booleans())
    def go_on_with_a_copy(self, by_pickle: bool) -> None:
        source = self.cell
        made = pickle.loads(pickle.dumps(source)) if by_pickle else copy.deepcopy(source)
        in_place(made, raw_of(made).detach() + 0.5)
        assert_present(made)
        assert_present(source)
        self.cell, self.graph = made, None

    @rule(frozen=st.booleans())
    def freeze(self, frozen: bool) -> None:
        raw_of(self.cell).requires_grad_(not frozen)
        found = self.cell(torch.ones(N))
        assert found.requires_grad is not frozen
        raw_of(self.cell).requires_grad_(True)
        self.graph = None

    @rule()
    def in_a_thread(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(assert_present, self.cell).result()

    @rule(to=st.sampled_from([torch.float64, torch.float32]))
    def convert(self, to: torch.dtype) -> None:
        self.cell.to(torch.float64)
        assert self.cell(torch.ones(N, dtype=torch.float64)).dtype == torch.float64
        self.cell.to(torch.float32)
        assert self.cell(torch.ones(N)).dtype == torch.float32
        self.graph = None

    @invariant()
    def the_value_is_the_present_one(self) -> None:
        if hasattr(self, "cell"):
            assert_present(self.cell)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_a_write_into_the_value_that_was_read_is_said() -> None:
    class Writing(Cell):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.tau.mul_(2)
            return x * self.tau

    cell = make_trainable(Writing(), {"tau": ExpScaledLog()})
    with pytest.raises(errors.AssignmentError):
        cell(torch.ones(N))


def test_nothing_is_kept_of_what_is_gone() -> None:
    cell = cell_with("exp")
    for _ in range(5):
        cell(torch.ones(N))
    gone = weakref.ref(raw_of(cell)), weakref.ref(cell)
    del cell
    gc.collect()
    assert [each() for each in gone] == [None, None]


def evaluations(run: Callable[[], object]) -> int:
    count = 0
    evaluate = NeuronParameter.evaluated

    def counted(parameter: NeuronParameter) -> Tensor:
        nonlocal count
        count += 1
        return evaluate(parameter)

    with patch.object(NeuronParameter, "evaluated", counted):
        run()
    return count


@pytest.mark.parametrize("chain", CHAINS)
def test_a_training_step_with_a_loop_of_ones_own_evaluates_once(chain: str) -> None:
    cell = cell_with(chain)
    optimizer = torch.optim.Adam(cell.parameters(), lr=1e-2)

    def step() -> None:
        optimizer.zero_grad()
        sum(cell(torch.ones(N)).square().sum() for _ in range(100)).backward()
        optimizer.step()

    assert evaluations(step) == 2  # The first loop shows that there is one.
    assert [evaluations(step) for _ in range(3)] == [1, 1, 1]
    with torch.no_grad():
        assert evaluations(lambda: [cell(torch.ones(N)) for _ in range(100)]) == 1


def test_a_map_of_ones_own_is_evaluated_in_each_call() -> None:
    class Noisy(ExpScaledLog):
        def forward(self, raw: Tensor) -> Tensor:
            return super().forward(raw) + 0.01 * torch.rand_like(raw)

    cell = make_trainable(Cell(), {"tau": Noisy()})
    assert len({cell(torch.ones(N)).sum().item() for _ in range(10)}) == 10


def test_large_values_are_not_kept() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tau = torch.ones(20_000)

        def forward(self) -> Tensor:
            return self.tau

    cell = make_trainable(Large(), {"tau": ExpScaledLog()})
    assert evaluations(lambda: [cell() for _ in range(5)]) == 5
    gone = weakref.ref(cell())
    gc.collect()
    assert gone() is None


def test_hooks_on_a_map_run_in_each_call() -> None:
    cell = cell_with("exp")
    seen = []
    for _ in range(4):
        cell(torch.ones(N))
    cell.parametrizations.tau[0].register_forward_hook(lambda *_: seen.append(1))
    for _ in range(4):
        cell(torch.ones(N))
    assert len(seen) == 4
