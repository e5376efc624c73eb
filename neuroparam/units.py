"""Unit maps: how a library writes a quantity that is trained in a unit of its own."""

from neuroparam._maps.time_constants import Above, UnitMap
from neuroparam._maps.units import (
    Bitshift,
    Decay,
    Leak,
    Logarithm,
    LogRate,
    Rate,
    SigmoidRate,
    Steps,
)

__all__ = [
    "Above",
    "Bitshift",
    "Decay",
    "Leak",
    "LogRate",
    "Logarithm",
    "Rate",
    "SigmoidRate",
    "Steps",
    "UnitMap",
]
