"""The formulas of the maps, with their constants as plain numbers.

`torch.compile` looks again, at each call of compiled code, at everything that was read while it
was traced. So a compiled read of a value takes the constants of a map as one tuple, and the
formulas here read nothing else: they use methods of tensors, and no name of any module.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor

__all__ = ["Formula", "value_of"]

# The name of a formula, and the numbers in it.
Formula: TypeAlias = tuple[Any, ...]


def value_of(raw: Tensor, formula: Formula) -> Tensor:
    """The value of one map.

    Args:
        raw: what the map takes, in single or double precision.
        formula: its formula for this dtype.
    """
    value: Tensor
    name = formula[0]
    if name == "exp":
        scale, low, high, reference = formula[1:]
        value = reference * (scale * raw).clamp(low, high).exp()
    elif name == "softplus":
        lowest, scale, top, odds, shift, linear = formula[1:]
        r = raw.clamp(max=top)
        curved = (odds * r.clamp(max=linear).exp()).log1p()
        # The clamp has no gradient at `linear` itself.
        y = (r + shift).where(r >= linear, curved)
        # Starting at `lowest` instead of `lower` keeps the value inside without a clamp, which
        # would stop the gradient.
        value = lowest + scale * y
    elif name == "sigmoid":
        # One call of sigmoid(-|raw|) could serve both sides, but its derivative is 0 at raw = 0,
        # so that training would never leave the midpoint.
        lowest, highest, extent = formula[1:]
        up, down = extent * raw.sigmoid(), extent * (-raw).sigmoid()
        value = (lowest + up).where(raw < 0, highest - down)
    else:
        number, low, high, lowest, highest = formula[1:]
        tau = raw.clamp(low, high)
        if name == "rate":
            value = 1 / tau
        elif name == "decay":
            value = (-number / tau).exp()
        elif name == "steps":
            value = tau / number
        elif name == "bitshift":
            value = -(-(-number / tau).expm1()).log2()
        else:
            assert name == "above"
            value = tau + number
        # A value that was rounded onto a bound moves off it. The gradient is that of the formula.
        inside = value.clamp(lowest, highest)
        value = value + (inside - value).detach()
    return value
