"""The constants of a map in a state dict: one small tensor, like everything else there."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from neuroparam._ground.errors import CheckpointError
from neuroparam._ground.messages import describe
from neuroparam._ground.real import as_real

__all__ = ["agree", "as_number", "read", "stands_for", "written"]

# The tensor holds [format, kind of map, *constants, *logarithms of the constants]. It is float64
# on the CPU, so that it is exact and reading it waits for no device.
_FORMAT = 1.0

# By how much, relative to itself, a number may be off after what people do with state dicts.
# Averages in float64 and float32 add up roundings; in half precision a tensor is only stored.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 5e-4}


def as_number(constant: object) -> float | None:
    """A constant as the number that is written for it; None if it cannot be written.

    A constant that is not fitted yet is NaN.
    """
    if constant is None:
        return math.nan
    if isinstance(constant, str):
        return stands_for(constant)
    return float(constant) if isinstance(constant, bool) else as_real(constant)


def stands_for(word: str) -> float:
    """The number between 1 and 251 that is written for a word."""
    return 1.0 + 250.0 * zlib.crc32(word.encode()) / 2.0**32


def written(kind: str, constants: Sequence[float]) -> Tensor:
    """The tensor for the constants of a map.

    Args:
        kind: what the map's class is known by.
        constants: its constants, as `as_number` gives them.
    """
    numbers = [_FORMAT, stands_for(kind), *constants, *map(_log, constants)]
    with torch.inference_mode(False):  # An average of state dicts writes into the tensor.
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")


def read(state: Tensor, names: Sequence[str]) -> tuple[float, list[float]]:
    """The kind of map, as a number, and the constants that a tensor of a checkpoint holds.

    Args:
        state: the tensor, in any floating-point dtype.
        names: the names of the constants that are expected.

    Raises:
        CheckpointError: it is no such tensor, it was written by a later release, or it is an
            average of constants that differ.
    """
    if state.is_meta or not state.is_floating_point() or state.ndim != 1:
        raise CheckpointError(f"the checkpoint has {describe(state)} for the constants of a map.")
    numbers: list[float] = state.detach().double().tolist()
    form, *rest = numbers or [math.nan]
    if form > _FORMAT and form == round(form):
        raise CheckpointError(
            f"the checkpoint was written by a later release of neuroparam: its constants have "
            f"format {form:g}, and this release reads {_FORMAT:g}. Install that release."
        )
    if len(rest) < 1 or not agree(form, _FORMAT, state.dtype):
        raise CheckpointError(
            f"the checkpoint has {describe(state)} for the constants of a map, which no release "
            f"has written. They are no weights: leave every `_extra_state` as it was saved."
        )
    kind, *rest = rest
    if len(rest) != 2 * len(names):
        return kind, []  # It is another map, or the class had other constants when it was written.
    constants, logs = rest[: len(names)], rest[len(names) :]
    averaged = [
        name
        for name, constant, log in zip(names, constants, logs, strict=True)
        if not _is_log(log, constant, state.dtype)
    ]
    if averaged:
        raise CheckpointError(
            f"the checkpoint is an average of networks in which {', '.join(averaged)} differed, "
            f"so that equal raw values meant other values in each, and their average means none. "
            f"Average the values themselves (plain_state_dict, values), or give all networks the "
            f"same constants when they are attached."
        )
    return kind, constants


def agree(theirs: float, mine: float, dtype: torch.dtype) -> bool:
    """Whether a number of a checkpoint is this one, but for roundings.

    Args:
        theirs: as it was read.
        mine: in double precision.
        dtype: in which the checkpoint holds it.
    """
    stored = torch.tensor(mine, dtype=torch.float64, device="cpu").to(dtype).item()
    both_unset = math.isnan(theirs) and math.isnan(stored)
    return both_unset or math.isclose(theirs, stored, rel_tol=_rounding(dtype))


def _rounding(dtype: torch.dtype) -> float:
    return _ROUNDING.get(dtype, torch.finfo(dtype).eps)


def _log(constant: float) -> float:
    return math.log(abs(constant)) if constant else 0.0


def _is_log(log: float, constant: float, dtype: torch.dtype) -> bool:
    """Whether a number is the logarithm of a constant, but for roundings.

    For an average of equal constants it is; for one of unlike constants it is not, because a
    logarithm is curved.
    """
    if not torch.finfo(dtype).tiny <= abs(constant) < math.inf:
        return True  # The dtype has not kept its digits; where it is fitted, it is refused.
    exact = _log(constant)
    return abs(log - exact) <= _rounding(dtype) * (1 + abs(exact))
