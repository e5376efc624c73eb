"""torch.compile: values and gradients of eager, no graph break of ours, never stale."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Softplus,
    cached,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.benchmarks.networks import LIBRARIES, Leak, inputs
from tests.support.cases import Case, N, spikes
from tests.support.graphs import is_of_a_map
from tests.support.modules import Doubled, FromRecord, Pair
from tests.support.subjects import NORSE, ROCKPOOL, SIX, THREE, Network, network, paths

# what torch.compile itself warns of, with plain modules too
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # 2.6
    pytest.mark.filterwarnings("ignore:Skipping serialization of skipfiles"),  # 2.6
]

X = spikes()[:4]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No code compiled before; and no module that is about to go, which SpikingJelly lists."""
    torch._dynamo.reset()
    gc.collect()
    yield
    torch._dynamo.reset()


class Graphs:
    """A backend that runs graphs as they are, and keeps them."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        self.graphs.append(graph)
        return graph.forward

    def nodes_of_maps(self) -> int:
        """How many operations come from parametrizations."""
        nodes = [node for graph in self.graphs for node in graph.graph.nodes]
        return sum(is_of_a_map(n) for n in nodes if n.op in ("call_function", "call_method"))


def gradients(net: nn.Module, output: Tensor) -> list[Tensor]:
    parameters = [p for p in nn.Module.parameters(net) if p.requires_grad]
    return list(torch.autograd.grad(output.square().sum(), parameters))


def assert_as_eager(compiled: Callable[[Tensor], Tensor], net: nn.Module, x: Tensor) -> None:
    output = compiled(x)
    found = gradients(net, output)
    expected = net(x)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(found, gradients(net, expected))


def graphs_of(net: nn.Module) -> list[int]:
    """Into how many graphs a network is compiled: at the first call, and after some more."""
    torch._dynamo.reset()
    gc.collect()
    counter = CompileCounter()
    compiled = torch.compile(net, backend=counter)
    compiled(X)
    count = counter.frame_count
    for _ in range(2):  # a state that an eager forward left behind is compiled for anew
        assert_as_eager(compiled, net, X)
    return [count, counter.frame_count]


@pytest.mark.parametrize("case", SIX, ids=str)
def test_values_and_gradients_of_eager_without_a_graph_break_of_ours(case: Case) -> None:
    if case is ROCKPOOL and torch.__version__ < "2.7":
        pytest.skip("torch 2.6 does not compile the plain module: mark_static_address")
    plain, attached = graphs_of(Network(case)), graphs_of(network(case))
    if case is NORSE and torch.__version__ < "2.7":
        # reading a plain field of a record breaks its graph: torch 2.6 has no `vars`
        assert attached[0] <= plain[0] + len(case.trains)
    elif case is ROCKPOOL:
        # torch gives up on the frames of its modules, and compiles what they call one by one:
        # a map is then a graph of its own
        assert attached[0] <= plain[0] + len(case.trains)
    else:
        assert attached == plain


@pytest.mark.parametrize("case", THREE, ids=str)
def test_inductor_gives_the_values_and_gradients_of_eager(case: Case) -> None:
    net = network(case)
    assert_as_eager(torch.compile(net), net, X[:2])


@pytest.mark.parametrize("case", THREE, ids=str)
def test_each_map_is_in_the_graph_once(case: Case) -> None:
    counts = []
    for steps in (2, 4):
        torch._dynamo.reset()
        backend = Graphs()
        torch.compile(network(case), backend=backend)(X[:steps])
        counts.append(backend.nodes_of_maps())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("case", THREE, ids=str)
def test_new_values_are_seen_without_recompiling(case: Case) -> None:
    net, counter = network(case), CompileCounter()
    checkpoint = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    compiled = torch.compile(net, backend=counter)
    for _ in range(2):  # a state that an eager forward left behind is compiled for anew
        assert_as_eager(compiled, net, X)
    count = counter.frame_count

    compiled(X).sum().backward()
    optimizer.step()
    assert_as_eager(compiled, net, X)
    owner, _, name = paths(case)[0].rpartition(".")
    setattr(net.get_submodule(owner), name, 0.9 * values(net)[paths(case)[0]])
    assert_as_eager(compiled, net, X)
    net.load_state_dict(checkpoint)
    assert_as_eager(compiled, net, X)
    assert counter.frame_count == count


@pytest.mark.parametrize("case", THREE, ids=str)
def test_parts_with_the_same_values_attached_share_compiled_code(case: Case) -> None:
    plain = nn.ModuleList([Network(case), Network(case)])
    attached = nn.ModuleList([Network(case), Network(case)])
    make_trainable(attached, [f"*.{path}" for path in paths(case)])
    counts = []
    for nets in (plain, attached):
        torch._dynamo.reset()
        counter = CompileCounter()
        compiled = torch.compile(lambda net, x: net(x), backend=counter)
        for net in nets:
            torch.testing.assert_close(compiled(net, X), net(X))
        counts.append(counter.frame_count)
    more = len(case.trains) if case is NORSE and torch.__version__ < "2.7" else 0
    assert counts[0] <= counts[1] <= counts[0] + more


@pytest.mark.parametrize("case", THREE, ids=str)
def test_neurons_compiled_inside_a_network(case: Case) -> None:
    net = network(case)
    expected = net(X)
    wanted = gradients(net, expected)
    net.neuron.compile(backend="eager")
    torch.testing.assert_close(net(X), expected)
    torch.testing.assert_close(gradients(net, net(X)), wanted)
    compiled = network(case)
    compiled.neuron = torch.compile(compiled.neuron, backend="eager")
    torch.testing.assert_close(compiled(X), expected)
    torch.testing.assert_close(gradients(compiled, compiled(X)), wanted)


@pytest.mark.parametrize("case", THREE, ids=str)
def test_attaching_after_torch_compile(case: Case) -> None:
    net = Network(case)
    compiled = torch.compile(net, backend="eager")
    compiled(X)
    make_trainable(compiled, paths(case))
    assert_as_eager(compiled, net, X)
    assert len(neuron_parameters(compiled)) == len(case.trains)


@pytest.mark.parametrize("case", THREE, ids=str)
def test_a_compiled_network_inside_cached_is_never_stale(case: Case) -> None:
    net = network(case)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    compiled = torch.compile(net, backend="eager")
    with cached():
        before = compiled(X)
        before.sum().backward()
        optimizer.step()
        assert_as_eager(compiled, net, X)
        assert not torch.equal(compiled(X), before)


def test_cached_inside_compiled_code_is_never_stale() -> None:
    cell = make_trainable(FromRecord(Pair()), ["p.tau", "p.gain"])

    def loop(x: Tensor) -> Tensor:
        v = torch.zeros_like(x)
        with cached():
            for _ in range(3):
                v = cell.step(x, v)
        return v

    compiled = torch.compile(loop, backend="eager")
    for value in (4.0, 6.0):
        cell.p.tau = value
        output, expected = compiled(torch.ones(3)), loop(torch.ones(3))
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(gradients(cell, output), gradients(cell, expected))


class Lines(logging.Handler):
    """Counts the lines of all guards that torch writes while code is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "TREE_GUARD_MANAGER" in message:
            self.count += sum(bool(line.strip()) for line in message.splitlines())


