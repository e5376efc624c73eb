"""Norse: forward-Euler cells that store rates (1/s) and thresholds in a record `p`."""

from __future__ import annotations

from torch import nn

from neuroparam.libraries.rules import Known, Library, Refused, own_step, positive, threshold
from neuroparam.parametrizations import BoundedSigmoid, Parametrization
from neuroparam.quantities import Quantity
from neuroparam.units import Rate

__all__ = ["NORSE"]


def _below_one_per_step(neuron: nn.Module) -> Parametrization | None:
    # v += dt * rate * (...): beyond rate = 1 / dt the membrane overshoots its target, beyond
    # 2 / dt it diverges, so positivity is not enough
    dt = own_step(neuron)
    return BoundedSigmoid(0.0, 1.0 / dt) if dt else None


NORSE = Library(
    package="norse",
    dt=own_step,
    rules=(
        Refused("dt", "it is the time step of the simulation", "Name a rate, such as tau_mem_inv."),
        # 1/ms-like numbers, beside a dt in s: Norse's own units do not fit together
        Known("tau_*_inv", "rate", "as stored", _below_one_per_step, modules=("CobaLIF*",)),
        Known(
            "tau_mem_inv",
            "membrane rate",
            "1/s",
            _below_one_per_step,
            Quantity.TAU_MEM,
            Rate,
            euler=True,
        ),
        Known(
            "tau_syn_inv",
            "synaptic rate",
            "1/s",
            _below_one_per_step,
            Quantity.TAU_SYN,
            Rate,
            euler=True,
        ),
        Known("tau_*_inv", "rate", "1/s", _below_one_per_step),
        Known("v_th*", "threshold", "voltage", threshold, Quantity.THRESHOLD),
        Known("delta_T", "steepness of the exponential", "voltage", positive, modules=("LIF*Ex*",)),
        Known("beta", "adaptation of the threshold", "voltage", positive, modules=("LSNN*",)),
    ),
)
