"""Rockpool: time constants in seconds, decays or bitshifts by `leak_mode`, and thresholds."""

from __future__ import annotations

from torch import nn

from neuroparam.libraries.rules import (
    Known,
    Library,
    Refused,
    between_zero_and_one,
    positive,
    threshold,
)
from neuroparam.parametrizations import BoundedSigmoid, Parametrization, Softplus
from neuroparam.quantities import Quantity
from neuroparam.units import Bitshift, Decay

__all__ = ["ROCKPOOL"]


def _step(neuron: nn.Module) -> float | None:
    dt = getattr(neuron, "dt", None)
    return float(dt) if dt else None


def _above_dt(neuron: nn.Module) -> Parametrization | None:
    dt = _step(neuron)
    return Softplus(lower=dt) if dt else None


def _bits(neuron: nn.Module) -> Parametrization:
    # the decay is 1 - 2**-dash: in float32 it is 1 from 25 on, and 2**dash overflows at 128
    return BoundedSigmoid(0.0, 24.0)


_STATE = ("it is a state, overwritten in every forward", "Name a time constant or a threshold.")
_ROUNDED = (
    "LIFBitshiftTorch rounds it to a whole bitshift, which has no gradient",
    "Use LIFTorch: its leak_mode='bitshifts' trains dash_mem and dash_syn.",
)

ROCKPOOL = Library(
    package="rockpool",
    dt=_step,
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
        Refused("vmem", *_STATE),
        Refused("isyn", *_STATE),
        Refused("iahp", *_STATE),
        Refused("spikes", *_STATE),
        Refused("x", *_STATE, modules=("RateTorch",)),
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
        Known(
            "alpha", "membrane decay per step", "", between_zero_and_one, Quantity.TAU_MEM, Decay
        ),
        Known("beta", "synaptic decay per step", "", between_zero_and_one, Quantity.TAU_SYN, Decay),
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
