"""Norse's LIF layers and cells with the adjoint: ordinary subclasses, which copy and pickle.

This module imports Norse, and is imported only where a network holds layers of Norse.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from norse.torch.functional.lif import (
    LIFFeedForwardState,
    LIFState,
    lif_feed_forward_step,
    lif_step,
)
from norse.torch.functional.threshold import threshold
from norse.torch.module.lif import LIF, LIFCell, LIFRecurrent, LIFRecurrentCell
from torch import Tensor, nn

from neuroparam._adjoint import lif
from neuroparam._adjoint.fallback import library_must_run
from neuroparam._adjoint.sequence import run_sequence
from neuroparam._catalogue.norse import keep_without_autapses
from neuroparam._ground.errors import AdjointError

__all__ = ["WITH_ADJOINT"]


class _Adjoint(nn.Module):
    """What layers and cells with the adjoint share.

    Attributes:
        lean: whether most states are computed again in the backward pass.
        rule: how a gradient goes through a spike.
    """

    lean = False
    rule = "surrogate"

    def _refuse_another_rule(self) -> None:
        """Raises where Norse's own code is about to compute other gradients than were asked for."""
        if self.rule != "surrogate" and torch.is_grad_enabled():
            raise AdjointError(
                f"the rule {self.rule!r} where Norse's own code must run: under torch.compile, "
                f"torch.func and autocast, for sparse tensors, with record_states=True, and where "
                f"input, weights and neuron parameters have several dtypes"
            )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, lean={self.lean}, rule={self.rule!r}"


class _Layer(_Adjoint):
    """A layer is given a sequence, of shape (time, ..., features)."""

    def forward(self: Any, input_tensor: Tensor, state: Any = None) -> Any:
        if library_must_run(input_tensor) or self.record_states or not len(input_tensor):
            self._refuse_another_rule()
            return super().forward(input_tensor, state)
        if state is None:
            state = self.state_fallback(input_tensor)
        found = _sequence(self, input_tensor, state, lean=bool(self.lean))
        if found is not None:
            return found
        self._refuse_another_rule()
        # The first state is float32 in a network of any dtype, and becomes what it will stay in
        # the first step.
        first, state = super().forward(input_tensor[:1], state)
        if len(input_tensor) == 1:
            return first, state
        rest = input_tensor[1:]
        later = _sequence(self, rest, state, lean=bool(self.lean))
        spikes, state = super().forward(rest, state) if later is None else later
        return torch.cat((first, spikes)), state


class _Cell(_Adjoint):
    """A cell is given one step, of shape (..., features)."""

    def forward(self: Any, input_tensor: Tensor, state: Any = None) -> Any:
        if library_must_run(input_tensor):
            return super().forward(input_tensor, state)
        if state is None:
            state = self.state_fallback(input_tensor)
        found = _sequence(self, input_tensor[None], state, lean=False)
        if found is None:
            return super().forward(input_tensor, state)
        spikes, state = found
        return spikes[0], state


class _Recurrent(_Adjoint):
    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        keep_without_autapses(self)


class AdjointLIF(_Layer, LIF):
    """`norse.torch.LIF` whose sequence is one autograd function."""


class AdjointLIFCell(_Cell, LIFCell):
    """`norse.torch.LIFCell` whose step is one autograd function."""


class AdjointLIFRecurrent(_Layer, _Recurrent, LIFRecurrent):
    """`norse.torch.LIFRecurrent` whose sequence is one autograd function."""


class AdjointLIFRecurrentCell(_Cell, _Recurrent, LIFRecurrentCell):
    """`norse.torch.LIFRecurrentCell` whose step is one autograd function."""


# Norse's class -> the one with the adjoint
WITH_ADJOINT: dict[type[nn.Module], type[nn.Module]] = {
    LIF: AdjointLIF,
    LIFCell: AdjointLIFCell,
    LIFRecurrent: AdjointLIFRecurrent,
    LIFRecurrentCell: AdjointLIFRecurrentCell,
}


def _sequence(layer: Any, inputs: Tensor, state: Any, *, lean: bool) -> tuple[Tensor, Any] | None:
    """Runs a layer over a sequence; None where Norse's own code must run.

    That is where somebody has given the layer other steps, and where tensors change their dtype or
    shape on the way, so that those of the results follow from each of Norse's operations.
    """
    recurrent = isinstance(layer, (LIFRecurrent, LIFRecurrentCell))
    if layer.activation is not (lif_step if recurrent else lif_feed_forward_step):
        return None
    constants = _constants(layer)
    features: tuple[int, ...] = inputs.shape[1:]
    # An input without weights may have another dtype: it is promoted in each step alike.
    alike: tuple[Tensor, ...] = (state.v, state.i)
    if recurrent:
        features = (*features[:-1], len(layer.input_weights))
        alike += (state.z, inputs, layer.input_weights, layer.recurrent_weights)
    shape = torch.broadcast_shapes(features, state.i.shape, constants[1].shape)
    large = [each for each in (inputs, *alike, *constants) if each.ndim]
    dtype = functools.reduce(torch.promote_types, (each.dtype for each in large))
    if layer.rule == "event":  # Norse's first state is float32 in a network of any dtype.
        state = state._replace(**{name: each.to(dtype) for name, each in state._asdict().items()})
    elif any(each.dtype != dtype for each in alike):
        return None
    if torch.broadcast_shapes(shape, state.v.shape, *(each.shape for each in constants)) != shape:
        return None
    constants = [each.to(inputs.device, dtype) for each in constants]
    start = [state.v.expand(shape), state.i.expand(shape)]
    spike = functools.partial(threshold, method=layer.p.method, alpha=layer.p.alpha)
    if not recurrent:
        inputs = inputs.expand(len(inputs), *shape)
        neuron = lif.EventLIF(spike) if layer.rule == "event" else lif.LIF(spike)
        spikes, v, i = run_sequence(neuron, inputs, constants, start, lean=lean)
        return spikes, LIFFeedForwardState(v, i)
    neuron = lif.EventLIF(spike) if layer.rule == "event" else lif.RecurrentLIF(spike)
    spikes, v, i = run_sequence(
        neuron,
        inputs,
        constants,
        start,
        input_weights=layer.input_weights,
        recurrent_weights=layer.recurrent_weights,
        last=state.z.expand(shape),
        lean=lean,
    )
    return spikes, LIFState(spikes[-1], v, i)


def _constants(layer: Any) -> list[Tensor]:
    """What `lif.LIF` asks for, in the order of Norse's multiplications."""
    p, dt = layer.p, layer.dt
    numbers = (dt * p.tau_mem_inv, -dt * p.tau_syn_inv, p.v_th, p.v_leak, p.v_reset)
    # A number has the digits of a float64 until it meets a tensor.
    return [
        each if isinstance(each, Tensor) else torch.tensor(each, dtype=torch.float64)
        for each in numbers
    ]
