"""Sinabs: time constants in steps, integrated exactly, and thresholds; no time step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from neuroparam._catalogue.common import (
    between_zero_and_one,
    decays,
    positive,
    states,
    thresholds,
    time_constants,
)
from neuroparam._catalogue.entries import Adapted, Library, Refused, Trains, store, stored
from neuroparam._ground.torch_state import callers, is_dynamo_compiling
from neuroparam._maps.units import Steps

__all__ = ["SINABS"]


class _SpikeWithThresholdGradient:
    """A spike function of Sinabs whose backward reaches the threshold.

    Sinabs' own functions return no gradient for it, so that it arrives through
    `MembraneSubtract` alone, and through `MembraneReset` not at all. The number of spikes
    depends on v / threshold: scaling v by threshold / threshold, which is 1 to the last bit,
    gives the threshold the gradient -v / threshold times that of v, surrogate included, and
    changes nothing else.
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


class _StatefulLayer:
    """What attached layers of Sinabs do differently."""

    @property
    def spike_fn(self: Any) -> Any:
        plain = stored(self, "spike_fn")
        if plain is None:
            return None
        is_adaptive = hasattr(self, "b0")  # Its threshold is a state, which others change too.
        if is_adaptive or getattr(self.spike_threshold, "requires_grad", False):
            return _SpikeWithThresholdGradient(plain)
        return plain

    @spike_fn.setter
    def spike_fn(self: Any, value: Any) -> None:
        store(self, "spike_fn", value)

    def named_buffers(
        self: Any, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        # Sinabs asks for the states of a layer several times in each forward. A walk over the maps,
        # which have no buffers, takes longer than a time step.
        recurse = recurse and (is_dynamo_compiling() or _has_buffers_below(self))
        return nn.Module.named_buffers(self, prefix, recurse, remove_duplicate)

    def children(self: Any) -> Iterator[nn.Module]:
        # `sinabs.reset_states(net)` and `sinabs.zero_grad(net)` look for layers without children
        # and would pass over an attached layer. Its children are hidden from these two only:
        # torch's `to`, `train` and `fully_shard` need them.
        caller = next(itertools.islice(callers(), 1, None))
        if caller.f_globals.get("__name__") == "sinabs.utils":
            return iter(())
        return nn.Module.children(self)


def _has_buffers_below(layer: nn.Module) -> bool:
    """Whether a layer has more children than maps, or a map has buffers."""
    children: Any = layer._modules
    if len(children) != 1 or "parametrizations" not in children:
        return True
    for parameter in children["parametrizations"]._modules.values():
        for each in parameter._modules.values():
            if each._buffers or each._modules:
                return True
    return False


SINABS = Library(
    package="sinabs",
    adapted=(Adapted(modules=("StatefulLayer",), members=_StatefulLayer),),
    rows=(
        Refused(
            field="spike_threshold",
            reason="in ALIF it is a state: the threshold at rest plus its adaptation",
            instead="Name b0, the threshold at rest.",
            modules=("ALIF",),
        ),
        Refused(
            field="max_num_spikes_per_bin",
            reason="it limits the spikes of a step",
            instead="Set it directly.",
        ),
        *states("v_mem", "i_syn", "b"),
        *time_constants(unit="steps", stored_as=Steps),
        Trains(
            field="tau_adapt",
            meaning="adaptation time constant",
            unit="steps",
            default=positive,
        ),
        *decays("alpha_mem", "alpha_syn"),
        Trains(
            field="alpha_adapt",
            meaning="adaptation decay per step",
            default=between_zero_and_one,
        ),
        Trains(field="adapt_scale", meaning="strength of the adaptation", default=positive),
        thresholds("b0", meaning="threshold at rest"),
        thresholds("spike_threshold"),
    ),
)