@contextmanager
def guard_lines() -> Iterator[Lines]:
    logger, lines = logging.getLogger("torch._dynamo.guards.__guards"), Lines()
    earlier = logger.handlers[:], logger.propagate
    torch._logging.set_logs(guards=True)
    logger.handlers[:], logger.propagate = [lines], False
    try:
        yield lines
    finally:
        torch._logging.set_logs()
        logger.handlers[:], logger.propagate = earlier


def leak(raw: bool) -> nn.Module:
    net = Leak(N)
    return net if raw else make_trainable(net, {"tau": ExpScaledLog()})


def leaky(raw: bool) -> nn.Module:
    return LIBRARIES["snnTorch"].layer(raw)


def lif_node(raw: bool) -> nn.Module:
    return LIBRARIES["SpikingJelly, single steps"].layer(raw)


# Network, and how many lines of guards it may have more than with raw Parameters. A value takes 50,
# which are the path to its raw tensor, its maps, their numbers, and the property; the class that
# wraps the forward takes 25. SpikingJelly's own class for a raw Parameter runs other code.
COMPILED = [(leak, 80), (leaky, 130), (lif_node, 160)]
every_compiled = pytest.mark.parametrize(("build", "more"), COMPILED)


def guards_of(net: nn.Module, x: Tensor) -> int:
    net(x).sum().backward()
    torch._dynamo.reset()
    with guard_lines() as lines:
        torch.compile(net, backend="aot_eager")(x).sum().backward()
    return lines.count


