"""The same small network in each library, with neuron parameters trained in several ways."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import norse.torch as norse
import sinabs.layers as sl
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from neuroparam import make_trainable
from tests.benchmarks.timing import Step

NEURONS = 100


class Layer(nn.Module):
    """Input of shape (T, batch, N) -> linear layer -> neurons over time; the loop is inside."""

    def __init__(self, neurons: nn.Module, over_time: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.linear = nn.Linear(NEURONS, NEURONS)
        self.neurons = neurons
        self.over_time = over_time

    def forward(self, x: Tensor) -> Tensor:
        return self.over_time(self.neurons, self.linear(x))


def training_step(module: nn.Module, forward: Callable[[], Tensor]) -> Step:
    """A forward, a backward and a step of Adam over all that is trainable in a module."""
    trained = [p for p in nn.Module.parameters(module) if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        forward().square().mean().backward()
        optimizer.step()

    return step


# ------------------------------------------------------------------------------- libraries


def norse_over_time(cell: nn.Module, x: Tensor) -> Tensor:
    state, outputs = None, []
    for part in x:
        spikes, state = cell(part, state)
        outputs.append(spikes)
    return torch.stack(outputs)


def norse_cell(trained: bool) -> nn.Module:
    tau, threshold = torch.full((NEURONS,), 100.0), torch.full((NEURONS,), 0.5)
    if not trained:
        return norse.LIFRecurrentCell(
            NEURONS, NEURONS, p=norse.LIFParameters(tau_mem_inv=tau, v_th=threshold)
        )
    tau, threshold = nn.Parameter(tau), nn.Parameter(threshold)
    p = norse.LIFParameters(tau_mem_inv=tau, v_th=threshold)
    cell = norse.LIFRecurrentCell(NEURONS, NEURONS, p=p)
    cell.tau_mem_inv, cell.v_th = tau, threshold  # where an optimizer finds them
    return cell


def snntorch_over_time(leaky: nn.Module, x: Tensor) -> Tensor:
    state, outputs = leaky.reset_mem(), []
    for part in x:
        spikes, state = leaky(part, state)
        outputs.append(spikes)
    return torch.stack(outputs)


def snntorch_leaky(trained: bool) -> nn.Module:
    return snn.Leaky(
        beta=torch.full((NEURONS,), 0.9),
        threshold=torch.ones(NEURONS),
        learn_beta=trained,
        learn_threshold=trained,
    )


def spikingjelly_over_time(node: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(node)
    return node(x)


def spikingjelly_node(trained: bool) -> nn.Module:
    if trained:
        return neuron.ParametricLIFNode(init_tau=2.0, step_mode="m")
    return neuron.LIFNode(tau=2.0, step_mode="m")


def spikingjelly_step_node(trained: bool) -> nn.Module:
    node = spikingjelly_node(trained)
    node.step_mode = "s"
    return node


def spikingjelly_steps(node: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(node)
    return torch.stack([node(part) for part in x])


def sinabs_over_time(layer: nn.Module, x: Tensor) -> Tensor:
    layer.reset_states()
    return layer(x.transpose(0, 1)).transpose(0, 1)


def sinabs_layer(trained: bool) -> nn.Module:
    del trained  # tau_mem always is
    return sl.LIF(tau_mem=torch.full((NEURONS,), 20.0))


def rockpool_over_time(module: nn.Module, x: Tensor) -> Tensor:
    module.reset_state()
    return module(x.transpose(0, 1))[0].transpose(0, 1)


def rockpool_module(trained: bool) -> nn.Module:
    del trained  # all of them always are
    return LIFTorch(NEURONS, dt=1e-3)


@dataclass(frozen=True)
class Library:
    """One library's neurons.

    Attributes:
        build: the module, with what the library itself can train a Parameter, or plain.
        over_time: runs it over x of shape (T, batch, N).
        names: what is attached.
        raw: what trains in the other arm, in words.
    """

    build: Callable[[bool], nn.Module]
    over_time: Callable[[nn.Module, Tensor], Tensor]
    names: tuple[str, ...]
    raw: str

    def layer(self, raw: bool) -> Layer:
        """A layer that trains its neurons the library's own way, or attached."""
        torch.manual_seed(0)
        layer = Layer(self.build(raw), self.over_time)
        return layer if raw else make_trainable(layer, [f"neurons.{name}" for name in self.names])


LIBRARIES = {
    "Norse": Library(
        norse_cell,
        norse_over_time,
        ("p.tau_mem_inv", "p.v_th"),
        "nn.Parameters in its record",
    ),
    "snnTorch": Library(
        snntorch_leaky, snntorch_over_time, ("beta", "threshold"), "learn_beta, learn_threshold"
    ),
    "SpikingJelly": Library(
        spikingjelly_node, spikingjelly_over_time, ("tau",), "ParametricLIFNode, multi-step"
    ),
    "SpikingJelly, single steps": Library(
        spikingjelly_step_node, spikingjelly_steps, ("tau",), "ParametricLIFNode, single steps"
    ),
    "Sinabs": Library(sinabs_layer, sinabs_over_time, ("tau_mem",), "its own tau_mem"),
    "Rockpool": Library(
        rockpool_module,
        rockpool_over_time,
        ("tau_mem", "tau_syn", "threshold"),
        "its own tau_mem, tau_syn, threshold",
    ),
}


def arms(library: Library, steps: int, batch: int, device: str) -> dict[str, Step]:
    """Training steps of one library: its own way, and attached."""
    x = inputs(steps, batch, device)
    layers = {"raw": True, "attached": False}
    made = {name: library.layer(raw).to(device) for name, raw in layers.items()}
    return {name: training_step(layer, partial(layer, x)) for name, layer in made.items()}


def inputs(steps: int, batch: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(steps, batch, NEURONS, generator=generator) < 0.3).float().to(device)


# -------------------------------------------------------------------------------- tutorial


def example() -> ModuleType:
    """examples/mnist.py, which is no package."""
    path = Path(__file__).parents[2] / "examples" / "mnist.py"
    spec = importlib.util.spec_from_file_location("mnist", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tutorial_arms(device: str) -> dict[str, Step]:
    """The tutorial's network: 784 -> 100 recurrent, T 32, batch 256."""
    mnist = example()
    images = torch.rand(256, 784, device=device)
    labels = torch.randint(10, (256,), device=device)
    made: dict[str, Step] = {}
    for name, arm in (("raw", "raw"), ("attached", "reparametrised")):
        values = torch.full((100,), 100.0, device=device), torch.full((100,), 0.5, device=device)
        network = mnist.build(arm, 0, 784, *values).to(device)
        optimizer = mnist.optimizer_for(network, arm, 2e-3, 2e-3)

        def step(network: nn.Module = network, optimizer: torch.optim.Adam = optimizer) -> None:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

        made[name] = step
    return made
