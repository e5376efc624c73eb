"""What is counted in instructions: maps, reads, networks, loops of one's own, optimizers' steps.

python -m tests.benchmarks counts                      # where valgrind is installed
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from neuroparam import BoundedSigmoid, Decay, ExpScaledLog, Rate, Softplus, Steps, make_trainable
from neuroparam.units import Above, Bitshift
from tests.benchmarks.instructions import Arm, count_here
from tests.benchmarks.networks import (
    arms,
    inputs,
    installed,
    leaks,
    outside,
    readers,
    training_step,
)

STEPS, BATCH = 100, 4
LAYERS = (1, 10, 100, 1000)

CHAINS: dict[str, Callable[[], list[nn.Module]]] = {
    "ExpScaledLog": lambda: [ExpScaledLog()],
    "Softplus": lambda: [Softplus()],
    "BoundedSigmoid": lambda: [BoundedSigmoid(0.0, 1.0)],
    "BoundedSigmoid, log": lambda: [BoundedSigmoid(1e-3, 1.0, spacing="log")],
    "ExpScaledLog, Rate": lambda: [ExpScaledLog(), Rate()],
    "ExpScaledLog, Steps": lambda: [ExpScaledLog(), Steps(dt=1e-3)],
    "ExpScaledLog, Decay": lambda: [ExpScaledLog(), Decay(dt=1e-3)],
    "Softplus, Steps": lambda: [Softplus(), Steps(dt=1e-3)],
    "Softplus, Decay": lambda: [Softplus(), Decay(dt=1e-3)],
    "BoundedSigmoid, Decay": lambda: [BoundedSigmoid(1e-3, 1.0), Decay(dt=1e-3)],
    "BoundedSigmoid, log, Decay": lambda: [
        BoundedSigmoid(1e-3, 1.0, spacing="log"),
        Decay(dt=1e-3),
    ],
    "Softplus, Above, Decay": lambda: [Softplus(), Above(1e-3), Decay(dt=1e-3)],
    "Softplus, Bitshift": lambda: [Softplus(), Bitshift(dt=1e-3)],
}


class Holder(nn.Module):
    """Holds a value that a chain can take."""

    def __init__(self, maps: Iterable[nn.Module], numbers: int = 100):
        super().__init__()
        value = torch.linspace(0.01, 0.02, numbers)
        for each in maps:
            if isinstance(each, (Rate, Steps, Decay, Bitshift)):
                value = each(value)
        self.tau = nn.Parameter(value)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.tau


def maps() -> Iterator[Arm]:
    """Forward and backward of a value alone, and of a raw Parameter: the engine's start."""
    gradient = torch.ones(100)
    raw = nn.Parameter(torch.ones(100))

    def engine() -> None:
        raw.grad = None
        raw.backward(gradient)

    yield Arm("the engine's start", engine, 20)
    for name, made in CHAINS.items():
        net = make_trainable(Holder(made()), {"tau": made()})

        def step(value: nn.Module = net.parametrizations.tau) -> None:
            value.original.grad = None
            value().backward(gradient)

        yield Arm(name, step, 20)


def reads() -> Iterator[Arm]:
    """A forward that reads its time constant once, and so often."""
    for arm, reader in readers().items():
        for times in (0, 1, 101):
            yield Arm(f"{arm}, {times} reads", partial(reader, times), 20)


def libraries() -> Iterator[Arm]:
    """Training steps with neurons that are not trained, trained the library's own way, attached."""
    x = inputs(STEPS, BATCH, "cpu")
    for name, library in installed().items():
        fixed = library.fixed()
        steps = {"fixed": training_step(fixed, partial(fixed, x)), **arms(library, x)}
        for arm, step in steps.items():
            yield Arm(f"{name} | {arm}", step, 2)


def loops() -> Iterator[Arm]:
    """Training steps with a loop of one's own around a cell."""
    x = inputs(STEPS, BATCH, "cpu")
    for name, library in installed().items():
        if library.by_steps is not None:
            for arm, step in outside(library, x).items():
                yield Arm(f"{name} | {arm}", step, 2)


def layers() -> Iterator[Arm]:
    """Training steps of many small layers."""
    x = torch.rand(4, 1, 100)
    for size in LAYERS:
        for arm, net in leaks(100, size).items():
            step = training_step(net, partial(net, x))
            # From the 10th step to the 15th, in which no value is compared with a copy.
            yield Arm(f"{size} | {arm}", step, max(1, 6 // size), 8)


def optimizers() -> Iterator[Arm]:
    """Steps of optimizers: of a network without attached values beside some, and of theirs."""
    stranger = _step_of(nn.Linear(100, 100))
    yield Arm("stranger | 0", stranger, 20, 20)
    for size in LAYERS:
        for arm, net in leaks(100, size).items():
            own = _step_of(net)
            if arm == "attached":
                yield Arm(f"stranger | {size}", stranger, 20, 20)
            yield Arm(f"{arm} | {size}", own, max(2, 10 // size))


def _step_of(net: nn.Module) -> Callable[[], object]:
    """The step of an optimizer that has its gradients already."""
    net(torch.rand(1, 1, 100)).sum().backward()
    return torch.optim.SGD(net.parameters(), lr=0.0).step


SECTIONS = {each.__name__: each for each in (maps, reads, libraries, loops, layers, optimizers)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    count_here(arm for name in sys.argv[1:] for arm in SECTIONS[name]())
