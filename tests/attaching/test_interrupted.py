"""A KeyboardInterrupt at any line leaves a module as it was, or completely changed."""

from __future__ import annotations

import contextlib
import gc
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

import neuroparam
from neuroparam import make_fixed, make_trainable, neuron_parameters, values
from tests.support.modules import FromRecord, Nest, Pair, assert_unchanged, snapshot

INSIDE = os.path.dirname(neuroparam.__file__)


@contextlib.contextmanager
def at_each_line(happens: Callable[[str, int], None]) -> Iterator[None]:
    """Within it, `happens` is called before each line of the library, with its file and number."""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(INSIDE):
            return None
        # Python calls this for a `with` statement at its end too, before it leaves the block: an
        # interrupt there would leave gradients switched off.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not line.startswith("with "):
            happens(frame.f_code.co_filename, frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def points(call: Callable[[], object]) -> list[int]:
    """Which lines to interrupt, counted from the first: each where it runs last, and some more."""
    last: dict[tuple[str, int], int] = {}
    count = 0

    def note(*line: Any) -> None:
        nonlocal count
        last[line] = count
        count += 1

    gc.collect()  # What other tests have left would make the first call longer than the later ones.
    with at_each_line(note):
        call()
    return sorted({*last.values(), *range(0, count, 61)})


def interrupted(call: Callable[[], object], point: int) -> bool:
    """Makes a call that is interrupted before the line of that number, if it runs so many."""
    left = point

    def count_down(*line: object) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise KeyboardInterrupt

    try:
        with at_each_line(count_down):
            call()
    except KeyboardInterrupt:
        return True
    return False


class Everything(nn.Module):
    """A value of each kind of storage, between others."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.number = self.third = 3.0
        self.tensor = torch.tensor(4.0)
        self.one, self.two = (nn.Parameter(torch.tensor(number)) for number in (4.0, 5.0))
        self.register_buffer("hidden", torch.tensor(4.0), persistent=False)
        self.register_buffer("saved", torch.tensor(4.0))
        self.inner = FromRecord(Nest(Pair(torch.tensor(4.0), 2.0)))


NAMES = ["number", "tensor", "one", "two", "hidden", "saved", "tau", "rho"]


def plain() -> Everything:
    class Local(Everything):
        """So that the injected class is made anew each time."""

    module = Local()
    module.one.grad, module.two.grad = torch.tensor(7.0), torch.tensor(8.0)
    module.two.requires_grad_(False)
    return module


def attach(module: nn.Module) -> nn.Module:
    # A value that gets a shape becomes another Parameter.
    return make_trainable(module, NAMES, shape={"two": (3,)})


def attached() -> nn.Module:
    module = attach(plain())
    module.two = torch.tensor([4.0, 5.0, 6.0])
    for raw in neuron_parameters(module):
        raw.grad = torch.full_like(raw, 7.0)
    return module


def state(module: nn.Module) -> list[object]:
    return [*module.state_dict(), *(type(part).__name__ for part in module.modules())]


@pytest.mark.parametrize(("build", "call"), [(plain, attach), (attached, make_fixed)])
def test_an_interrupt_at_any_line_leaves_all_as_it_was_or_completely_changed(build, call) -> None:
    call(build())  # What is looked up once is looked up now.
    example = build()
    every_point = points(lambda: call(example))
    whole = state(example)
    unchanged = []
    for point in every_point:
        module = build()
        parameters = list(module.parameters())
        before, memory = snapshot(module), [p.data_ptr() for p in parameters]
        optimizer = torch.optim.SGD(parameters, lr=0.0)
        if interrupted(lambda module=module: call(module), point) and state(module) != whole:
            assert_unchanged(module, before)
            assert [p.data_ptr() for p in parameters] == memory
            optimizer.step()
            call(module)
            unchanged.append(point)
        assert state(module) == whole
    # Looking at what other tests have left alive takes lines too, after the change.
    assert len(unchanged) > 0.5 * len(every_point)


@pytest.mark.parametrize("assign", [False, True])
def test_an_interrupt_at_any_line_of_a_load_leaves_each_value_as_it_was_or_loaded(
    assign: bool,
) -> None:
    """Never raw numbers of one network with constants of another."""

    def build(factor: float) -> nn.Module:
        module = plain()
        for name in NAMES[:6]:
            part = getattr(module, name)
            new = factor * part
            setattr(module, name, nn.Parameter(new) if isinstance(part, nn.Parameter) else new)
        return attach(module)

    source = build(3.0)
    for raw in neuron_parameters(source):
        torch.nn.init.constant_(raw, 0.5)
    new, old = values(source), values(build(1.0))

    def load(module: nn.Module) -> None:
        module.load_state_dict(source.state_dict(), assign=assign)

    load(build(1.0))
    some_were_old = 0
    for point in points(lambda: load(build(1.0))):
        module = build(1.0)
        interrupted(lambda module=module: load(module), point)
        for path, value in values(module).items():
            assert torch.equal(value, new[path]) or torch.equal(value, old[path]), path
            some_were_old += not torch.equal(value, new[path])
        load(module)
        assert all(map(torch.equal, values(module).values(), new.values()))
    assert some_were_old
