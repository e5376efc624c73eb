"""Rockpool: time constants in seconds, decays or bitshifts by `leak_mode`, and thresholds."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from neuroparam.libraries.rules import (
    Known,
    Library,
    Refused,
    Wrapped,
    decays,
    own_step,
    positive,
    states,
    threshold,
)
from neuroparam.parametrizations import BoundedSigmoid, Parametrization, Softplus
from neuroparam.quantities import Quantity
from neuroparam.units import Bitshift

__all__ = ["ROCKPOOL"]


def _above_dt(neuron: nn.Module) -> Parametrization | None:
    dt = own_step(neuron)
    return Softplus(lower=dt) if dt else None


def _bits(neuron: nn.Module) -> Parametrization:
    # the decay is 1 - 2**-dash: in float32 it is 1 from 25 on, and 2**dash overflows at 128
    return BoundedSigmoid(0.0, 24.0)


def _setattr(self: Any, name: str, value: Any) -> None:
    # Rockpool checks against the shape with which the module was built, which `shape` changes
    if name in (self._modules.get("parametrizations") or ()):
        self.parametrizations[name].assign(value)
    else:
        type(self)._neuroparam_plain_class.__setattr__(self, name, value)


def _json_to_param(self: Any, saved: Any) -> None:
    """What `load` does, for a module with attached values.

    Rockpool writes into the `.data` of what it reads: here that is a computed tensor, and the
    saved value would be lost in silence.
    """
    rest = {}
    for name, value in (saved or {}).items():
        if name in self.parametrizations:
            number = json.loads(value) if isinstance(value, str) else value
            setattr(self, name, torch.as_tensor(number, dtype=torch.float))
        else:
            rest[name] = value
    type(self)._neuroparam_plain_class.json_to_param(self, rest)


_ROUNDED = (
    "LIFBitshiftTorch rounds it to a whole bitshift, which has no gradient",
    "Use LIFTorch: its leak_mode='bitshifts' trains dash_mem and dash_syn.",
)

ROCKPOOL = Library(
    package="rockpool",
    dt=own_step,
    wrapped=(
        Wrapped(
            ("TorchModule",),
            methods={"__setattr__": _setattr, "json_to_param": _json_to_param},
        ),
    ),
    rules=(
        Refused("tau_mem", *_ROUNDED, modules=("LIFBitshiftTorch",), quantity=Quantity.TAU_MEM),
        Refused("tau_syn", *_ROUNDED, modules=("LIFBitshiftTorch",), quantity=Quantity.TAU_SYN),
        Refused(
            "threshold",
            "Exodus does not differentiate its threshold",
            "Use LIFTorch.",
            modules=("*Exodus*",),
            quantity=Quantity.THRESHOLD,
        ),
        Refused(
            "alpha_mem",
            "LowPass computes it from tau_mem when it is built",
            "Use ExpSynTorch, which LowPass itself recommends.",
            modules=("LowPass",),
            quantity=Quantity.TAU_MEM,
        ),
        Refused(
            "threshold",
            "in RateTorch it shifts the activation, and any real number is valid",
            "Train the Parameter as it is.",
            modules=("RateTorch",),
        ),
        *states("vmem", "isyn", "iahp", "spikes"),
        *states("x", modules=("RateTorch",)),
        Refused(
            "learning_window",
            "it shapes the surrogate gradient, not the dynamics",
            "Set it when the module is built.",
        ),
        Refused("max_spikes_per_dt", "it limits the spikes of a step", "Set it directly."),
        Refused("dt", "it is the time step of the simulation", "Name a time constant."),
        Refused("noise_std", "it scales noise, not the dynamics", "Set it directly."),
        Known("tau_mem", "membrane time constant", "s", positive, Quantity.TAU_MEM),
        Known("tau_syn", "synaptic time constant", "s", positive, Quantity.TAU_SYN),
        Known("tau_ahp", "after-hyperpolarisation time constant", "s", positive),
        *decays("alpha", "beta"),
        Known("dash_mem", "membrane bitshift", "bits", _bits, Quantity.TAU_MEM, Bitshift),
        Known("dash_syn", "synaptic bitshift", "bits", _bits, Quantity.TAU_SYN, Bitshift),
        Known(
            "tau", "synaptic time constant", "s", positive, Quantity.TAU_SYN, modules=("ExpSyn*",)
        ),
        Known(
            "tau",
            "neuron time constant",
            "s",
            _above_dt,
            Quantity.TAU_MEM,
            euler=True,
            modules=("RateTorch",),
        ),
        Known("threshold", "threshold", "voltage", threshold, Quantity.THRESHOLD),
        Known("thr_up", "threshold of a rise", "", threshold, modules=("UpDownTorch",)),
        Known("thr_down", "threshold of a fall", "", threshold, modules=("UpDownTorch",)),
    ),
)
