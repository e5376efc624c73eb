"""What the sequence function asks of a neuron model: its steps, and the adjoint of its steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = ["Adjoint", "Neuron", "Segment", "Slopes"]

# The surrogate derivative is computed for several steps at once. Few large operations cost less
# than many small ones, as long as what they work on stays in the processor's cache.
_CHUNK_BYTES = 1 << 19


class Segment(NamedTuple):
    """Consecutive time steps of a layer.

    Attributes:
        spikes: what the neurons give, of shape (time, ..., neurons).
        kept: the quantities that the adjoint reads, each of the same shape.
        start: the state before the first step, each of the shape of one step.
    """

    spikes: Tensor
    kept: Sequence[Tensor]
    start: Sequence[Tensor]


class Neuron(ABC):
    """A neuron model, without the numbers.

    Attributes:
        STATES: how many tensors the state is.
        KEPT: how many quantities of each step the adjoint reads.
        GIVES_KEPT: whether they are outputs of the layer too, beside its spikes.

    Args:
        spike: the library's own spike function of the distance from the threshold.
    """

    STATES: ClassVar[int]
    KEPT: ClassVar[int]
    GIVES_KEPT: ClassVar[bool] = False

    def __init__(self, spike: Callable[[Tensor], Tensor]):
        self.spike = spike

    @abstractmethod
    def run(
        self,
        constants: Sequence[Tensor],
        inputs: Tensor,
        input_weights: Tensor | None,
        recurrent_weights: Tensor | None,
        last: Tensor | None,
        state: Sequence[Tensor],
        segment: Segment,
    ) -> None:
        """Runs the steps of a segment, with the library's operations in the library's order.

        Args:
            constants: what is the same in each step; each broadcasts to the shape of one step.
            inputs: of shape (time, ..., features): currents, or what the weights make them of.
            input_weights: of shape (neurons, features); None where the input is the current.
            recurrent_weights: of shape (neurons, neurons); None where there are none.
            last: the spikes before the first step, where there are recurrent weights.
            state: the state before the first step, overwritten by the one after the last.
            segment: where the spikes and the kept quantities are written.
        """

    @abstractmethod
    def adjoint(
        self,
        constants: Sequence[Tensor],
        recurrent_weights: Tensor | None,
        state: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> Adjoint:
        """The adjoint variables after the last step.

        Args:
            constants: as above.
            recurrent_weights: as above.
            state: the gradient that comes to the final state.
            needed: for each constant, whether its gradient is wanted.
        """


class Adjoint(ABC):
    """The adjoint variables of a layer, on their way back through time.

    Attributes:
        state: the gradient with respect to the state before the steps that were gone back.
        last: the gradient with respect to the spikes before them; None without recurrent weights.
        constants: for each constant its gradient in the shape of one step; None if not needed.
    """

    state: Sequence[Tensor]
    last: Tensor | None
    constants: Sequence[Tensor | None]

    @abstractmethod
    def run(self, incoming: Sequence[Tensor], segment: Segment, currents: Tensor) -> None:
        """Goes back through a segment.

        Args:
            incoming: the gradient that comes from outside the layer to its spikes and, where it
                gives them, to the kept quantities; each of shape (time, ..., neurons).
            segment: what `Neuron.run` has written.
            currents: where the gradient with respect to the input currents is written.
        """


class Slopes:
    """The surrogate derivative at each step of a segment, asked for from its end to its start.

    Args:
        spike: the library's spike function, which works on each element alone.
        potentials: what is compared with the threshold, of shape (time, ..., neurons).
        threshold: the threshold.
    """

    def __init__(self, spike: Callable[[Tensor], Tensor], potentials: Tensor, threshold: Tensor):
        self._spike = spike
        self._potentials = potentials
        self._threshold = threshold
        bytes_of_one = potentials[0].numel() * potentials.element_size()
        self._at_once = max(1, _CHUNK_BYTES // max(1, bytes_of_one))
        self._first = len(potentials)
        self._known: Sequence[Tensor] = ()

    def __getitem__(self, step: int) -> Tensor:
        if step < self._first:
            self._first = max(0, step + 1 - self._at_once)
            distances = self._potentials[self._first : step + 1] - self._threshold
            self._known = _slope(self._spike, distances).unbind(0)
        return self._known[step - self._first]


def _slope(spike: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The library's own surrogate derivative: the backward of its spike function at gradient 1."""
    with torch.enable_grad():
        x = x.requires_grad_()
        spikes = spike(x)
        if not spikes.requires_grad:  # A plain step function has none.
            return torch.zeros_like(x)
        (found,) = torch.autograd.grad(spikes, x, torch.ones_like(spikes))
    return found
