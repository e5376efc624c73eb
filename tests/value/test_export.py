"""torch.export and torch.jit.trace keep the values alive; torch.jit.script is refused."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import Tensor, nn

from neuroparam import make_fixed, make_trainable, neuron_parameters
from neuroparam.errors import UnsupportedModuleError
from tests.support.cases import Case, spikes
from tests.support.graphs import is_of_a_map
from tests.support.modules import STORAGES, assert_unchanged, snapshot
from tests.support.subjects import PLAIN, SIX, THREE, Network, network

X = spikes()

# torch.export is not sure of the list of open scopes, which a forward leaves as it was
pytestmark = [
    pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),  # torch 2.6
    pytest.mark.filterwarnings("ignore:Node .* target .* does not reference"),  # torch 2.6
    pytest.mark.filterwarnings("ignore:Additional .* about get_attr references"),  # torch 2.6
]


def exported(net: nn.Module, x: Tensor, strict: bool) -> torch.export.ExportedProgram:
    # SpikingJelly lists all modules weakly, and one may go while torch looks at the list
    gc.collect()
    return torch.export.export(net, (x,), strict=strict)


def nodes_of_maps(program: torch.export.ExportedProgram) -> int:
    """How many operations come from parametrizations."""
    return sum(is_of_a_map(n) for n in program.graph.nodes if "val" in n.meta)


def move(net: nn.Module) -> None:
    """Changes every attached value, by enough that a spike comes or goes."""
    with torch.no_grad():
        for raw in neuron_parameters(net):
            raw.sub_(1.0)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("case", SIX, ids=str)
def test_an_exported_program_holds_the_raw_values_and_each_map_once(
    case: Case, strict: bool
) -> None:
    if strict and torch.__version__ < "2.7":
        pytest.skip("torch 2.6 exports no module with forward hooks in strict mode")
    try:
        exported(Network(case), X, strict)
    except Exception as error:  # nor is the plain module exported
        with pytest.raises(type(error)):
            exported(network(case), X, strict)
        return
    net = network(case)
    program = exported(net, X, strict)
    assert nodes_of_maps(program) == nodes_of_maps(exported(net, X[:5], strict)) > 0
    module = program.module()
    torch.testing.assert_close(module(X), net(X))

    before = net(X)
    move(net)
    own = dict(nn.Module.named_parameters(net))
    module.load_state_dict({key: own.get(key, kept) for key, kept in module.state_dict().items()})
    torch.testing.assert_close(module(X), net(X))
    assert not torch.equal(net(X), before)


def test_an_export_that_fails_leaves_no_value_behind() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError

    net = network(PLAIN)
    inner, net.neuron = net.neuron, nn.Sequential(net.neuron, Failing())
    with pytest.raises(ValueError, match=r"^$"):
        torch.export.export(net, (X,), strict=False)
    raw = neuron_parameters(inner)[0]
    before = inner.p.tau.clone()
    raw.data = raw.data + 0.1  # a change that the values of an open forward need not see
    assert not torch.equal(inner.p.tau, before)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*")
@pytest.mark.filterwarnings("ignore:The `size` property is deprecated")  # of Rockpool
@pytest.mark.parametrize("case", SIX, ids=str)
def test_a_trace_reads_the_values_of_the_module(case: Case) -> None:
    net = network(case)
    # unchecked: the names in a second graph differ where a module keeps its state
    traced = torch.jit.trace(net, (X,), check_trace=False)
    before = net(X)
    torch.testing.assert_close(traced(X), before)
    move(net)
    torch.testing.assert_close(traced(X), net(X))
    assert not torch.equal(net(X), before)
    counts = []
    for steps in (5, 10):
        graph = torch.jit.trace(net, (X[:steps],), check_trace=False).inlined_graph
        counts.append(sum("parametrizations" in node.scopeName() for node in graph.nodes()))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("case", THREE, ids=str)
def test_script_is_refused_and_changes_nothing(case: Case) -> None:
    net = network(case)
    for module in (net, net.neuron, nn.Sequential(net)):
        before = snapshot(module)
        with pytest.raises(UnsupportedModuleError, match=r"'?neuron\.[^.]*.*make_fixed"):
            torch.jit.script(module)
        assert_unchanged(module, before)


def test_a_fixed_copy_is_scripted() -> None:
    build, path = STORAGES["parameter, in a network"]
    net = make_trainable(build(), path)
    with pytest.raises(UnsupportedModuleError, match=path):
        torch.jit.script(net)
    scripted = torch.jit.script(make_fixed(copy.deepcopy(net)))
    torch.testing.assert_close(scripted(X), net(X))
