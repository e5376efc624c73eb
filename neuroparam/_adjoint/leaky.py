"""The leaky neuron that decays by a factor in each step, as snnTorch computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from neuroparam._adjoint.neuron import Adjoint, Chunked, Neuron, Segment, slope

__all__ = ["Leaky", "Reset"]

Reset = Literal["subtract", "zero", "none"]


class Leaky(Neuron):
    """snnTorch's `Leaky`: a neuron that fired is reset in the next step.

    With m the membrane potential, z the spikes before and H the spike function, a step is

        m' = beta * m + x - z * threshold    with reset "subtract",
        m' = beta * (1 - z) m + x            with reset "zero",
        m' = beta * m + x                    with reset "none",
        z' = H(m' - threshold)

    No gradient goes through the spike that resets. The constants are beta and threshold. The
    state is m, and m is kept and given.

    Args:
        spike: the spike function.
        reset: how a neuron that fired is reset.
    """

    STATES = 1
    KEPT = 1
    GIVES_KEPT = True

    def __init__(self, spike: Callable[[Tensor], Tensor], reset: Reset):
        super().__init__(spike)
        self.reset = reset

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
        beta, threshold = constants
        m = state[0]
        fired = self.spike(m - threshold)
        (ms,) = segment.kept
        steps = (each.unbind(0) for each in (inputs, segment.spikes, ms))
        for x, z, after in zip(*steps, strict=True):
            if self.reset == "zero":
                m = (1 - fired) * m
            torch.mul(beta, m, out=after).add_(x)
            if self.reset == "subtract":
                after.sub_(fired * threshold)
            m = after
            # Some spike functions give float32 whatever they are given, so `z` may differ.
            fired = self.spike(m - threshold)
            z.copy_(fired)
        state[0].copy_(m)

    def adjoint(
        self,
        constants: Sequence[Tensor],
        recurrent_weights: Tensor | None,
        state: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> Adjoint:
        return _AdjointLeaky(self, constants, state, needed)


class _AdjointLeaky(Adjoint):
    """The adjoint of `Leaky`: `d_x` is the gradient with respect to x."""

    def __init__(
        self,
        neuron: Leaky,
        constants: Sequence[Tensor],
        state: Sequence[Tensor],
        needed: Sequence[bool],
    ):
        self._neuron = neuron
        self._beta, self._threshold = constants
        self.state = (state[0].clone(),)
        self.last = None
        self.constants = [torch.zeros_like(self.state[0]) if need else None for need in needed]

    def run(self, incoming: Sequence[Tensor], segment: Segment, currents: Tensor) -> None:
        reset, spike = self._neuron.reset, self._neuron.spike
        d_beta, d_threshold = self.constants
        (d_m,), (start,) = self.state, segment.start
        d_zs, d_ms = (each.unbind(0) for each in incoming)
        zs, ms, d_xs = segment.spikes.unbind(0), segment.kept[0].unbind(0), currents.unbind(0)
        slopes = Chunked(
            lambda first, end: slope(spike, segment.kept[0][first:end] - self._threshold), segment
        )
        for step in reversed(range(len(d_zs))):
            z = zs[step - 1] if step else spike(start - self._threshold)
            through = d_zs[step] * slopes[step]
            d_after = torch.add(d_m, d_ms[step], out=d_xs[step]).add_(through)
            if d_threshold is not None:
                d_threshold.sub_(through)
                if reset == "subtract":
                    d_threshold.addcmul_(z.to(d_after.dtype), d_after, value=-1)
            stayed = d_after * (1 - z) if reset == "zero" else d_after
            if d_beta is not None:
                d_beta.addcmul_(stayed, ms[step - 1] if step else start)
            torch.mul(stayed, self._beta, out=d_m)
        self.state = (d_m,)
