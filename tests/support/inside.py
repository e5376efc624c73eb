"""The only door through which the tests reach the inside of the library.

When a room of the library moves, this file changes and no test does.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

from torch import Tensor

from neuroparam._adjoint import norse_layers, switch
from neuroparam._adjoint.lif import EventLIF
from neuroparam._attaching.build import build
from neuroparam._attaching.exchange import attach, detach, rebuild_records
from neuroparam._attaching.initial import initial_tensor
from neuroparam._attaching.names import as_names, is_pattern, matches, specificity
from neuroparam._attaching.refusals import refuse_if_present, refuse_if_unfit, why_unfit
from neuroparam._attaching.request import requests
from neuroparam._attaching.resolve import attached_places, places_to_attach
from neuroparam._attaching.survey import candidates, each_once, is_candidate, survey
from neuroparam._catalogue import registry as catalogue
from neuroparam._catalogue.common import own_step, states
from neuroparam._catalogue.entries import Refused, Trains, classes_of
from neuroparam._catalogue.registry import (
    BUILT_IN,
    is_catalogued,
    row_of,
    step_of,
)
from neuroparam._catalogue.time_step import time_step, unit_of
from neuroparam._ground.errors import placed
from neuroparam._ground.messages import describe, listing
from neuroparam._ground.real import as_real, why_not_real
from neuroparam._ground.torch_state import (
    all_modules,
    callers,
    is_compiling,
    sharded_like,
    transform_level,
    whole,
)
from neuroparam._looking.text import Table, span
from neuroparam._maps import floats
from neuroparam._maps.base import bounds_of
from neuroparam._maps.fused import FUSED, fused
from neuroparam._maps.time_constants import TimeConstantMap
from neuroparam._training import optimizers, processes
from neuroparam._value import evidence, injected, once
from neuroparam._value.copied import fingerprint
from neuroparam._value.once import Evaluated, evaluate
from neuroparam._value.parameter import NeuronParameter, in_words
from neuroparam._value.place import Place, attached, is_attached, refuse_scripted
from neuroparam._value.records import Record, fields_of, is_record, neuron_at
from neuroparam._value.storage import Kind, Storage

__all__ = [
    "BUILT_IN",
    "FUSED",
    "Evaluated",
    "EventLIF",
    "Kind",
    "NeuronParameter",
    "Place",
    "Record",
    "Refused",
    "Storage",
    "Table",
    "TimeConstantMap",
    "Trains",
    "all_modules",
    "as_names",
    "as_real",
    "attach",
    "attached",
    "attached_places",
    "bounds_of",
    "build",
    "callers",
    "candidates",
    "catalogue",
    "classes_of",
    "describe",
    "detach",
    "each_once",
    "evaluate",
    "evidence",
    "fields_of",
    "fingerprint",
    "floats",
    "fused",
    "in_words",
    "initial_tensor",
    "injected",
    "is_attached",
    "is_candidate",
    "is_catalogued",
    "is_compiling",
    "is_pattern",
    "is_record",
    "listing",
    "matches",
    "neuron_at",
    "norse_layers",
    "once",
    "optimizers",
    "own_step",
    "placed",
    "places_to_attach",
    "processes",
    "reads_replaced",
    "rebuild_records",
    "refuse_if_present",
    "refuse_if_unfit",
    "refuse_scripted",
    "requests",
    "row_of",
    "sharded_like",
    "span",
    "specificity",
    "states",
    "step_of",
    "survey",
    "switch",
    "time_step",
    "transform_level",
    "unit_of",
    "whole",
    "why_not_real",
    "why_unfit",
]


def reads_replaced(
    read: Callable[[Evaluated, Tensor], Tensor],
) -> AbstractContextManager[object]:
    """Within it, every read of an attached value calls `read` in the place of `evaluate`."""
    return patch.object(injected, "evaluate", read)
