"""Export to NIR of trained, per-neuron, fixed networks, by the installed versions.

Where a library's own exporter is broken, it is the plain module that does not export, and a test
pins how. `docs/nir.md` says the same in words: a test that fails here because a release mends an
exporter asks for a change there.
"""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nir
import nirtorch
import norse.torch as norse
import numpy as np
import pytest
import sinabs
import sinabs.layers as sl
import snntorch as snn
import torch
from rockpool.nn.combinators import Sequential as RockpoolSequential
from rockpool.nn.modules import ExpSynTorch, LIFNeuronTorch, LIFTorch, LinearTorch
from rockpool.nn.modules.torch.nir import to_nir as rockpool_to_nir
from sinabs.nir import to_nir as sinabs_to_nir
from snntorch.export_nir import export_to_nir as snntorch_to_nir
from snntorch.import_nir import import_from_nir as snntorch_from_nir
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.nir_exchange import export_to_nir as spikingjelly_to_nir
from torch import Tensor, nn

from neuroparam import (
    ExpScaledLog,
    Quantity,
    find,
    make_fixed,
    make_trainable,
    param_groups,
    values,
)

# nirtorch 2.0 announces that this function goes; all exporters but SpikingJelly's call it
pytestmark = pytest.mark.filterwarnings(
    r"ignore:nirtorch\.extract_nir_graph is being deprecated:DeprecationWarning"
)

TAU_MEM, TAU_SYN, THRESHOLD = Quantity.TAU_MEM, Quantity.TAU_SYN, Quantity.THRESHOLD
N, STEPS, DT = 4, 20, 1e-3

Export = Callable[[nn.Module], nir.NIRGraph]
Formula = Callable[[Tensor], Tensor]

# ------------------------------------------------------------------- networks of each library


def spikes() -> Tensor:
    """Of shape (STEPS, batch 1, 3)."""
    drawn = torch.rand(STEPS, 1, 3, generator=torch.Generator().manual_seed(0))
    return (drawn < 0.7).float()


def plain_network(cell: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, N), cell)


def norse_network(cell: nn.Module) -> nn.Module:
    return norse.SequentialState(nn.Linear(3, N), cell)


def rockpool_network(cell: nn.Module) -> nn.Module:
    return RockpoolSequential(LinearTorch((3, N)), cell)


def norse_loop(net: nn.Module) -> Tensor:
    state, outputs = None, []
    for part in spikes():
        output, state = net(part, state)
        outputs.append(output)
    return torch.stack(outputs)


def norse_whole(net: nn.Module) -> Tensor:
    return net(spikes())[0]


def snntorch_loop(net: Any) -> Tensor:
    net[1].reset_mem()
    return torch.stack([net(part) for part in spikes()])


def spikingjelly_loop(net: nn.Module) -> Tensor:
    functional.reset_net(net)
    return torch.stack([net(part) for part in spikes()])


def sinabs_whole(net: nn.Module) -> Tensor:
    sinabs.reset_states(net)
    return net(spikes().transpose(0, 1))


def sinabs_squeezed(net: nn.Module) -> Tensor:
    sinabs.reset_states(net)
    return net(spikes().flatten(0, 1))


def rockpool_whole(net: nn.Module) -> Tensor:
    return net(spikes().transpose(0, 1))[0]


# -------------------------------------------------------------- the libraries' own exporters

STEP, TIME, FLAT = spikes()[0], spikes().transpose(0, 1), spikes().flatten(0, 1)


def by_norse(net: nn.Module, sample: Tensor = STEP) -> nir.NIRGraph:
    return norse.to_nir(net, sample)


def by_snntorch(net: nn.Module) -> nir.NIRGraph:
    return snntorch_to_nir(net, STEP)


def by_spikingjelly(net: nn.Module) -> nir.NIRGraph:
    return spikingjelly_to_nir(net, STEP)


def by_sinabs(net: nn.Module) -> nir.NIRGraph:
    return sinabs_to_nir(net, FLAT if isinstance(net[1], sl.LIFSqueeze) else TIME)


def by_rockpool(net: nn.Module) -> nir.NIRGraph:
    return rockpool_to_nir(net, TIME)


def by_rockpool_detached(net: nn.Module) -> nir.NIRGraph:
    graph = by_rockpool(net)
    cell = graph.nodes["1_ExpSynTorch"]
    if cell is not None:
        # the exporter puts the Parameter itself into the graph, which cannot be written
        cell.tau = cell.tau.detach().clone()
    return graph


