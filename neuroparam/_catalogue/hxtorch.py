"""hxtorch: parameter objects, each with a value for the model and one for the hardware."""

from __future__ import annotations

from typing import Any

from neuroparam._catalogue.common import positive
from neuroparam._catalogue.entries import Adapted, Library, Refused, Trains

__all__ = ["HXTORCH"]


class _ParameterObject:
    """What attached parameter objects do differently."""

    def is_trainable(self: Any) -> bool:
        # hxtorch looks for a Parameter, and what is attached is a computed tensor.
        return True


HXTORCH = Library(
    package="hxtorch",
    adapted=(Adapted(modules=("HXBaseParameter",), members=_ParameterObject),),
    rows=(
        Refused(
            field="_model_value",
            reason="HXParameter gives its hardware value to the model too, and does not read it",
            instead="Use a ModelParameter, or a MixedHXModelParameter, in its place.",
            modules=("HXParameter",),
        ),
        Refused(
            field="_hardware_value",
            reason="it is set on the chip, and no gradient comes back from there",
            instead="Name _model_value, with which the gradient is computed.",
            modules=("HXBaseParameter",),
        ),
        Trains(
            field="_model_value",
            meaning="value in the model",
            default=positive,
            modules=("HXBaseParameter",),
        ),
    ),
)
