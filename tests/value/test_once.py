"""Once per forward: each map is evaluated once, and never gives a stale value."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neuroparam import (
    ExpScaledLog,
    Softplus,
    cached,
    make_trainable,
    neuron_parameters,
)
from tests.support.counting import Cell, Counting, build, evaluations
from tests.support.inside import once
from tests.support.modules import INPUT, FromRecord, Pair


@pytest.fixture(autouse=True)
def _reset():
    yield
    left, once.active.scopes = once.active.scopes, []
    assert not left, "a scope was left open"


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_once_per_map_and_forward(steps: int) -> None:
    module = build(steps)
    assert evaluations(lambda: module(INPUT)) == 2
    assert evaluations(lambda: [module(INPUT).sum().backward() for _ in range(3)]) == 6


def test_without_a_forward_each_read_evaluates() -> None:
    module = build()
    assert evaluations(lambda: [module.p.tau for _ in range(5)]) == 5
    assert evaluations(lambda: module.step(INPUT, INPUT)) == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_in_every_gradient_mode(mode) -> None:
    module = build()
    with mode():
        assert evaluations(lambda: module(INPUT)) == 2
    module(INPUT).sum().backward()  # and what was made there is not used here
    assert neuron_parameters(module)[0].grad is not None


@pytest.mark.parametrize(("mode", "times"), [(torch.no_grad, 1), (torch.inference_mode, 2)])
def test_a_first_read_without_gradients_inside_a_forward(mode, times: int) -> None:
    class Peeks(FromRecord):
        def forward(self, x: Tensor) -> Tensor:
            with mode():
                torch.zeros_like(self.p.tau)
            return super().forward(x)

    module = make_trainable(Peeks(Pair()), {"tau": Counting()})

    def train() -> None:
        module(INPUT).sum().backward()

    assert evaluations(train) == times
    assert neuron_parameters(module)[0].grad is not None


def test_a_module_built_in_inference_mode_is_evaluated_once_per_forward() -> None:
    with torch.inference_mode():
        module = build()
        assert all(raw.is_inference() for raw in neuron_parameters(module))
        assert evaluations(lambda: module(INPUT)) == 2
    with torch.no_grad():
        assert evaluations(lambda: module(INPUT)) == 2
    assert evaluations(lambda: module(INPUT).sum().backward()) == 2
    assert neuron_parameters(module)[0].grad is not None


def test_a_pre_hook_that_was_there_before_reads_the_value_of_the_forward() -> None:
    class Reads(FromRecord):
        def forward(self, x: Tensor) -> Tensor:
            self.read = self.p.tau
            return super().forward(x)

    seen: list[Tensor] = []
    module = nn.Sequential(nn.Identity(), Reads(Pair()))
    module.register_forward_pre_hook(lambda m, x: seen.extend([m[1].p.tau, m[1].p.tau]))
    make_trainable(module, {"tau": Counting()})
    assert evaluations(lambda: module(INPUT)) == 1
    assert seen[0] is seen[1] is module[1].read


def test_gradients_enabled_only_inside_a_forward() -> None:
    class Enables(FromRecord):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            with torch.enable_grad():
                return super().forward(x)

    module = make_trainable(Enables(Pair()), {"tau": Counting()})
    with torch.no_grad():
        output = module(INPUT)
    output.sum().backward()
    assert neuron_parameters(module)[0].grad is not None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_forward(error) -> None:
    class Fails(FromRecord):
        fails = True

        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            if self.fails:
                raise error
            return output

    module = make_trainable(Fails(Pair()), {"tau": Counting()})
    for _ in range(3):
        with pytest.raises(error):
            module(INPUT)
    module.fails = False
    if error is ValueError:
        assert not once.active.scopes
    # torch runs no hook after an interrupt; the next forward evaluates anew all the same
    assert evaluations(lambda: module(INPUT).sum().backward()) == 1
    assert evaluations(lambda: module(INPUT)) == 1


def test_an_interrupted_forward_is_not_felt_by_another_network() -> None:
    class Stopped(FromRecord):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise KeyboardInterrupt

    module = make_trainable(nn.Sequential(make_trainable(Stopped(Pair()), "tau")), "gain")
    gone = weakref.ref(module)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            module(INPUT)
    del module
    other = build()
    with torch.no_grad():
        other(INPUT)
        assert not once.active.scopes
        assert evaluations(lambda: other(INPUT)) == 2
    gc.collect()
    assert gone() is None


def test_nested_modules_join_the_outer_forward() -> None:
    inner = make_trainable(FromRecord(Pair()), {"tau": Counting()})

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.bias = 1.0

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(4):
                x = self.inner(x) + self.bias
            return x

    outer = Outer()
    assert evaluations(lambda: outer(INPUT)) == 4  # given was the inner one: once per forward of it
    make_trainable(outer, {"bias": Counting()})
    assert evaluations(lambda: outer(INPUT)) == 2
    assert evaluations(lambda: inner(INPUT)) == 1


def test_a_module_that_calls_itself() -> None:
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tau = 2.0

        def forward(self, x: Tensor, depth: int) -> Tensor:
            return self(x, depth - 1) / self.tau * self.tau / self.tau if depth else x

    module = make_trainable(Recursive(), {"tau": Counting()})
    output = module(torch.ones(1), 3)
    torch.testing.assert_close(output, torch.tensor([0.125]))
    output.backward()


# ----------------------------------------------------------------------------------- cached()


def test_cached_around_a_loop_of_single_steps() -> None:
    cell = build()

    def loop() -> Tensor:
        v = torch.zeros(3)
        for _ in range(10):
            v = cell.step(INPUT, v)
        return v

    def with_cached() -> None:
        with cached():
            loop().sum().backward()

    assert evaluations(loop) == 20
    assert evaluations(with_cached) == 2


def test_cached_spans_forwards() -> None:
    cell = make_trainable(Cell(), {"rate": Counting()})
    with cached():
        assert evaluations(lambda: [cell(INPUT) for _ in range(10)]) == 1
        with cached():
            assert evaluations(lambda: cell(INPUT)) == 1
        assert evaluations(lambda: cell(INPUT)) == 0
    assert evaluations(lambda: cell(INPUT)) == 1


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_cached_sees_an_optimizer_step(options) -> None:
    cell = make_trainable(Cell(), {"rate": Counting()})
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.5, **options)
    with cached():
        for _ in range(3):
            before = cell.rate.item()
            cell(INPUT).sum().backward()
            with torch.no_grad():
                assert cell.rate.item() == before
            optimizer.step()
            assert cell.rate.item() != before
            assert cell(torch.ones(1)).item() == pytest.approx(
                0.5 * neuron_parameters(cell)[0].exp().item()
            )


def test_cached_sees_every_other_change() -> None:
    cell = make_trainable(Cell(), {"rate": ExpScaledLog(reference=0.5)})
    checkpoint = {
        k: v.clone() if isinstance(v, Tensor) else v for k, v in cell.state_dict().items()
    }
    with cached():
        assert cell.rate.item() == 0.5
        cell.rate = 0.7
        assert cell.rate.item() == pytest.approx(0.7)
        cell.load_state_dict(checkpoint)
        assert cell.rate.item() == 0.5
        with torch.no_grad():
            neuron_parameters(cell)[0].add_(1.0)
        assert cell.rate.item() == pytest.approx(0.5 * torch.e)
        cell.load_state_dict(checkpoint, assign=True)
        assert cell.rate.item() == 0.5
        cell.double()
        assert cell.rate.dtype == torch.float64
        neuron_parameters(cell)[0].data = torch.ones(())
        assert cell.rate.item() == pytest.approx(0.5 * torch.e)


def test_cached_first_read_under_no_grad_or_inference_mode() -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        cell = make_trainable(Cell(), "rate")
        with cached():
            with mode():
                cell(INPUT)
            cell(INPUT).sum().backward()
            with torch.no_grad():
                cell(INPUT)
            cell(INPUT.clone().requires_grad_()).sum().backward()
        assert neuron_parameters(cell)[0].grad is not None


def test_cached_does_not_let_a_value_of_inference_mode_out_of_it() -> None:
    cell = make_trainable(Cell(), "rate")
    neuron_parameters(cell)[0].requires_grad_(False)
    x = INPUT.clone().requires_grad_()
    with cached():
        with torch.inference_mode():
            assert cell.rate.is_inference()
        with torch.no_grad():
            assert not cell.rate.is_inference()
    with cached():
        with torch.inference_mode():
            cell(x)
        cell(x).sum().backward()
    assert x.grad is not None


def test_cached_sees_changes_in_a_module_built_in_inference_mode() -> None:
    with torch.inference_mode():
        cell = make_trainable(Cell(), "rate")
        with cached():
            assert cell.rate.item() == 0.5
            cell.rate = 0.7
            assert cell.rate.item() == pytest.approx(0.7)
            neuron_parameters(cell)[0].add_(1.0)
            assert cell.rate.item() == pytest.approx(0.7 * torch.e)


def test_cached_survives_several_backwards() -> None:
    reference = make_trainable(Cell(), "rate")
    cell = make_trainable(Cell(), "rate")
    for _ in range(3):
        reference(INPUT).sum().backward()
    with cached():
        for _ in range(3):
            cell(INPUT).sum().backward()
    assert torch.equal(neuron_parameters(cell)[0].grad, neuron_parameters(reference)[0].grad)


def test_cached_honours_functional_call_and_transforms() -> None:
    cell = make_trainable(Cell(), "rate", init=0.5)
    name, raw = next(iter(cell.named_parameters()))
    with cached():
        assert cell(torch.ones(1)).item() == 0.5
        for shift in (1.0, 2.0):
            changed = torch.func.functional_call(cell, {name: raw + shift}, torch.ones(1))
            assert changed.item() == pytest.approx(0.5 * torch.e**shift)
        assert cell(torch.ones(1)).item() == 0.5

        def loss(raw: Tensor) -> Tensor:
            return torch.func.functional_call(cell, {name: raw}, torch.ones(1)).sum()

        raws = torch.tensor([0.0, 1.0, 2.0])
        torch.testing.assert_close(torch.func.grad(loss)(raw.detach()), torch.tensor(0.5))
        torch.testing.assert_close(torch.vmap(loss)(raws), 0.5 * raws.exp())
        torch.testing.assert_close(torch.vmap(torch.func.grad(loss))(raws), 0.5 * raws.exp())
        # a parameter from outside, read first inside a transform, does not escape from it
        torch.vmap(lambda x: cell(x))(torch.ones(4))
        torch.func.grad(lambda x: cell(x).sum())(torch.ones(4))
        cell(torch.ones(1)).backward()


def test_cached_left_open_by_a_generator() -> None:
    cell = make_trainable(Cell(), {"rate": Counting()})

    def generate():
        with cached():
            yield cell.rate
            yield cell.rate

    suspended = generate()
    next(suspended)
    with torch.no_grad():
        neuron_parameters(cell)[0].add_(1.0)
    assert cell.rate.item() == pytest.approx(0.5 * torch.e)
    assert next(suspended).item() == pytest.approx(0.5 * torch.e)
    suspended.close()
    assert not once.active.scopes


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_each_step(reentrant: bool) -> None:
    class Checkpointed(FromRecord):
        def forward(self, x: Tensor) -> Tensor:
            v = torch.zeros_like(x)
            for _ in range(self.steps):
                v = checkpoint(self.step, x, v, use_reentrant=reentrant)
            return v

    x = INPUT.clone().requires_grad_()
    names = {"tau": ExpScaledLog(), "gain": Softplus()}
    checkpointed = make_trainable(Checkpointed(Pair()), names)
    plain = make_trainable(FromRecord(Pair()), names)
    for module in (checkpointed, plain):
        module(x).sum().backward()
    for mine, other in zip(neuron_parameters(checkpointed), neuron_parameters(plain), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


# ----------------------------------------------------------------------- what the graph holds


def nodes(output: Tensor) -> int:
    pending, seen = [output.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending += [following for following, _ in node.next_functions]
    return len(seen)


def test_the_graph_grows_no_faster_than_with_plain_parameters() -> None:
    extra = []
    for steps in (1, 10, 100):
        plain = FromRecord(Pair(nn.Parameter(torch.tensor(4.0))), steps)
        attached = make_trainable(FromRecord(Pair(), steps), {"tau": ExpScaledLog()})
        extra.append(nodes(attached(INPUT)) - nodes(plain(INPUT)))
    assert extra[0] == extra[1] == extra[2]
    assert extra[0] <= 5


def test_value_and_gradient_are_those_of_the_plain_map() -> None:
    module = make_trainable(FromRecord(Pair()), {"tau": Softplus(lower=0.5)})
    (raw,) = neuron_parameters(module)
    module(INPUT).sum().backward()
    plain = FromRecord(Pair())
    twin = raw.detach().clone().requires_grad_()
    plain.p = Pair(module.p.parametrizations["tau"][0](twin))
    plain(INPUT).sum().backward()
    # the slope is one formula, and not a product of many
    torch.testing.assert_close(raw.grad, twin.grad, rtol=1e-6, atol=0)