# --------------------------------------------- a map of one's own, where the exporter is broken


def array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().numpy()
    return np.array(value, dtype=float)


def node(kind: type[nir.NIRNode], **entries: Any) -> nir.NIRNode:
    """NIR 1.0 wants every entry of a node in the same shape."""
    shape = np.broadcast_shapes(*(np.shape(entry) for entry in entries.values()))
    return kind(**{name: np.broadcast_to(entry, shape) for name, entry in entries.items()})


def affine(m: Any) -> nir.NIRNode:
    return nir.Affine(array(m.weight), array(m.bias))


def as_snntorch(decay: np.ndarray) -> np.ndarray:
    """The formula of its exporter and of its importer, whatever the time step."""
    return 1e-4 / (1 - decay)


def in_seconds(decay: np.ndarray) -> np.ndarray:
    return -DT / np.log(decay)


def leaky(m: Any, tau: Callable[[np.ndarray], np.ndarray]) -> nir.NIRNode:
    beta, level = array(m.beta), array(m.threshold)
    return node(nir.LIF, tau=tau(beta), r=1 / (1 - beta), v_leak=0.0, v_threshold=level)


def synaptic(m: Any, tau: Callable[[np.ndarray], np.ndarray]) -> nir.NIRNode:
    alpha, beta, level = array(m.alpha), array(m.beta), array(m.threshold)
    gains = {"w_in": 1 / (1 - alpha), "r": 1 / (1 - beta)}
    taus = {"tau_syn": tau(alpha), "tau_mem": tau(beta)}
    return node(nir.CubaLIF, **taus, **gains, v_leak=0.0, v_threshold=level)


def lif_node(m: Any) -> nir.NIRNode:
    tau, level = array(m.tau), array(m.v_threshold)
    r = 1.0 if m.decay_input else tau
    return node(nir.LIF, tau=tau * DT, r=r, v_leak=m.v_reset, v_threshold=level)


def lif_with_alphas(m: Any) -> nir.NIRNode:
    tau, level = -1 / np.log(array(m.alpha_mem)), array(m.spike_threshold)
    return node(nir.LIF, tau=tau, r=1.0, v_leak=0.0, v_threshold=level)


def norse_lif(m: Any) -> nir.NIRNode:
    taus = {"tau_mem": 1 / array(m.p.tau_mem_inv), "tau_syn": 1 / array(m.p.tau_syn_inv)}
    levels = {"v_leak": array(m.p.v_leak), "v_threshold": array(m.p.v_th)}
    return node(nir.CubaLIF, **taus, **levels, r=1.0, w_in=1.0)


def extracted(kind: type, convert: Callable[[Any], nir.NIRNode], sample: Tensor = STEP) -> Export:
    """nirtorch runs the network once to see what calls what."""
    nodes = {nn.Linear: affine, kind: convert}

    def of(m: nn.Module) -> nir.NIRNode | None:
        return nodes[type(m)](m) if type(m) in nodes else None

    return lambda net: nirtorch.extract_nir_graph(net, of, sample, ignore_dims=[0])


def traced(kind: type, convert: Callable[[Any], nir.NIRNode]) -> Export:
    """nirtorch reads the network's code and does not run it."""
    return lambda net: nirtorch.torch_to_nir(net, {kind: convert})


# ----------------------------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Case:
    """A network, and what its exporter makes of it.

    Attributes:
        name: the library and the module.
        build: makes the plain network, Linear -> neuron.
        run: runs it over `spikes()`.
        export: gives its NIR graph.
        entries: entry of the neuron's node -> the quantity it comes from, and the formula, from
            the quantity in its own unit.
        attached: what the export gives before `make_fixed`.
        key: the name of the neuron's node.
    """

    name: str
    build: Callable[[], nn.Module]
    run: Callable[[nn.Module], Tensor]
    export: Export
    entries: dict[str, tuple[Quantity, Formula]]
    attached: str = ""
    key: str = "1"

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


# what becomes of the network that is not fixed
EXPORTS = "the same as afterwards"
NO_NODE = "None for the neuron"
REFUSED = "NotImplementedError"


def same(value: Tensor) -> Tensor:
    return value


def times_dt(tau: Tensor) -> Tensor:
    return tau * DT


def in_steps(tau: Tensor) -> Tensor:
    return tau / DT


