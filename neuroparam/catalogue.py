"""The words for describing an SNN library to `neuroparam.register`."""

from neuroparam._catalogue.entries import (
    Adapted,
    Library,
    Refused,
    Trains,
    above_one_step,
    between_zero_and_one,
    decays,
    own_step,
    plain_class,
    positive,
    states,
    store,
    stored,
    threshold,
)

__all__ = [
    "Adapted",
    "Library",
    "Refused",
    "Trains",
    "above_one_step",
    "between_zero_and_one",
    "decays",
    "own_step",
    "plain_class",
    "positive",
    "states",
    "store",
    "stored",
    "threshold",
]
