"""Unit maps: how a library writes a time constant that is trained in seconds."""

from neuroparam._maps.time_constants import Above, UnitMap
from neuroparam._maps.units import Bitshift, Decay, Rate, Steps

__all__ = ["Above", "Bitshift", "Decay", "Rate", "Steps", "UnitMap"]