def rockpool_r(tau: Tensor) -> Tensor:
    return tau * torch.exp(-DT / tau) / DT


def snntorch_r(tau: Tensor) -> Tensor:
    return 1 / (1 - torch.exp(-DT / tau))


def snntorch_tau(tau: Tensor) -> Tensor:
    return 1e-4 * snntorch_r(tau)


LEVEL = {"v_threshold": (THRESHOLD, same)}
# beside the attached parameters, what Norse's exporter needs with one entry per neuron
FULL = {"v_leak": torch.zeros(N)}

WORKING = [
    Case(
        "norse LIFCell",
        lambda: norse_network(norse.LIFCell(norse.LIFParameters(**FULL))),
        norse_loop,
        by_norse,
        {"tau_mem": (TAU_MEM, times_dt), "tau_syn": (TAU_SYN, times_dt)} | LEVEL,
        EXPORTS,
    ),
    Case(
        "norse LIFBoxCell",
        lambda: norse_network(norse.LIFBoxCell(norse.LIFBoxParameters(**FULL))),
        norse_loop,
        by_norse,
        {"tau": (TAU_MEM, times_dt)} | LEVEL,
        EXPORTS,
    ),
    Case(
        "norse LIBoxCell",
        lambda: norse_network(norse.LIBoxCell(norse.LIBoxParameters(**FULL))),
        norse_loop,
        by_norse,
        {"tau": (TAU_MEM, times_dt)},
        EXPORTS,
    ),
    Case(
        "norse IAFCell",
        lambda: norse_network(norse.IAFCell()),
        norse_loop,
        by_norse,
        LEVEL,
        EXPORTS,
    ),
    Case(
        "sinabs LIF",
        lambda: plain_network(sl.LIF(tau_mem=20.0)),
        sinabs_whole,
        by_sinabs,
        {"tau": (TAU_MEM, in_steps)} | LEVEL,
        REFUSED,
    ),
    Case(
        "sinabs LIFSqueeze",
        lambda: plain_network(sl.LIFSqueeze(tau_mem=20.0, batch_size=1)),
        sinabs_squeezed,
        by_sinabs,
        {"tau": (TAU_MEM, in_steps)} | LEVEL,
        REFUSED,
    ),
    Case(
        "sinabs ExpLeak",
        lambda: plain_network(sl.ExpLeak(tau_mem=20.0)),
        sinabs_whole,
        by_sinabs,
        {"tau": (TAU_MEM, in_steps)},
        REFUSED,
    ),
    Case("sinabs IAF", lambda: plain_network(sl.IAF()), sinabs_whole, by_sinabs, LEVEL, REFUSED),
    Case(
        "rockpool LIFTorch",
        lambda: rockpool_network(LIFTorch(N)),
        rockpool_whole,
        by_rockpool,
        {"tau_mem": (TAU_MEM, same), "tau_syn": (TAU_SYN, same), "r": (TAU_MEM, rockpool_r)}
        | LEVEL,
        NO_NODE,
        "1_LIFTorch",
    ),
    Case(
        "rockpool LIFNeuronTorch",
        lambda: rockpool_network(LIFNeuronTorch(N)),
        rockpool_whole,
        by_rockpool,
        {"tau": (TAU_MEM, same), "r": (TAU_MEM, rockpool_r)} | LEVEL,
        EXPORTS,
        "1_LIFNeuronTorch",
    ),
    Case(
        "rockpool ExpSynTorch",
        lambda: rockpool_network(ExpSynTorch(N)),
        rockpool_whole,
        by_rockpool_detached,
        {"tau": (TAU_SYN, same), "r": (TAU_SYN, rockpool_r)},
        NO_NODE,
        "1_ExpSynTorch",
    ),
]

