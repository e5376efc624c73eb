"""The words for describing an SNN library to `neuroparam.register`."""

from neuroparam._catalogue.common import (
    above_one_step,
    between_zero_and_one,
    decays,
    own_step,
    positive,
    states,
    threshold,
    thresholds,
    time_constants,
)
from neuroparam._catalogue.entries import (
    Adapted,
    Library,
    Refused,
    Trains,
    plain_class,
    store,
    stored,
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
    "thresholds",
    "time_constants",
]
