"""lava-dl: decays as numbers of twelve bits, one for a layer or for each channel."""

from __future__ import annotations

from functools import partial

from torch import nn

from neuroparam._catalogue.common import states
from neuroparam._catalogue.entries import Library, Refused, Trains
from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.units import Leak

__all__ = ["LAVA"]

_WHOLE = 1 << 12  # What is stored for a decay that takes everything away.
_UNIT = f"1/{_WHOLE} per step"


def _twelve_bits(neuron: nn.Module) -> Parametrization:
    return BoundedSigmoid(0.0, _WHOLE)


def _draws_later(field: str, neuron: nn.Module) -> bool:
    return hasattr(neuron, f"{field}_min")


_DECAYS = {
    "voltage_decay": ("membrane decay", Quantity.TAU_MEM),
    "current_decay": ("synaptic decay", Quantity.TAU_SYN),
}

LAVA = Library(
    package="lava",
    rows=(
        *(
            Refused(
                field=field,
                reason=(
                    "its module has shared_param=False, and draws one value per channel in its "
                    "first forward, in the place of this one"
                ),
                instead="Run the network once, then attach.",
                quantity=quantity,
                only_if=partial(_draws_later, field),
            )
            for field, (_, quantity) in _DECAYS.items()
        ),
        *(
            Refused(
                field=field,
                reason="it is a coordinate in the unit circle, valid together with the other one",
                instead="Train both as they are: lava-dl keeps them within the circle.",
            )
            for field in ("sin_decay", "cos_decay")
        ),
        Refused(
            field="_threshold",
            reason="lava-dl takes it as a number into its kernels, which give it no gradient",
            instead="Train the weights of the layer: only their ratio to the threshold counts.",
            quantity=Quantity.THRESHOLD,
        ),
        *(
            Refused(
                field=field,
                reason="the spike function of lava-dl gives no gradient to a threshold",
                instead="Name voltage_decay or current_decay.",
            )
            for field in ("threshold_step", "threshold_decay", "refractory_decay")
        ),
        *(
            Refused(
                field=field,
                reason="it shapes the surrogate gradient, not the dynamics",
                instead="Set it when the module is built.",
            )
            for field in ("tau_rho", "scale_rho")
        ),
        *states("*_state"),
        *(
            Trains(
                field=field,
                meaning=meaning,
                unit=_UNIT,
                default=_twelve_bits,
                quantity=quantity,
                stored_as=partial(Leak, scale=_WHOLE),
            )
            for field, (meaning, quantity) in _DECAYS.items()
        ),
    ),
)