# the library's own exporter does not export the plain module; a map of one's own does
OWN_MAP = [
    Case(
        "snntorch Leaky",
        lambda: plain_network(snn.Leaky(beta=0.8, init_hidden=True)),
        snntorch_loop,
        extracted(snn.Leaky, lambda m: leaky(m, as_snntorch)),
        {"tau": (TAU_MEM, snntorch_tau), "r": (TAU_MEM, snntorch_r)} | LEVEL,
    ),
    Case(
        "snntorch Leaky in seconds",
        lambda: plain_network(snn.Leaky(beta=0.8, init_hidden=True)),
        snntorch_loop,
        extracted(snn.Leaky, lambda m: leaky(m, in_seconds)),
        {"tau": (TAU_MEM, same), "r": (TAU_MEM, snntorch_r)} | LEVEL,
    ),
    Case(
        "snntorch Synaptic",
        lambda: plain_network(snn.Synaptic(alpha=0.6, beta=0.8, init_hidden=True)),
        snntorch_loop,
        extracted(snn.Synaptic, lambda m: synaptic(m, as_snntorch)),
        {
            "tau_mem": (TAU_MEM, snntorch_tau),
            "tau_syn": (TAU_SYN, snntorch_tau),
            "r": (TAU_MEM, snntorch_r),
            "w_in": (TAU_SYN, snntorch_r),
        }
        | LEVEL,
    ),
    Case(
        "snntorch Synaptic in seconds",
        lambda: plain_network(snn.Synaptic(alpha=0.6, beta=0.8, init_hidden=True)),
        snntorch_loop,
        extracted(snn.Synaptic, lambda m: synaptic(m, in_seconds)),
        {"tau_mem": (TAU_MEM, same), "tau_syn": (TAU_SYN, same)} | LEVEL,
    ),
    Case(
        "spikingjelly LIFNode",
        lambda: plain_network(neuron.LIFNode(tau=5.0)),
        spikingjelly_loop,
        # one tau per neuron does not run with the default surrogate, so nothing may run here
        traced(neuron.LIFNode, lif_node),
        {"tau": (TAU_MEM, same)} | LEVEL,
        key="_1",
    ),
    Case(
        "spikingjelly LIFNode with surrogate Rect",
        lambda: plain_network(neuron.LIFNode(tau=5.0, surrogate_function=surrogate.Rect())),
        spikingjelly_loop,
        extracted(neuron.LIFNode, lif_node),
        {"tau": (TAU_MEM, same)} | LEVEL,
    ),
    Case(
        "sinabs LIF train_alphas",
        lambda: plain_network(sl.LIF(tau_mem=20.0, train_alphas=True)),
        sinabs_whole,
        extracted(sl.LIF, lif_with_alphas, TIME),
        {"tau": (TAU_MEM, in_steps)} | LEVEL,
    ),
    Case(
        "norse LIF",
        lambda: norse_network(norse.LIF()),
        norse_whole,
        extracted(norse.LIF, norse_lif, spikes()),
        {"tau_mem": (TAU_MEM, same), "tau_syn": (TAU_SYN, same)} | LEVEL,
    ),
]

every_case = pytest.mark.parametrize("case", WORKING + OWN_MAP, ids=str)
every_working = pytest.mark.parametrize("case", WORKING, ids=str)


# short time constants: a decay near 1 is stored too coarsely in float32 for 1e-6
START = {
    TAU_MEM: torch.linspace(0.004, 0.01, N),
    TAU_SYN: torch.linspace(0.002, 0.005, N),
    THRESHOLD: torch.linspace(0.8, 1.1, N),
}


def trained(case: Case) -> nn.Module:
    """A network with one value per neuron, after some steps in which every value has moved."""
    torch.manual_seed(0)
    net = case.build()
    nn.init.constant_(next(net.children()).weight, 0.6)  # every neuron gets input
    quantities = {quantity for quantity, _ in case.entries.values()}
    # Rockpool has its own shapes for one value per neuron
    shape = {c.quantity: c.shape or (N,) for c in find(net) if c.quantity in quantities}
    start = {q: START[q].reshape(shape[q]) for q in quantities}
    names = {q: None if q is THRESHOLD else ExpScaledLog() for q in quantities}
    make_trainable(net, names, start, shape=shape, dt=DT)
    optimizer = torch.optim.Adam(param_groups(net, lr=1e-2, neuron_lr=3e-2))
    for _ in range(3):
        optimizer.zero_grad()
        (case.run(net) - 0.5).square().sum().backward()
        optimizer.step()
    for q in quantities:
        (value,) = values(net, q).values()
        assert ((value / start[q] - 1).abs() > 1e-3).all(), f"{q} was not trained"
        assert len(value.unique()) == N
    return net


def assert_trained_values(graph: nir.NIRGraph, case: Case, net: nn.Module) -> None:
    for entry, (quantity, formula) in case.entries.items():
        (value,) = values(net, quantity).values()
        expected = array(formula(value.double())).reshape(N)
        found = array(getattr(graph.nodes[case.key], entry))
        assert found.shape == (N,)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0, err_msg=entry)


