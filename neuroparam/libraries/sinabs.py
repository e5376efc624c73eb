"""Sinabs: time constants in steps, integrated exactly, and thresholds; no time step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from neuroparam.libraries.rules import (
    Known,
    Library,
    Refused,
    Wrapped,
    between_zero_and_one,
    decays,
    positive,
    states,
    threshold,
)
from neuroparam.quantities import Quantity
from neuroparam.units import Steps

__all__ = ["SINABS"]


class _SpikeWithThresholdGradient:
    """A spike function of Sinabs whose backward reaches the threshold.

    Sinabs' own return no gradient for it, so that it arrives through `MembraneSubtract` alone,
    and through `MembraneReset` not at all. The number of spikes depends on v / threshold:
    scaling v by threshold / threshold, which is 1 to the last bit, gives the threshold the
    gradient -v / threshold times that of v, surrogate included, and changes nothing else.
    """

    def __init__(self, spike_fn: Any):
        self._spike_fn = spike_fn

    @property
    def required_states(self) -> list[str]:
        return list(self._spike_fn.required_states)

    def apply(self, v_mem: Tensor, *others: Any) -> Any:
        level = others[-2]
        if isinstance(level, Tensor) and level.requires_grad:
            v_mem = v_mem * (level.detach() / level)
        return self._spike_fn.apply(v_mem, *others)


def _children(self: Any) -> Iterator[nn.Module]:
    # `sinabs.reset_states(net)` and `sinabs.zero_grad(net)` take a layer with children for a mere
    # container, and would pass by an attached one; to all others (torch's `to`, `train`,
    # `fully_shard`) it has children
    if sys._getframe(1).f_globals.get("__name__") == "sinabs.utils":
        return iter(())
    return nn.Module.children(self)


def _spike_fn(spike_fn: Any) -> Any:
    return None if spike_fn is None else _SpikeWithThresholdGradient(spike_fn)


SINABS = Library(
    package="sinabs",
    wrapped=(Wrapped(("StatefulLayer",), {"spike_fn": _spike_fn}, {"children": _children}),),
    rules=(
        Refused(
            "spike_threshold",
            "in ALIF it is a state: the threshold at rest plus its adaptation",
            "Name b0, the threshold at rest.",
            modules=("ALIF",),
        ),
        Refused("max_num_spikes_per_bin", "it limits the spikes of a step", "Set it directly."),
        *states("v_mem", "i_syn", "b"),
        Known("tau_mem", "membrane time constant", "steps", positive, Quantity.TAU_MEM, Steps),
        Known("tau_syn", "synaptic time constant", "steps", positive, Quantity.TAU_SYN, Steps),
        Known("tau_adapt", "adaptation time constant", "steps", positive),
        *decays("alpha_mem", "alpha_syn"),
        Known("alpha_adapt", "adaptation decay per step", "", between_zero_and_one),
        Known("adapt_scale", "strength of the adaptation", "", positive),
        Known("b0", "threshold at rest", "voltage", threshold, Quantity.THRESHOLD),
        Known("spike_threshold", "threshold", "voltage", threshold, Quantity.THRESHOLD),
    ),
)