@every_compiled
def test_compiled_code_looks_at_little(build: Callable[[bool], nn.Module], more: int) -> None:
    if not hasattr(torch._C._dynamo.eval_frame, "set_code_exec_strategy"):
        pytest.skip("this torch compiles each hook as a frame of its own")
    x = inputs(4, 2, "cpu")[..., : N if build is leak else None]
    raw, attached = guards_of(build(True), x), guards_of(build(False), x)
    assert raw > 0
    assert attached <= raw + more


@every_compiled
def test_nothing_is_compiled_anew_after_the_first_step(
    build: Callable[[bool], nn.Module], more: int
) -> None:
    x = inputs(4, 2, "cpu")[..., : N if build is leak else None]
    counts: list[list[int]] = []
    for raw in (True, False):
        torch._dynamo.reset()
        net, counter = build(raw), CompileCounter()
        optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-2)
        compiled = torch.compile(net, backend=counter)
        counts.append([])
        for _ in range(4):
            optimizer.zero_grad()
            compiled(x).square().mean().backward()
            optimizer.step()
            counts[-1].append(counter.frame_count)
    # For the states that the first step has left behind, the libraries compile once more.
    assert counts[1] == counts[0]
    assert counts[1][1:] == counts[1][1:2] * 3


def single() -> tuple[nn.Module, Callable[[Tensor], Tensor], CompileCounter]:
    net, counter = leak(raw=False), CompileCounter()
    compiled = torch.compile(net, backend=counter)
    assert_as_eager(compiled, net, X_LEAK)
    return net, compiled, counter


X_LEAK = torch.rand(4, 2, N)


def test_constants_that_are_loaded_are_in_compiled_code() -> None:
    net, compiled, _ = single()
    other = Leak(N)
    with torch.no_grad():
        other.tau.mul_(7.0)
    make_trainable(other, {"tau": ExpScaledLog()})
    net.load_state_dict(other.state_dict())
    torch.testing.assert_close(values(net)["tau"], values(other)["tau"])
    assert_as_eager(compiled, net, X_LEAK)


@pytest.mark.parametrize("other", [Softplus(scale=3.0), ExpScaledLog(reference=2.0), Doubled()])
def test_a_map_that_is_exchanged_is_in_compiled_code(other: nn.Module) -> None:
    net, compiled, _ = single()
    net.parametrizations["tau"][0] = other
    assert_as_eager(compiled, net, X_LEAK)


def test_a_constant_that_is_set_is_in_compiled_code() -> None:
    net, compiled, _ = single()
    net.parametrizations["tau"][0].reference = 3.0
    assert_as_eager(compiled, net, X_LEAK)


@pytest.mark.parametrize("part", ["0", ""])
def test_a_hook_on_a_map_or_a_list_of_maps_is_in_compiled_code(part: str) -> None:
    net, compiled, _ = single()
    before = compiled(X_LEAK)
    heard = net.parametrizations["tau"].get_submodule(part)
    heard.register_forward_hook(lambda module, args, output: 2.0 * output)
    assert not torch.allclose(compiled(X_LEAK), before)
    assert_as_eager(compiled, net, X_LEAK)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype_is_in_compiled_code(dtype: torch.dtype) -> None:
    net, compiled, _ = single()
    net.to(dtype)
    assert_as_eager(compiled, net, X_LEAK.to(dtype))


def test_a_frozen_value_is_constant_in_compiled_code() -> None:
    net, compiled, _ = single()
    net.parametrizations["tau"].original.requires_grad_(False)
    output = compiled(X_LEAK)
    assert not output.requires_grad
    torch.testing.assert_close(output, net(X_LEAK))


def test_a_cell_compiled_inside_cached_is_never_stale() -> None:
    cell = make_trainable(FromRecord(Pair()), ["p.tau", "p.gain"])
    compiled = torch.compile(cell.step, backend="eager")
    x = v = torch.ones(3)
    with cached():
        for value in (4.0, 6.0, 8.0):
            cell.p.tau = value
            torch.testing.assert_close(compiled(x, v), cell.step(x, v))


class LooksFirst(nn.Module):
    """Looks at its time constant without gradients, and then computes with it."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.full((N,), 10.0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            top = self.tau.max()
        return (x / self.tau).clamp(max=top)


@pytest.mark.parametrize("each", [ExpScaledLog(), BoundedSigmoid(1.0, 99.0, "log"), Doubled()])
def test_a_first_read_without_gradients_leaves_them_to_the_next(each: nn.Module) -> None:
    net = make_trainable(LooksFirst(), {"tau": each})
    assert_as_eager(torch.compile(net, backend="aot_eager"), net, X_LEAK)