# ------------------------------------------------------------------------------- what works


@every_case
def test_the_graph_of_the_fixed_network_has_the_trained_values(case: Case, tmp_path: Path) -> None:
    net = trained(case)
    graph = case.export(make_fixed(copy.deepcopy(net)))
    assert_trained_values(graph, case, net)
    nir.write(tmp_path / "net.nir", graph)
    assert_trained_values(nir.read(tmp_path / "net.nir"), case, net)


@every_working
def test_what_the_exporter_makes_of_a_network_that_is_not_fixed(case: Case, tmp_path: Path) -> None:
    net = trained(case)
    if case.attached == REFUSED:
        with pytest.raises(NotImplementedError, match=r"Module <class .*> not supported"):
            case.export(net)
        return
    graph = case.export(net)
    left_out = [name for name, part in graph.nodes.items() if part is None]
    if case.attached == NO_NODE:
        assert left_out == [case.key]
    else:
        assert_trained_values(graph, case, net)
        assert not left_out
    if case.attached == EXPORTS:
        nir.write(tmp_path / "net.nir", graph)
        assert_trained_values(nir.read(tmp_path / "net.nir"), case, net)
    else:
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'to_dict'"):
            nir.write(tmp_path / "net.nir", graph)


def test_norse_exports_what_is_attached_by_its_path_without_fixing(tmp_path: Path) -> None:
    net = norse_network(norse.LIFBoxCell(norse.LIFBoxParameters(**FULL)))
    rates = torch.linspace(80.0, 140.0, N)
    make_trainable(net, ["tau_mem_inv", "v_th"], {"tau_mem_inv": rates}, shape=(N,))
    nir.write(tmp_path / "net.nir", by_norse(net))
    tau = nir.read(tmp_path / "net.nir").nodes["1"].tau
    np.testing.assert_allclose(tau, array(1e-3 / rates), rtol=1e-6)


def test_snntorchs_importer_reads_the_decays_and_one_threshold_for_all() -> None:
    case = OWN_MAP[0]
    with pytest.raises(AssertionError, match="v_threshold must be same for all neurons"):
        snntorch_from_nir(case.export(make_fixed(trained(case))))
    case = replace(case, entries={"tau": (TAU_MEM, snntorch_tau)})
    plain = make_fixed(trained(case))
    beta = snntorch_from_nir(case.export(plain)).get_submodule("1").beta
    np.testing.assert_allclose(array(beta), array(plain[1].beta), rtol=1e-6)


def test_nirtorch_knows_the_input_size_only_if_it_runs_the_network() -> None:
    net = plain_network(neuron.LIFNode())
    run = extracted(neuron.LIFNode, lif_node)(net).nodes["input"].input_type["input"]
    read = traced(neuron.LIFNode, lif_node)(net).nodes["input_1"].input_type["input"]
    assert (list(run), list(read)) == ([3], [1])


def test_norse_exports_seconds_with_dt_1_and_does_not_ask_the_cell() -> None:
    rates = torch.tensor([80.0, 100.0, 120.0, 140.0])
    p = norse.LIBoxParameters(tau_mem_inv=rates, **FULL)
    net = norse_network(norse.LIBoxCell(p, dt=1e-4))
    torch.testing.assert_close(norse.to_nir(net, STEP).nodes["1"].tau, 1e-3 / rates)
    torch.testing.assert_close(norse.to_nir(net, STEP, dt=1.0).nodes["1"].tau, 1 / rates)


@pytest.mark.parametrize("name", ["sinabs LIF", "rockpool LIFTorch"])
def test_the_graph_shares_memory_with_the_network(name: str) -> None:
    (case,) = (case for case in WORKING if case.name == name)
    plain = make_fixed(trained(case))
    cell = case.export(plain).nodes[case.key]
    entry = "tau" if hasattr(cell, "tau") else "tau_mem"
    before = array(getattr(cell, entry))
    with torch.no_grad():
        plain.get_submodule(case.key).tau_mem *= 2
    np.testing.assert_allclose(array(getattr(cell, entry)), 2 * before)


# ------------------------------------------------------------------------------ what does not

WHAT_NOW = "move it to WORKING if it is mended, and bring docs/nir.md up to date"

