"""What the name of a value says of it, in modules that the catalogue does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.softplus import Softplus

__all__ = ["Hint", "hint_of"]


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What a name says.

    Attributes:
        trains: whether it is the name of a neuron parameter; None where it says nothing.
        why: how it says so, in words.
        default: builds the parametrization for such a value; None where none is right.
        is_mapped: whether the module is said to map the value itself, so that any number is valid.
    """

    trains: bool | None
    why: str
    default: Callable[[], Parametrization] | None = None
    is_mapped: bool = False


_TIME_CONSTANTS = frozenset({"tau", "taus"})
_DECAYS = frozenset({"alpha", "beta", "decay", "leak", "rho"})
_THRESHOLDS = frozenset({"th", "theta", "vth", "vthr"})
# Words of names of states. One letter counts where it is the whole name.
_STATES = frozenset(
    {"mem", "membrane", "potential", "spike", "spikes", "spk", "state", "states", "syn", "trace"}
)
_LETTERS = frozenset({"i", "s", "u", "v", "z"})
_STATE = "named like a state, which a module overwrites"
_STEP = "it is the time step, by its name"
# Names of what is no neuron parameter: any of the words, and what it is then.
_OTHERS = (
    (_STATES, _STATE),
    (frozenset({"dt", "timestep"}), _STEP),
    (frozenset({"drop", "dropout"}), "it belongs to dropout, by its name"),
    (
        frozenset({"sharpness", "slope", "steepness"}),
        "named like the width of a surrogate gradient",
    ),
    (frozenset({"lr", "momentum", "weight"}), "it belongs to an optimizer or to weights"),
    (frozenset({"eps", "epsilon", "max", "min"}), "named like a bound or a tolerance"),
)
_SURROGATE = "it shapes the surrogate gradient, not the dynamics"
_MAPPED = "its name says that the module maps it itself, so that any number is valid for it"


def hint_of(field: str, value: Any, around: Iterable[str] = ()) -> Hint:
    """What the name of a stored value says of it, together with the value.

    Args:
        field: the name of the attribute, or of the record's field.
        value: what is stored: a real number or tensor.
        around: names of what holds it, such as the class of its module.

    >>> hint_of("beta", 0.9).default()
    BoundedSigmoid(lower=0, upper=1, spacing='linear')
    >>> hint_of("v_th", 1.0).default()
    Softplus(lower=0, scale=None)
    >>> hint_of("log_tau", 3.0).why
    'its name says that the module maps it itself, so that any number is valid for it'
    """
    words = _words(field)
    if words[:1] in (["log"], ["logit"], ["raw"]) or words[-1:] in (["logit"], ["logits"]):
        return Hint(trains=False, why=_MAPPED, is_mapped=True)
    if any("surrogate" in _words(name) for name in (*around, field)):
        return Hint(trains=False, why=_SURROGATE)
    is_parameter = bool(_TIME_CONSTANTS & set(words)) or _is_decay(words) or _is_threshold(words)
    for others, why in _OTHERS:
        # The second word of `tau_mem` says which time constant it is; `weight_decay` is none.
        if others & set(words) and not (is_parameter and others is _STATES):
            return Hint(trains=False, why=why)
    if {"time", "step"} <= set(words):
        return Hint(trains=False, why=_STEP)
    if len(words) == 1 and words[0] in _LETTERS:
        return Hint(trains=False, why=_STATE)
    if not _all(value > 0):
        why = "it is not positive: give bounds, BoundedSigmoid(lower, upper)"
        return Hint(trains=True if is_parameter else None, why=why)
    return _of_positive(words, value)


def _words(name: str) -> list[str]:
    """The words of a name: `tau_mem`, `tauMem` and `TauMem2` have two."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _is_decay(words: list[str]) -> bool:
    return any(word in _DECAYS or word.startswith("dcy") for word in words)


def _is_threshold(words: list[str]) -> bool:
    return any(word in _THRESHOLDS or re.match("thr(?!ee|o|u)", word) for word in words)


def _of_positive(words: list[str], value: Any) -> Hint:
    """What the words of a name say of a positive value."""
    if _TIME_CONSTANTS & set(words):
        return Hint(trains=True, why="named like a time constant", default=ExpScaledLog)
    if _is_decay(words) and _all(value < 1):
        why = "named like a decay, and between 0 and 1"
        return Hint(trains=True, why=why, default=lambda: BoundedSigmoid(0.0, 1.0))
    if _is_threshold(words):
        return Hint(trains=True, why="named like a threshold", default=Softplus)
    return Hint(trains=None, why="positive, and its name says nothing", default=ExpScaledLog)


def _all(condition: Any) -> bool:
    """Whether a condition holds for each number; on the meta device there are none."""
    if isinstance(condition, Tensor):
        return condition.is_meta or bool(condition.all())
    return bool(condition)
