"""Rockpool: time constants in seconds, decays or bitshifts by `leak_mode`, and thresholds."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from neuroparam._catalogue.common import (
    decays,
    own_step,
    positive,
    states,
    threshold,
    thresholds,
    time_constants,
)
from neuroparam._catalogue.entries import Adapted, Library, Refused, Trains, plain_class
from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.softplus import Softplus
from neuroparam._maps.units import Bitshift

__all__ = ["ROCKPOOL"]


def _above_dt(neuron: nn.Module) -> Parametrization | None:
    dt = own_step(neuron)
    return Softplus(lower=dt) if dt else None


def _bits(neuron: nn.Module) -> Parametrization:
    # The decay is 1 - 2**-dash. In float32 it is 1 from dash = 25 on, and 2**dash overflows at
    # 128.
    return BoundedSigmoid(0.0, 24.0)


class _TorchModule:
    """What attached modules of Rockpool do differently."""

    def __setattr__(self: Any, name: str, value: Any) -> None:
        # Rockpool compares a new value with the shape that the module was built with, and
        # `make_trainable(shape=...)` may have changed that shape.
        if name in (self.__dict__.get("_modules", {}).get("parametrizations") or ()):
            self.parametrizations[name].assign(value)
        else:
            plain_class(self).__setattr__(self, name, value)

    def json_to_param(self: Any, saved: Any) -> None:
        """Does what the module's `load` needs.

        Rockpool writes into the `.data` of what it reads. Of an attached value that is a
        computed tensor, and the saved value would be lost in silence.
        """
        rest = {}
        for name, value in (saved or {}).items():
            if name in self.parametrizations:
                number = json.loads(value) if isinstance(value, str) else value
                setattr(self, name, torch.as_tensor(number, dtype=torch.float))
            else:
                rest[name] = value
        plain_class(self).json_to_param(self, rest)


ROCKPOOL = Library(
    package="rockpool",
    time_step=own_step,
    adapted=(Adapted(modules=("TorchModule",), members=_TorchModule),),
    rows=(
        *(
            Refused(
                field=field,
                reason="LIFBitshiftTorch rounds it to a whole bitshift, which has no gradient",
                instead="Use LIFTorch: its leak_mode='bitshifts' trains dash_mem and dash_syn.",
                modules=("LIFBitshiftTorch",),
                quantity=quantity,
            )
            for field, quantity in (("tau_mem", Quantity.TAU_MEM), ("tau_syn", Quantity.TAU_SYN))
        ),
        Refused(
            field="threshold",
            reason="Exodus does not differentiate its threshold",
            instead="Use LIFTorch.",
            modules=("*Exodus*",),
            quantity=Quantity.THRESHOLD,
        ),
        Refused(
            field="alpha_mem",
            reason="LowPass computes it from tau_mem when it is built",
            instead="Use ExpSynTorch, which LowPass itself recommends.",
            modules=("LowPass",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            field="threshold",
            reason="in RateTorch it shifts the activation, and any real number is valid",
            instead="Train the Parameter as it is.",
            modules=("RateTorch",),
        ),
        *states("vmem", "isyn", "iahp", "spikes"),
        *states("x", modules=("RateTorch",)),
        Refused(
            field="learning_window",
            reason="it shapes the surrogate gradient, not the dynamics",
            instead="Set it when the module is built.",
        ),
        Refused(
            field="max_spikes_per_dt",
            reason="it limits the spikes of a step",
            instead="Set it directly.",
        ),
        Refused(
            field="dt",
            reason="it is the time step of the simulation",
            instead="Name a time constant.",
        ),
        Refused(
            field="noise_std",
            reason="it scales noise, not the dynamics",
            instead="Set it directly.",
        ),
        *time_constants(unit="s"),
        Trains(
            field="tau_ahp",
            meaning="after-hyperpolarisation time constant",
            unit="s",
            default=positive,
        ),
        *decays("alpha", "beta"),
        Trains(
            field="dash_mem",
            meaning="membrane bitshift",
            unit="bits",
            default=_bits,
            quantity=Quantity.TAU_MEM,
            stored_as=Bitshift,
        ),
        Trains(
            field="dash_syn",
            meaning="synaptic bitshift",
            unit="bits",
            default=_bits,
            quantity=Quantity.TAU_SYN,
            stored_as=Bitshift,
        ),
        Trains(
            field="tau",
            meaning="synaptic time constant",
            unit="s",
            default=positive,
            quantity=Quantity.TAU_SYN,
            modules=("ExpSyn*",),
        ),
        Trains(
            field="tau",
            meaning="neuron time constant",
            unit="s",
            default=_above_dt,
            quantity=Quantity.TAU_MEM,
            euler=True,
            modules=("RateTorch",),
        ),
        thresholds("threshold"),
        Trains(
            field="thr_up",
            meaning="threshold of a rise",
            default=threshold,
            modules=("UpDownTorch",),
        ),
        Trains(
            field="thr_down",
            meaning="threshold of a fall",
            default=threshold,
            modules=("UpDownTorch",),
        ),
    ),
)