PER_NEURON = torch.linspace(2.0, 5.0, N)
Error = tuple[type[Exception], str]
SHAPES = (AssertionError, "All parameters must have the same shape")
V_RESET = (TypeError, "{}.__init__() got an unexpected keyword argument 'v_reset'")
TYPE_CHECK = (TypeError, "torch_to_nir() got an unexpected keyword argument 'type_check'")
NO_TAU_MEM = (AttributeError, "'{}' object has no attribute 'tau_mem'")
UNKNOWN = (AttributeError, "'NoneType' object has no attribute 'input_type'")
NOT_SUPPORTED = (NotImplementedError, "Module <class 'sinabs.layers.lif.LIFRecurrent'> not")


def of(error: Error, name: str) -> Error:
    return error[0], error[1].format(name)


def with_tau(cell: Any) -> Any:
    """One tau per neuron; SpikingJelly's constructors take a float only."""
    cell.tau = PER_NEURON
    return cell


hidden = {"init_hidden": True}
recurrent = {"linear_features": N, **hidden}

# library -> its network, its exporter, and for each plain neuron what the exporter raises
BROKEN: dict[
    str, tuple[Callable[..., nn.Module], Export, dict[str, tuple[Callable[[], nn.Module], Error]]]
] = {
    "norse": (
        norse_network,
        by_norse,
        {
            f"{kind.__name__}, tau alone per neuron": (
                lambda kind=kind, record=record: kind(record(tau_mem_inv=100 * PER_NEURON)),
                SHAPES,
            )
            for kind, record in (
                (norse.LIFCell, norse.LIFParameters),
                (norse.LIFBoxCell, norse.LIFBoxParameters),
                (norse.LIBoxCell, norse.LIBoxParameters),
            )
        }
        | {
            "LIFBoxCell, a float": (
                lambda: norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=100.0)),
                (AttributeError, "'float' object has no attribute 'detach'"),
            )
        },
    ),
    "snntorch": (
        plain_network,
        by_snntorch,
        {
            "Leaky": (lambda: snn.Leaky(0.9, **hidden), of(V_RESET, "LIF")),
            "Synaptic": (lambda: snn.Synaptic(0.8, 0.9, **hidden), of(V_RESET, "CubaLIF")),
            "RLeaky": (lambda: snn.RLeaky(0.9, **recurrent), of(V_RESET, "LIF")),
            "RSynaptic": (lambda: snn.RSynaptic(0.8, 0.9, **recurrent), of(V_RESET, "CubaLIF")),
            "Lapicque": (lambda: snn.Lapicque(0.9, **hidden), UNKNOWN),
            "Alpha": (lambda: snn.Alpha(0.9, 0.8, **hidden), UNKNOWN),
        },
    ),
    "spikingjelly": (
        plain_network,
        by_spikingjelly,
        {
            "without a neuron": (nn.Identity, TYPE_CHECK),
            "IFNode": (neuron.IFNode, TYPE_CHECK),
            "LIFNode": (neuron.LIFNode, TYPE_CHECK),
            "ParametricLIFNode": (neuron.ParametricLIFNode, TYPE_CHECK),
            "CUBALIFNode": (neuron.CUBALIFNode, TYPE_CHECK),
            "LIFNode, per neuron": (
                lambda: with_tau(neuron.LIFNode()),
                (RuntimeError, "ShapeProp error for: node=%_1"),
            ),
            "LIFNode with Rect, per neuron": (
                lambda: with_tau(neuron.LIFNode(surrogate_function=surrogate.Rect())),
                TYPE_CHECK,
            ),
        },
    ),
    "sinabs": (
        plain_network,
        by_sinabs,
        {
            "LIF, tau alone per neuron": (lambda: sl.LIF(tau_mem=PER_NEURON), SHAPES),
            "LIF, threshold alone per neuron": (
                lambda: sl.LIF(tau_mem=20.0, spike_threshold=PER_NEURON),
                SHAPES,
            ),
            "LIF train_alphas": (
                lambda: sl.LIF(tau_mem=20.0, train_alphas=True),
                of(NO_TAU_MEM, "LIF"),
            ),
            "LIFSqueeze train_alphas": (
                lambda: sl.LIFSqueeze(tau_mem=20.0, train_alphas=True, batch_size=1),
                of(NO_TAU_MEM, "LIFSqueeze"),
            ),
            "ExpLeak train_alphas": (
                lambda: sl.ExpLeak(tau_mem=20.0, train_alphas=True),
                of(NO_TAU_MEM, "ExpLeak"),
            ),
            "LIFRecurrent": (
                lambda: sl.LIFRecurrent(tau_mem=20.0, rec_connect=nn.Linear(N, N)),
                NOT_SUPPORTED,
            ),
        },
    ),
    "rockpool": (
        lambda cell: RockpoolSequential(LinearTorch((3, 2 * N)), cell),
        by_rockpool,
        {
            "LIFTorch, two synapses": (
                lambda: LIFTorch((2 * N, N)),
                (NotImplementedError, "Multiple synaptc states are not yet supported"),
            )
        },
    ),
}


