"""The only door through which the tests reach the inside of the library.

When a room of the library moves, this file changes and no test does.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

from torch import Tensor

from neuroparam._attaching.names import matches
from neuroparam._attaching.survey import candidates, survey
from neuroparam._catalogue.entries import Refused, Trains
from neuroparam._catalogue.registry import BUILT_IN, default_parametrization
from neuroparam._ground.real import as_real
from neuroparam._ground.torch_state import all_modules, whole
from neuroparam._maps.base import bounds_of
from neuroparam._maps.time_constants import TimeConstantMap
from neuroparam._training import optimizers, processes
from neuroparam._training.forward import raise_if_none_came, verify, watched
from neuroparam._value import injected, once
from neuroparam._value.once import Evaluated, evaluate
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.place import Place, attached, is_attached
from neuroparam._value.records import Record
from neuroparam._value.storage import Kind

__all__ = [
    "BUILT_IN",
    "Evaluated",
    "Kind",
    "NeuronParameter",
    "Place",
    "Record",
    "Refused",
    "TimeConstantMap",
    "Trains",
    "all_modules",
    "as_real",
    "attached",
    "bounds_of",
    "candidates",
    "default_parametrization",
    "evaluate",
    "injected",
    "is_attached",
    "matches",
    "once",
    "optimizers",
    "processes",
    "raise_if_none_came",
    "reads_replaced",
    "survey",
    "verify",
    "watched",
    "whole",
]


def reads_replaced(
    read: Callable[[Evaluated, Tensor], Tensor],
) -> AbstractContextManager[object]:
    """Within it, every read of an attached value calls `read` in the place of `evaluate`."""
    return patch.object(injected, "evaluate", read)
