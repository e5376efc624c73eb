"""The same small network in each library, with neuron parameters trained in several ways.

A library is imported when a network of it is built: what is measured elsewhere does without it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from neuroparam import ExpScaledLog, cached, make_trainable
from tests.benchmarks.timing import Step

NEURONS = 100


class Leak(nn.Module):
    """A leaky integrator that reads its time constant at every step; the cheapest neuron."""

    def __init__(self, neurons: int):
        super().__init__()
        self.tau = nn.Parameter(torch.linspace(10.0, 20.0, neurons))

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x[0])
        outputs = []
        for part in x:
            v = v + (part - v) / self.tau
            outputs.append(v)
        return torch.stack(outputs)


def leaks(neurons: int, layers: int) -> dict[str, nn.Sequential]:
    """Layers of `Leak` with raw Parameters, and attached."""
    made = {
        arm: nn.Sequential(*(Leak(neurons) for _ in range(layers))) for arm in ("raw", "attached")
    }
    make_trainable(made["attached"], {"*.tau": ExpScaledLog()})
    return made


class Reader(nn.Module):
    """Reads its time constant as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.ones(100))

    def forward(self, count: int) -> Tensor | None:
        for _ in range(count):
            self.tau  # noqa: B018 - The read is all that is wanted.
        return self.tau.sum() if count else None


def readers() -> dict[str, Reader]:
    """A reader of a raw Parameter, and one of an attached value."""
    made = {"raw": Reader(), "attached": make_trainable(Reader(), {"tau": ExpScaledLog()})}
    for reader in made.values():
        reader(1).backward()  # Until a gradient has come, a value is watched.
    return made


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


def norse_from_zeros(cell: nn.Module, x: Tensor) -> Tensor:
    """The same from a state that is given: the one that Norse makes breaks a compiled graph."""
    import norse.torch as norse

    zeros = torch.zeros_like(x[0])
    state, outputs = norse.LIFState(z=zeros, v=zeros, i=zeros), []
    for part in x:
        spikes, state = cell(part, state)
        outputs.append(spikes)
    return torch.stack(outputs)


def norse_cell(trained: bool) -> nn.Module:
    import norse.torch as norse

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
    import snntorch

    return snntorch.Leaky(
        beta=torch.full((NEURONS,), 0.9),
        threshold=torch.ones(NEURONS),
        learn_beta=trained,
        learn_threshold=trained,
    )


def spikingjelly_over_time(node: nn.Module, x: Tensor) -> Tensor:
    from spikingjelly.activation_based import functional

    functional.reset_net(node)
    return node(x)


def spikingjelly_node(trained: bool) -> nn.Module:
    from spikingjelly.activation_based import neuron

    if trained:
        return neuron.ParametricLIFNode(init_tau=2.0, step_mode="m")
    return neuron.LIFNode(tau=2.0, step_mode="m")


def spikingjelly_step_node(trained: bool) -> nn.Module:
    node = spikingjelly_node(trained)
    node.step_mode = "s"
    return node


def spikingjelly_steps(node: nn.Module, x: Tensor) -> Tensor:
    from spikingjelly.activation_based import functional

    functional.reset_net(node)
    return torch.stack([node(part) for part in x])


def sinabs_over_time(layer: nn.Module, x: Tensor) -> Tensor:
    layer.reset_states()
    return layer(x.transpose(0, 1)).transpose(0, 1)


def sinabs_layer(trained: bool) -> nn.Module:
    from sinabs.layers import LIF

    del trained  # tau_mem always is
    return LIF(tau_mem=torch.full((NEURONS,), 20.0))


def sinabs_by_steps(layer: nn.Module, x: Tensor) -> Tensor:
    layer.reset_states()
    return torch.cat([layer(part[:, None]) for part in x], dim=1).transpose(0, 1)


def rockpool_by_steps(module: nn.Module, x: Tensor) -> Tensor:
    module.reset_state()
    return torch.cat([module(part[:, None])[0] for part in x], dim=1).transpose(0, 1)


def rockpool_over_time(module: nn.Module, x: Tensor) -> Tensor:
    module.reset_state()
    return module(x.transpose(0, 1))[0].transpose(0, 1)


def rockpool_module(trained: bool) -> nn.Module:
    from rockpool.nn.modules import LIFTorch

    del trained  # all of them always are
    return LIFTorch(NEURONS, dt=1e-3)


