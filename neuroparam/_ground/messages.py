"""Words for messages: one phrase for what was found, and lists of paths."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import takewhile
from types import FrameType

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from neuroparam._ground.real import why_not_real
from neuroparam._ground.torch_state import callers

__all__ = ["describe", "listing", "warn"]

_LISTED = 20


def describe(value: object) -> str:
    """One short phrase for a value in an error message.

    >>> import torch
    >>> describe(torch.tensor([1.0, 5.0]))
    'a float32 tensor of shape (2,), min 1, max 5'
    >>> describe(0.5)
    '0.5'
    """
    if not isinstance(value, Tensor):
        try:
            text = repr(value)
        except Exception:  # A user's class, or an integer of 5000 digits, may raise anything.
            text = f"an object of {type(value)!r}"
        return text if len(text) <= 60 else f"{text[:57]}..."
    kind = f"a {str(value.dtype).removeprefix('torch.')} tensor"
    if is_lazy(value) or value.is_nested:
        return kind  # Such a tensor has no shape.
    kind = f"{kind} of shape {tuple(value.shape)}"
    if value.is_meta:
        return f"{kind} on the meta device"
    if why_not_real(value) is not None:
        return kind
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        return kind  # vmap keeps the numbers out of reach.
    numbers = value.detach().double()
    return f"{kind}, min {numbers.min().item():g}, max {numbers.max().item():g}"


def listing(paths: Iterable[str]) -> str:
    """The paths as an indented list, which ends after twenty of them."""
    shown = list(paths)
    lines = [f"  {path}" for path in shown[:_LISTED]]
    if len(shown) > _LISTED:
        lines.append(f"  ... and {len(shown) - _LISTED} more")
    return "\n".join(lines)


def warn(message: str, category: type[Warning]) -> None:
    """Warns at the line of the user's that is running, whatever torch and we do below it."""
    inside = [*takewhile(_is_inside, callers())]
    warnings.warn(message, category, stacklevel=1 + len(inside))


def _is_inside(frame: FrameType) -> bool:
    """Whether a call is one of ours, or of torch's."""
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return package in ("neuroparam", "torch")
