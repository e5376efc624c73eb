"""The leaky integrate-and-fire neuron with a synaptic current, as Norse integrates it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from neuroparam._adjoint.neuron import Adjoint, Chunked, Neuron, Segment, slope, whole
from neuroparam._ground.errors import MisuseWarning
from neuroparam._ground.messages import warn

__all__ = ["LIF", "EventLIF", "RecurrentLIF"]


class LIF(Neuron):
    """Norse's feed-forward step: forward Euler with a time step dt.

    With h the membrane potential before the reset, j the current after the input has come, and z
    the spikes, a step is

        j = i + drive              f = v_leak - v + j
        h = v + membrane * f       z = H(h - v_th)
        v' = (1 - z) h + z v_reset
        i' = j + synapse * j

    The constants are membrane = dt * tau_mem_inv, synapse = -dt * tau_syn_inv, v_th, v_leak and
    v_reset. The state is v and i, and j and h are kept.
    """

    STATES = 2
    KEPT = 2
    # A gradient goes through the spike that resets.
    reset_has_gradient = True

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
        v, i = state
        membrane, synapse, threshold, leak, reset = whole(constants, v)
        change = torch.empty_like(v)
        # A matrix product may round differently where a tensor is not aligned in memory, as one
        # step of a sequence is not. Norse multiplies a tensor of its own.
        aligned = None if last is None else torch.empty_like(v).copy_(last)
        js, hs = segment.kept
        steps = (each.unbind(0) for each in (inputs, segment.spikes, js, hs))
        for x, z, j, h in zip(*steps, strict=True):
            torch.add(i, x if input_weights is None else linear(x, input_weights), out=j)
            if aligned is not None and recurrent_weights is not None:
                j.add_(linear(aligned, recurrent_weights))
            torch.sub(leak, v, out=change).add_(j).mul_(membrane)
            torch.add(v, change, out=h)
            torch.gt(h, threshold, out=z)
            torch.lerp(h, reset, z, out=v)  # either of them exactly, because z is 0 or 1
            torch.mul(j, synapse, out=change)
            torch.add(j, change, out=i)
            if aligned is not None:
                aligned.copy_(z)

    def adjoint(
        self,
        constants: Sequence[Tensor],
        recurrent_weights: Tensor | None,
        state: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> Adjoint:
        return _AdjointLIF(self, constants, recurrent_weights, state, needed)


class RecurrentLIF(LIF):
    """Norse's recurrent step, in which no gradient goes through the spike that resets."""

    reset_has_gradient = False


