"""A whole sequence of a layer as one autograd function: what it keeps, and what it recomputes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from neuroparam._adjoint.neuron import Neuron, Segment
from neuroparam._adjoint.twice import refusing_a_second_backward
from neuroparam._ground.errors import AdjointError
from neuroparam._ground.torch_state import is_batched

__all__ = ["run_sequence"]


def run_sequence(
    neuron: Neuron,
    inputs: Tensor,
    constants: Sequence[Tensor],
    state: Sequence[Tensor],
    *,
    input_weights: Tensor | None = None,
    recurrent_weights: Tensor | None = None,
    last: Tensor | None = None,
    lean: bool = False,
) -> tuple[Tensor, ...]:
    """Runs a layer over a sequence of at least one step.

    Args:
        neuron: the model.
        inputs: of shape (time, ..., features).
        constants: what is the same in each step; each broadcasts to the shape of one step.
        state: the state before the first step, each of the shape of one step.
        input_weights: of shape (neurons, features); None where the input is the current.
        recurrent_weights: of shape (neurons, neurons); None where there are none.
        last: the spikes before the first step, where there are recurrent weights.
        lean: keep only the state at about sqrt(time) steps, and compute the rest again.

    Returns:
        The spikes, of shape (time, ..., neurons), the final state and, where the model gives
        them, the kept quantities.
    """
    weights = (input_weights, recurrent_weights, last)
    outputs: tuple[Tensor, ...] = _Sequence.apply(
        neuron, lean, inputs, *weights, *state, *constants
    )
    return outputs


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        neuron: Neuron,
        lean: bool,
        inputs: Tensor,
        input_weights: Tensor | None,
        recurrent_weights: Tensor | None,
        last: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        start, constants = tensors[: neuron.STATES], tensors[neuron.STATES :]
        steps, shape = len(inputs), start[0].shape
        length = max(1, round(math.sqrt(steps))) if lean else steps
        spikes = start[0].new_empty((steps, *shape))
        kept = [spikes.new_empty((length, *shape)) for _ in range(neuron.KEPT)]
        state = [each.clone() for each in start]
        starts: list[list[Tensor]] = []
        for begin, end in _segments(steps, length):
            if lean:
                starts.append([each.clone() for each in state])
            before = spikes[begin - 1] if begin and last is not None else last
            segment = Segment(spikes[begin:end], [each[: end - begin] for each in kept], ())
            neuron.run(
                constants,
                inputs[begin:end],
                input_weights,
                recurrent_weights,
                before,
                state,
                segment,
            )
        ctx.neuron, ctx.lean, ctx.length = neuron, lean, length
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            # A layer without weights needs its input for nothing else than running again.
            inputs if lean or input_weights is not None else None,
            input_weights,
            recurrent_weights,
            last,
            spikes,
            *constants,
            *([torch.stack(each) for each in zip(*starts, strict=True)] if lean else start),
            *(() if lean else kept),
        )
        return (spikes, *state, *(kept if neuron.GIVES_KEPT else ()))

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> Any:
        if any(is_batched(each) for each in incoming if each is not None):
            raise AdjointError("several backward passes at once (is_grads_batched=True, vmap)")
        with torch.no_grad():
            found = _gradients(ctx, incoming)
        if torch.is_grad_enabled():  # The caller wants a graph (`create_graph=True`).
            found = refusing_a_second_backward(found)
        return (None, None, *found)


def _segments(steps: int, length: int) -> Iterator[tuple[int, int]]:
    """The first step of each segment, and the one after its last."""
    for begin in range(0, steps, length):
        yield begin, min(begin + length, steps)


def _gradients(ctx: Any, incoming: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients of the tensors that `_Sequence.forward` is given, in their order."""
    neuron, lean = ctx.neuron, ctx.lean
    needed = ctx.needs_input_grad[2:]
    needs_inputs, needs_input_weights, needs_recurrent, needs_last, *needs = needed
    needs_state, needs_constants = needs[: neuron.STATES], needs[neuron.STATES :]
    inputs, input_weights, recurrent_weights, last, spikes, *rest = ctx.saved_tensors
    constants, rest = rest[: len(needs_constants)], rest[len(needs_constants) :]
    starts, kept = rest[: neuron.STATES], rest[neuron.STATES :]
    steps, *shape = spikes.shape

    zero = spikes.new_zeros(())
    d_spikes, *others = incoming
    d_spikes, *d_kept = [
        zero.expand_as(spikes) if d is None else d for d in (d_spikes, *others[neuron.STATES :])
    ]
    d_state = [zero.expand(shape) if d is None else d for d in others[: neuron.STATES]]
    adjoint = neuron.adjoint(constants, recurrent_weights, d_state, needs_constants)

    def empty(first: int) -> Tensor:
        made: Tensor = spikes.new_empty((first, *shape))
        return made

    weighted = input_weights is not None
    d_inputs = None
    if needs_inputs:
        d_inputs = inputs.new_empty(inputs.shape) if weighted else empty(steps)
    d_input_weights = torch.zeros_like(input_weights) if needs_input_weights else None
    d_recurrent = torch.zeros_like(recurrent_weights) if needs_recurrent else None
    if lean:
        again, kept = empty(ctx.length), [empty(ctx.length) for _ in range(neuron.KEPT)]
    if weighted or d_inputs is None:
        d_currents = empty(ctx.length)

    for index, (begin, end) in reversed(list(enumerate(_segments(steps, ctx.length)))):
        part, size = slice(begin, end), end - begin
        before = spikes[begin - 1] if begin and last is not None else last
        kept_here = [each[:size] for each in kept]
        start = [each[index] for each in starts] if lean else starts
        if lean:
            neuron.run(
                constants,
                inputs[part],
                input_weights,
                recurrent_weights,
                before,
                [each.clone() for each in start],
                Segment(again[:size], kept_here, ()),
            )
        currents = d_currents[:size] if weighted or d_inputs is None else d_inputs[part]
        adjoint.run(
            [d_spikes[part], *(each[part] for each in d_kept)],
            Segment(spikes[part], kept_here, start),
            currents,
        )
        if weighted and d_inputs is not None:
            torch.matmul(currents, input_weights, out=d_inputs[part])
        if d_input_weights is not None:
            _add_outer(d_input_weights, currents, inputs[part])
        if d_recurrent is not None:
            _add_outer(d_recurrent, currents[:1], before[None])
            _add_outer(d_recurrent, currents[1:], spikes[begin : end - 1])

    return [
        d_inputs,
        d_input_weights,
        d_recurrent,
        adjoint.last if needs_last else None,
        *(d if need else None for d, need in zip(adjoint.state, needs_state, strict=True)),
        *(
            None if d is None else d.sum_to_size(constant.shape)
            for d, constant in zip(adjoint.constants, constants, strict=True)
        ),
    ]


def _add_outer(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds the sum over time and batch of the outer products of two tensors."""
    total.addmm_(left.reshape(-1, left.shape[-1]).t(), right.reshape(-1, right.shape[-1]))
