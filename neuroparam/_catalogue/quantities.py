"""Physical quantities that neurons of every library have, whatever number is stored for them."""

from __future__ import annotations

import enum

__all__ = ["Quantity"]


class Quantity(enum.Enum):
    """What a value means, whatever the library stores for it; a name for `make_trainable`.

    A library keeps a membrane time constant as a rate (Norse), a decay per step (snnTorch), a
    number of steps (SpikingJelly, Sinabs) or seconds (Rockpool). As a quantity it is given and
    read in one unit, and one recipe serves networks of any library:

    * `Quantity.TAU_MEM`: membrane time constants, in seconds;
    * `Quantity.TAU_SYN`: synaptic time constants, in seconds;
    * `Quantity.THRESHOLD`: firing thresholds, in the unit of the membrane voltage.

    Examples:
        >>> from neuroparam import Quantity
        >>> Quantity.TAU_MEM
        Quantity.TAU_MEM
        >>> print(Quantity.TAU_MEM.value, Quantity.TAU_MEM.unit)
        membrane time constant s
        >>> Quantity.THRESHOLD.is_time_constant
        False
    """

    TAU_MEM = "membrane time constant"
    TAU_SYN = "synaptic time constant"
    THRESHOLD = "threshold"

    @property
    def is_time_constant(self) -> bool:
        """Whether it is a time constant, in seconds."""
        return self is not Quantity.THRESHOLD

    @property
    def unit(self) -> str:
        """The unit in which the quantity is given and read."""
        return "s" if self.is_time_constant else "voltage"

    def __repr__(self) -> str:
        return str(self)
