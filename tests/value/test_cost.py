"""What training neuron parameters costs, where it can be counted exactly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from types import FrameType, FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Rate,
    Softplus,
    cached,
    make_trainable,
)
from neuroparam.units import Above
from tests.benchmarks.networks import LIBRARIES, Reader, inputs
from tests.support.inside import attached, fused

every_library = pytest.mark.parametrize("library", LIBRARIES)

# what each attached value adds to the graph of a forward, whatever its length and its maps
NODES_OF_A_CHAIN = 1
SHORT, LONG = 5, 50


def nodes(output: Tensor) -> int:
    """How many nodes the autograd graph behind a tensor has."""
    seen = {output.grad_fn}
    pending = [output.grad_fn]
    while pending:
        for following, _ in pending.pop().next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                pending.append(following)
    return len(seen)


def saved_bytes(module: nn.Module, x: Tensor) -> int:
    """How many bytes a forward keeps for its backward, each memory once."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(x)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(storages.values())


class Reads(TorchDispatchMode):
    """Counts the operations that hand a number to Python, for which a GPU has to be waited for."""

    OPERATIONS = frozenset(
        {
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.is_nonzero.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.equal.default,
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation in self.OPERATIONS
        return operation(*args, **(kwargs or {}))


def reads(forward: Callable[[], Tensor]) -> int:
    with Reads() as counted:
        forward()
    return counted.count


def warm(library: str, raw: bool) -> nn.Module:
    """After its first forward and backward, which the gradient guard looks at."""
    layer = LIBRARIES[library].layer(raw)
    layer(inputs(SHORT, 4, "cpu")).sum().backward()
    return layer


@every_library
def test_each_map_is_evaluated_once_per_forward(library: str) -> None:
    layer = warm(library, raw=False)
    counts = {a.path: 0 for a in attached(layer)}
    for a in attached(layer):
        a.parameter.register_forward_hook(
            lambda *_, path=a.path: counts.__setitem__(path, counts[path] + 1)
        )
    layer(inputs(LONG, 4, "cpu"))
    assert counts == dict.fromkeys(counts, 1)


@every_library
def test_the_graph_has_as_many_nodes_as_with_raw_parameters(library: str) -> None:
    """But for one node of each chain of maps, however many time steps."""
    added = []
    for steps in (SHORT, LONG):
        raw, layer = warm(library, raw=True), warm(library, raw=False)
        x = inputs(steps, 4, "cpu")
        added.append(nodes(layer(x)) - nodes(raw(x)))
    assert added[1] <= added[0] <= NODES_OF_A_CHAIN * len(list(attached(layer)))


@every_library
def test_as_many_bytes_are_saved_as_with_raw_parameters(library: str) -> None:
    added = []
    for steps in (SHORT, LONG):
        raw, layer = warm(library, raw=True), warm(library, raw=False)
        x = inputs(steps, 4, "cpu")
        added.append(saved_bytes(layer, x) - saved_bytes(raw, x))
    assert added[1] <= added[0] <= 0  # a chain keeps what its slope needs beside the graph


CHAINS: dict[str, tuple[Callable[[], list[nn.Module]], int]] = {
    "exp": (lambda: [ExpScaledLog(reference=1.0)], 1),
    "softplus": (lambda: [Softplus(scale=1.0)], 1),
    "sigmoid": (lambda: [BoundedSigmoid(0.0, 1.0)], 1),
    "sigmoid, log": (lambda: [BoundedSigmoid(0.1, 1.0, spacing="log")], 4),
    "exp, rate": (lambda: [ExpScaledLog(reference=1.0), Rate()], 3),
    "softplus, above, decay": (lambda: [Softplus(scale=1.0), Above(0.1), Decay(0.1)], 5),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_a_chain_keeps_for_its_gradient(name: str) -> None:
    """One node, and as many tensors of the size of raw as the table says."""
    build, tensors = CHAINS[name]
    raw = torch.zeros(1000, requires_grad=True)
    value = fused(build(), raw)
    assert value is not None
    assert nodes(value) == 1 + NODES_OF_A_CHAIN  # the first one accumulates the gradient
    _, _, _, pullbacks = value.grad_fn.kept
    kept = [
        cell.cell_contents
        for function in unfolded(pullbacks)
        for cell in function.__closure__ or ()
        if isinstance(cell.cell_contents, Tensor)
    ]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    own = raw.untyped_storage().data_ptr()
    large = [size for where, size in storages.items() if where != own and size > 8]
    assert sum(large) == tensors * raw.nbytes


def unfolded(functions: Iterable[Callable[..., Any]]) -> Iterator[Callable[..., Any]]:
    """Functions, and those that they call."""
    for function in functions:
        yield function
        cells = (cell.cell_contents for cell in function.__closure__ or ())
        yield from unfolded(each for each in cells if isinstance(each, FunctionType))


@every_library
def test_no_forward_waits_for_a_number(library: str) -> None:
    """Once the guard has looked: no `.item()`, and no branch on a value."""
    raw, layer = warm(library, raw=True), warm(library, raw=False)
    x = inputs(SHORT, 4, "cpu")
    assert reads(lambda: layer(x)) <= reads(lambda: raw(x))


def calls(forward: Callable[[], object]) -> int:
    """How many python functions of this library a forward calls."""
    count = 0

    def called(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        module = frame.f_globals.get("__name__", "")
        count += event == "call" and module.partition(".")[0] == "neuroparam"

    sys.setprofile(called)
    try:
        forward()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(("scope", "expected"), [(nullcontext, 1), (cached, 3)])
def test_a_read_after_the_first_is_few_calls(scope: Callable, expected: int) -> None:
    """In a forward the property serves it; in a `cached()` block more can have happened."""
    reader = make_trainable(Reader(), {"tau": ExpScaledLog()})
    reader(1).backward()
    for _ in range(7):
        reader(1)  # the 1st, 2nd, 4th, 8th ... are looked at for writes in place
    with scope():
        reader(1)
        few, many = (calls(partial(reader, count)) for count in (SHORT, LONG))
    assert many - few == expected * (LONG - SHORT)


def test_reads_are_counted() -> None:
    assert reads(lambda: torch.ones(1) * torch.ones(1).item()) == 1
    assert reads(lambda: torch.ones(1) * bool((torch.ones(2) > 0).all())) == 1
