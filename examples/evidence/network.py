"""A small spiking network, several seeds of which are computed as one.

Inputs -> linear -> LIF neurons -> linear -> leaky readouts. Each time constant is stored in one of
the forms that libraries use; the dynamics are the same, so that the form alone differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuroparam import BoundedSigmoid, ExpScaledLog, Parametrization

DT = 1e-3  # seconds of a time step
SURROGATE_SLOPE = 5.0


@dataclass(frozen=True)
class Storage:
    """One form in which libraries store a time constant."""

    stored: Callable[[Tensor], Tensor]  # from a decay per step
    decay: Callable[[Tensor], Tensor]  # to the decay per step
    domain: tuple[float, float]  # open at 0, and above where it is no Euler bound
    clamped: tuple[float, float]  # what somebody who clamps after each step would write
    parametrization: Callable[[], Parametrization]  # what neuroparam gives this form by default

    def invalid(self, value: Tensor) -> Tensor:
        """Which values are outside the domain, or NaN."""
        low, high = self.domain
        return ~((value > low) & (value <= high if high == 1 / DT else value < high))


STORAGES = {
    # Norse; forward Euler
    "1/tau": Storage(
        stored=lambda decay: (1 - decay) / DT,
        decay=lambda rate: 1 - DT * rate,
        domain=(0.0, 1 / DT),
        clamped=(1.0, 1 / DT),
        parametrization=lambda: BoundedSigmoid(0.0, 1 / DT),
    ),
    # Rockpool, and most code of one's own; exact
    "tau": Storage(
        stored=lambda decay: -DT / torch.log(decay),
        decay=lambda tau: torch.exp(-DT / tau),
        domain=(0.0, math.inf),
        clamped=(DT / 5, 10.0),
        parametrization=ExpScaledLog,
    ),
    # snnTorch, which clamps what it reads
    "decay": Storage(
        stored=lambda decay: decay,
        decay=lambda decay: decay.clamp(0.0, 1.0),
        domain=(0.0, 1.0),
        clamped=(0.0, 0.999),
        parametrization=lambda: BoundedSigmoid(0.0, 1.0),
    ),
}


class Leak(nn.Module):
    """The time constants of one layer, as (seeds, 1, neurons), in one form."""

    def __init__(self, storage: str, tau_in_steps: Tensor):
        super().__init__()
        self.storage = storage
        # below one step nothing is left of a membrane after it
        self.value = STORAGES[storage].stored(1 - 1 / tau_in_steps.clamp(min=1.05))

    def forward(self) -> Tensor:
        """The decay in each step."""
        return STORAGES[self.storage].decay(self.value)


class FastSigmoid(torch.autograd.Function):
    """A spike where the membrane is above threshold, with a surrogate gradient.

    The gradient is 1 / (1 + slope |x|)^2 (Zenke and Ganguli, Neural Computation, 2018).
    """

    @staticmethod
    def forward(ctx, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        return gradient / (1 + SURROGATE_SLOPE * above.abs()) ** 2


class Network(nn.Module):
    """Networks of the same architecture, one for each seed, computed as one.

    Args:
        seeds: one network each; its weights depend on its seed alone.
        sizes: numbers of inputs, hidden neurons and outputs.
        storage: of the time constants.
        hidden_tau: of the hidden neurons in steps, of shape (seeds, 1, hidden).
        readout_tau: of the readouts in steps, of shape (seeds, 1, outputs).
        gain: of the first weights.
        time_steps: with a number, the readout has no time constant, and one learned weight for
            each time step and output instead.
        coupled: currents are multiplied with (1 - decay) / (1 - initial decay). Norse,
            SpikingJelly and Sinabs multiply with 1 - decay by default, so that a longer time
            constant also makes the input weaker; the division lets the networks start alike.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        sizes: tuple[int, int, int],
        storage: str,
        hidden_tau: Tensor,
        readout_tau: Tensor,
        gain: float = 1.0,
        time_steps: int | None = None,
        coupled: bool = False,
    ):
        super().__init__()
        inputs, hidden, outputs = sizes
        first, second = [], []
        for seed in seeds:
            draw = torch.Generator().manual_seed(1000 + seed)
            first.append(uniform(inputs, hidden, draw) * gain)
            second.append(uniform(hidden, outputs, draw))
        self.first, self.second = (
            nn.Parameter(torch.stack(first)),
            nn.Parameter(torch.stack(second)),
        )
        self.bias = nn.Parameter(torch.zeros(len(seeds), 1, outputs))
        self.hidden, self.readout = Leak(storage, hidden_tau), Leak(storage, readout_tau)
        self.initial = (
            (1 - self.hidden().detach(), 1 - self.readout().detach()) if coupled else None
        )
        self.threshold = torch.ones(len(seeds), 1, hidden)
        self.weights_over_time = (
            None
            if time_steps is None
            else nn.Parameter(torch.ones(len(seeds), time_steps, 1, outputs))
        )

    def spikes(self, inputs: Tensor) -> Tensor:
        """Inputs and spikes are (seeds, time steps, examples, channels)."""
        decay, threshold = self.hidden(), self.threshold
        currents = linear(inputs, self.first)
        if self.initial is not None:
            currents = currents * ((1 - decay) / self.initial[0]).unsqueeze(1)
        currents = currents.unbind(1)
        membrane = spike = torch.zeros_like(currents[0])
        spikes = []
        for current in currents:
            # the reset subtracts the threshold, one step later
            membrane = torch.addcmul(current - spike * threshold, decay, membrane)
            spike = FastSigmoid.apply(membrane - threshold)
            spikes.append(spike)
        return torch.stack(spikes, dim=1)

    def traces(self, spikes: Tensor) -> list[Tensor]:
        """The readouts' membranes after each step."""
        decay = self.readout()
        currents = linear(spikes, self.second)
        if self.initial is not None:
            currents = currents * ((1 - decay) / self.initial[1]).unsqueeze(1)
        currents = currents.unbind(1)
        membrane = torch.zeros_like(currents[0])
        membranes = []
        for current in currents:
            membrane = torch.addcmul(current, decay, membrane)
            membranes.append(membrane)
        return membranes

    def forward(self, inputs: Tensor) -> Tensor:
        """The readouts after the last step, of shape (seeds, examples, outputs)."""
        spikes = self.spikes(inputs)
        if self.weights_over_time is not None:
            return (linear(spikes, self.second) * self.weights_over_time).sum(1) + self.bias
        return self.traces(spikes)[-1] + self.bias


def uniform(rows: int, columns: int, draw: torch.Generator) -> Tensor:
    """Weights between plus and minus 1 / sqrt(inputs), as nn.Linear draws them."""
    return (2 * torch.rand(rows, columns, generator=draw) - 1) / math.sqrt(rows)


def linear(inputs: Tensor, weights: Tensor) -> Tensor:
    """One matrix for each seed, at all time steps at once."""
    seeds, steps, examples, channels = inputs.shape
    flat = torch.bmm(inputs.reshape(seeds, steps * examples, channels), weights)
    return flat.view(seeds, steps, examples, -1)
