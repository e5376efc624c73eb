"""torch.compile sees one evaluation, no break, and never goes stale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from neuroparam import ExpScaledLog, Softplus, make_trainable, neuron_parameters
from tests.modules import FromRecord, Pair

INPUT = torch.linspace(-1, 2, 3)


def build() -> nn.Module:
    return make_trainable(FromRecord(Pair(), 5), {"tau": ExpScaledLog(), "gain": Softplus()})


def test_one_graph_one_evaluation() -> None:
    torch._dynamo.reset()
    module = build()
    module(INPUT).sum().backward()
    module(INPUT)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(module, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(INPUT), module(INPUT))
    assert len(graphs) == 1
    called = [str(node.target) for node in graphs[0].graph.nodes]
    assert sum("log1p" in name for name in called) == 1


def test_attaching_to_a_compiled_module() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(FromRecord(Pair(), 5), backend="eager")
    make_trainable(compiled, "p.tau")
    compiled(INPUT).sum().backward()
    (raw,) = neuron_parameters(compiled)
    assert raw.grad.abs() > 0


def test_values_and_gradients_equal_and_nothing_recompiles() -> None:
    torch._dynamo.reset()
    module, counter = build(), CompileCounter()
    for _ in range(2):
        module(INPUT).sum().backward()
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for value in (4.0, 6.0, 9.0):
        module.p.tau = value
        results: list[Tensor] = []
        for forward in (module, compiled):
            module.zero_grad()
            output = forward(INPUT)
            output.square().sum().backward()
            results += [output.detach(), *(p.grad.clone() for p in neuron_parameters(module))]
        half = len(results) // 2
        for eager, traced in zip(results[:half], results[half:], strict=True):
            torch.testing.assert_close(traced, eager)
        optimizer.step()
    assert counter.frame_count == 1