@dataclass(frozen=True)
class Library:
    """One library's neurons.

    Attributes:
        package: what has to be installed.
        goal: what a training step may take, over one that trains the library's own way.
        build: the module, with what the library itself can train a Parameter, or plain.
        over_time: runs it over x of shape (T, batch, N).
        names: what is attached.
        raw: what trains in the other arm, in words.
        by_steps: runs it too, with one call for each time step; None if it cannot.
    """

    package: str
    goal: float
    build: Callable[[bool], nn.Module]
    over_time: Callable[[nn.Module, Tensor], Tensor]
    names: tuple[str, ...]
    raw: str
    by_steps: Callable[[nn.Module, Tensor], Tensor] | None = None

    def layer(self, raw: bool) -> Layer:
        """A layer that trains its neurons the library's own way, or attached."""
        layer = self._plain(raw)
        return layer if raw else make_trainable(layer, [f"neurons.{name}" for name in self.names])

    def fixed(self) -> Layer:
        """The same layer, in which the neurons are not trained."""
        layer = self._plain(trained=False)
        for parameter in nn.Module.parameters(layer.neurons):
            if self.package != "norse":  # These are the weights of its recurrent cell.
                parameter.requires_grad_(False)
        return layer

    def _plain(self, trained: bool) -> Layer:
        torch.manual_seed(0)
        return Layer(self.build(trained), self.over_time)


LIBRARIES = {
    "Norse": Library(
        "norse",
        1.02,
        norse_cell,
        norse_over_time,
        ("p.tau_mem_inv", "p.v_th"),
        "nn.Parameters in its record",
        norse_over_time,
    ),
    "snnTorch": Library(
        "snntorch",
        1.01,
        snntorch_leaky,
        snntorch_over_time,
        ("beta", "threshold"),
        "learn_beta, learn_threshold",
        snntorch_over_time,
    ),
    "SpikingJelly": Library(
        "spikingjelly",
        1.01,
        spikingjelly_node,
        spikingjelly_over_time,
        ("tau",),
        "ParametricLIFNode, multi-step",
    ),
    "SpikingJelly, single steps": Library(
        "spikingjelly",
        1.0,
        spikingjelly_step_node,
        spikingjelly_steps,
        ("tau",),
        "ParametricLIFNode, single steps",
        spikingjelly_steps,
    ),
    "Sinabs": Library(
        "sinabs",
        1.0,
        sinabs_layer,
        sinabs_over_time,
        ("tau_mem",),
        "its own tau_mem",
        sinabs_by_steps,
    ),
    "Rockpool": Library(
        "rockpool",
        1.0,
        rockpool_module,
        rockpool_over_time,
        ("tau_mem", "tau_syn", "threshold"),
        "its own tau_mem, tau_syn, threshold",
        rockpool_by_steps,
    ),
}


def installed() -> dict[str, Library]:
    """The libraries that can be measured here."""
    return {name: each for name, each in LIBRARIES.items() if find_spec(each.package) is not None}


def arms(library: Library, x: Tensor) -> dict[str, Step]:
    """Training steps of one library: its own way, and attached."""
    layers = {"raw": True, "attached": False}
    made = {name: library.layer(raw).to(x.device) for name, raw in layers.items()}
    return {name: training_step(layer, partial(layer, x)) for name, layer in made.items()}


def outside(library: Library, x: Tensor) -> dict[str, Step]:
    """Training steps of a loop over single steps that a user writes around a cell.

    The cell trains its values its library's own way, attached, attached in a `cached()` block, and
    in a network that is attached, whose forward has the loop.
    """
    assert library.by_steps is not None
    over_time = library.by_steps
    made: dict[str, Step] = {}
    for arm in ("raw", "attached", "cached"):
        torch.manual_seed(0)
        linear, cell = nn.Linear(NEURONS, NEURONS), library.build(arm == "raw")
        if arm != "raw":
            make_trainable(cell, library.names)
        both = nn.ModuleList([linear, cell]).to(x.device)
        scope = cached if arm == "cached" else nullcontext

        def forward(
            linear: nn.Module = linear,
            cell: nn.Module = cell,
            scope: Callable[[], AbstractContextManager[None]] = scope,
        ) -> Tensor:
            with scope():
                return over_time(cell, linear(x))

        made[arm] = training_step(both, forward)
    network = replace(library, over_time=over_time).layer(raw=False).to(x.device)
    made["network"] = training_step(network, partial(network, x))
    return made


def inputs(steps: int, batch: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(steps, batch, NEURONS, generator=generator) < 0.3).float().to(device)


# -------------------------------------------------------------------------------- tutorial


def example() -> ModuleType:
    """examples/mnist.py, which is no package."""
    path = Path(__file__).parents[2] / "examples" / "mnist.py"
    spec = spec_from_file_location("mnist", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
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
