"""What the sequence function asks of a neuron model: its steps, and the adjoint of its steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = ["Adjoint", "Chunked", "Neuron", "Segment", "slope", "whole"]

# What `Chunked` computes at once.
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


def whole(constants: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """The constants in the shape of one step, in memory of their own.

    Operations on tensors of one shape are faster than those that broadcast.
    """
    return [each.expand_as(like).contiguous() for each in constants]


class Chunked:
    """Something that each step of a segment needs, asked for from the last step to the first.

    It is computed for several steps at once. Few large operations cost less than many small ones,
    as long as what they work on stays in the processor's cache.

    Args:
        compute: gives it for the steps from a first one up to one that does not count, as a tensor
            of shape (time, ..., neurons).
        segment: the steps.
    """

    def __init__(self, compute: Callable[[int, int], Tensor], segment: Segment):
        self._compute = compute
        steps = segment.spikes
        self._at_once = max(1, _CHUNK_BYTES // max(1, steps[0].numel() * steps.element_size()))
        self._first = len(steps)
        self._known: Sequence[Tensor] = ()

    def __getitem__(self, step: int) -> Tensor:
        if step < self._first:
            self._first = max(0, step + 1 - self._at_once)
            self._known = self._compute(self._first, step + 1).unbind(0)
        return self._known[step - self._first]


def slope(spike: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The library's own surrogate derivative: the backward of its spike function at gradient 1.

    Args:
        spike: the spike function, which works on each element alone.
        x: the distance from the threshold, of any shape.
    """
    with torch.enable_grad():
        x = x.requires_grad_()
        spikes = spike(x)
        if not spikes.requires_grad:  # A plain step function has none.
            return torch.zeros_like(x)
        (found,) = torch.autograd.grad(spikes, x, torch.ones_like(spikes))
    return found