class _AdjointLIF(Adjoint):
    """The adjoint of `LIF`: `d_x` is the gradient with respect to x."""

    def __init__(
        self,
        neuron: LIF,
        constants: Sequence[Tensor],
        recurrent_weights: Tensor | None,
        state: Sequence[Tensor],
        needed: Sequence[bool],
    ):
        self._neuron = neuron
        self._recurrent_weights = recurrent_weights
        d_v, d_i = state
        self.state = (d_v.clone(), d_i)
        self.last = None
        self.constants = [torch.zeros_like(d_v) if need else None for need in needed]
        self._threshold = constants[2]
        self._membrane, synapse, _, self._leak, self._reset = whole(constants, d_v)
        self._stays, self._decays = 1 - self._membrane, 1 + synapse
        self._work = torch.empty_like(d_v)

    def run(self, incoming: Sequence[Tensor], segment: Segment, currents: Tensor) -> None:
        d_membrane, d_synapse, d_threshold, d_leak, d_reset = self.constants
        d_v, d_i = self.state
        d_zs, d_js = incoming[0].unbind(0), currents.unbind(0)
        zs, (js, hs) = segment.spikes.unbind(0), [each.unbind(0) for each in segment.kept]
        self._fs = Chunked(functools.partial(self._f, segment), segment)
        self._slopes = Chunked(functools.partial(self._slope, segment), segment)
        for step in reversed(range(len(d_zs))):
            z, j, h, d_j = zs[step], js[step], hs[step], d_js[step]
            d_z = d_zs[step] if self.last is None else self.last.add_(d_zs[step])
            through = self._through_the_spike(step, d_z, d_v, z, j, h)
            if d_threshold is not None:
                d_threshold.sub_(through)
            if d_reset is not None:
                d_reset.addcmul_(z, d_v)
            d_h = d_v.addcmul_(d_v, z, value=-1).add_(through)
            if d_synapse is not None:
                d_synapse.addcmul_(j, d_i)
            torch.mul(d_i, self._decays, out=d_j).addcmul_(d_h, self._membrane)
            if d_membrane is not None:
                d_membrane.addcmul_(d_h, self._fs[step])
            if d_leak is not None:
                d_leak.addcmul_(d_h, self._membrane)
            d_v, d_i = d_h.mul_(self._stays), d_j
            if self._recurrent_weights is not None:
                self.last = d_j @ self._recurrent_weights
        # The memory of `currents` may be used again for the segment before.
        self.state = (d_v, d_i.clone())

    def _f(self, segment: Segment, first: int, end: int) -> Tensor:
        """The values of f at some steps of a segment."""
        js, hs = segment.kept
        after = max(first, 1)
        before = slice(after - 1, end - 1)
        v = torch.lerp(hs[before], self._reset, segment.spikes[before])
        if first == 0:
            v = torch.cat((segment.start[0][None], v))
        return torch.sub(self._leak, v, out=v).add_(js[first:end])

    def _slope(self, segment: Segment, first: int, end: int) -> Tensor:
        """The surrogate derivative at some steps of a segment."""
        return slope(self._neuron.spike, segment.kept[1][first:end] - self._threshold)

    def _through_the_spike(
        self, step: int, d_z: Tensor, d_v: Tensor, z: Tensor, j: Tensor, h: Tensor
    ) -> Tensor:
        """What comes to h through z: by the surrogate derivative, as autograd computes it."""
        if self._neuron.reset_has_gradient:
            d_reset = torch.sub(self._reset, h, out=self._work)
            d_z = torch.addcmul(d_z, d_v, d_reset, out=self._work)
        return torch.mul(d_z, self._slopes[step], out=self._work)


class EventLIF(LIF):
    """The same steps, with the gradient of EventProp (Wunderlich and Pehle 2021) on their grid.

    The surrogate derivative is not used.
    """

    # A spike at which the membrane rises more slowly, in units of tau_mem_inv, counts as if it
    # rose so fast. Where the potential only grazes the threshold, the gradient has no bound.
    least_slope = 1e-2

    def adjoint(
        self,
        constants: Sequence[Tensor],
        recurrent_weights: Tensor | None,
        state: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> Adjoint:
        return _EventAdjointLIF(self, constants, recurrent_weights, state, needed)


class _EventAdjointLIF(_AdjointLIF):
    _later: Tensor | None = None

    def run(self, incoming: Sequence[Tensor], segment: Segment, currents: Tensor) -> None:
        d_spikes = incoming[0]
        if len(d_spikes) > 1 and bool(d_spikes.any()) and torch.equal(d_spikes[1:], d_spikes[:-1]):
            warn(
                "the gradient that reaches the spikes is the same in each time step, as that of a "
                "spike count is. The event rule asks how a loss depends on the times of spikes, "
                'and gives zeros. Use rule="surrogate", or a readout that filters the spikes.',
                MisuseWarning,
            )
        super().run(incoming, segment, currents)

    def _through_the_spike(
        self, step: int, d_z: Tensor, d_v: Tensor, z: Tensor, j: Tensor, h: Tensor
    ) -> Tensor:
        """What comes to h by the time of the spike.

        The slope of the membrane is tau_mem_inv * f before the spike, and tau_mem_inv * (v_leak -
        v_reset + j) after it. A spike one step later would have had the gradient of that step, so
        that the difference of the two, over dt, is the gradient of its time.
        """
        earlier = torch.zeros_like(d_z) if self._later is None else d_z - self._later
        self._later = d_z
        after = torch.sub(j, self._reset - self._leak).mul_(d_v)
        # membrane is dt * tau_mem_inv
        rising = self._fs[step].clamp_min(EventLIF.least_slope)
        return after.addcdiv_(earlier, self._membrane).div_(rising).mul_(z)
