"""Norse: forward-Euler cells that store rates (1/s) and thresholds in a record `p`."""

from __future__ import annotations

from torch import nn

from neuroparam.libraries.rules import Rule
from neuroparam.parametrizations import BoundedSigmoid, Parametrization, Softplus

__all__ = ["RULES"]


def _below_one_per_step(neuron: nn.Module) -> Parametrization | None:
    # v += dt * rate * (...): beyond rate = 1 / dt the membrane overshoots its target, beyond
    # 2 / dt it diverges, so positivity is not enough
    dt = getattr(neuron, "dt", None)
    return BoundedSigmoid(0.0, 1.0 / float(dt)) if dt else None


RULES = (
    Rule("norse", "tau_*_inv", _below_one_per_step),
    Rule("norse", "v_th*", lambda neuron: Softplus()),
)