@pytest.mark.parametrize(
    ("library", "name"),
    [(library, name) for library, (_, _, cells) in BROKEN.items() for name in cells],
)
def test_what_does_not_export_as_a_plain_module(library: str, name: str) -> None:
    network, export, cells = BROKEN[library]
    build, (kind, message) = cells[name]
    try:
        export(network(build()))
    except Exception as exception:
        raised: Exception | None = exception
    else:
        raised = None
    assert raised is not None, f"this release exports it: {WHAT_NOW}"
    assert type(raised) is kind, f"{raised!r} is news: {WHAT_NOW}"
    assert str(raised).startswith(message), f"{raised!r} is news: {WHAT_NOW}"


# the plain module -> its exporter, and the name of the node that is None
SILENT: dict[str, tuple[Callable[[], nn.Module], Export, str]] = {
    "norse LIF": (lambda: norse_network(norse.LIF()), lambda net: by_norse(net, spikes()), "1"),
    "norse LIFRecurrentCell": (lambda: norse_network(norse.LIFRecurrentCell(N, N)), by_norse, "1"),
    "norse LICell": (lambda: norse_network(norse.LICell()), by_norse, "1"),
    "rockpool after torch's Linear": (
        lambda: nn.Sequential(nn.Linear(3, N), LIFTorch(N)),
        by_rockpool,
        "0",
    ),
}


@pytest.mark.parametrize(
    ("build", "export", "key"), SILENT.values(), ids=[n.replace(" ", "-") for n in SILENT]
)
def test_what_is_left_out_silently(
    build: Callable[[], nn.Module], export: Export, key: str, tmp_path: Path
) -> None:
    graph = export(build())
    assert [name for name, part in graph.nodes.items() if part is None] == [key], WHAT_NOW
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'to_dict'"):
        nir.write(tmp_path / "net.nir", graph)


def test_rockpools_recurrent_weights_are_lost() -> None:
    graph = by_rockpool(rockpool_network(LIFTorch(N, has_rec=True)))
    assert set(graph.nodes) == {"input", "0_LinearTorch", "1_LIFTorch", "output"}
    assert ("1_LIFTorch", "1_LIFTorch") not in graph.edges


def test_sinabs_loses_its_synapse() -> None:
    graph = by_sinabs(plain_network(sl.LIF(tau_mem=20.0, tau_syn=10.0)))
    assert type(graph.nodes["1"]) is nir.LIF


def test_rockpools_exponential_synapse_cannot_be_written_as_it_is(tmp_path: Path) -> None:
    graph = by_rockpool(rockpool_network(ExpSynTorch(N)))
    with pytest.raises(RuntimeError, match="Can't call numpy"):
        nir.write(tmp_path / "net.nir", graph)


def test_one_tau_per_neuron_does_not_run_with_spikingjellys_own_surrogates() -> None:
    with pytest.raises(RuntimeError, match="Expected a value of type 'float' for argument 'tau'"):
        with_tau(neuron.LIFNode())(torch.ones(1, N))
    rect = with_tau(neuron.LIFNode(surrogate_function=surrogate.Rect()))
    assert rect(torch.ones(1, N)).shape == (1, N)


def test_no_environment_has_the_nir_that_all_of_them_ask_for() -> None:
    wanted = {
        package: [need for need in importlib.metadata.requires(package) or [] if "nir" in need]
        for package in ("sinabs", "rockpool", "spikingjelly", "snntorch")
    }
    assert any(need.startswith("nir<=1.0.4") for need in wanted["sinabs"])
    assert any(need.startswith("nir<=1.0.4") for need in wanted["rockpool"])
    assert any(">=1.0.7" in need for need in wanted["spikingjelly"])
    assert not wanted["snntorch"]
