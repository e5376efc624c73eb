"""What the forward of a module does first with a value: it may bound it a second time.

The graph behind the output of the module shows it, so that it is found in code of any kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from neuroparam._ground.errors import MisuseWarning
from neuroparam._ground.messages import warn
from neuroparam._maps.base import Parametrization
from neuroparam._value.network import paths_in_networks
from neuroparam._value.parameter import NeuronParameter, in_words

__all__ = ["clamped_to", "first_uses", "mapped_by", "warn_if_bounded_again"]

_Source = TypeVar("_Source")

# Functions that map any number into a range, by the names of their nodes in a graph.
_MAPS = {
    "Exp2Backward0": "exp2",
    "ExpBackward0": "exp",
    "HardsigmoidBackward0": "hardsigmoid",
    "LogSigmoidBackward0": "logsigmoid",
    "SigmoidBackward0": "sigmoid",
    "SoftplusBackward0": "softplus",
    "TanhBackward0": "tanh",
}
# Nodes that bound a number, and the attributes that hold the lower and the upper bound.
_CLAMPS = {
    "ClampBackward0": ("min", "max"),
    "ClampBackward1": ("min", "max"),
    "ClampMaxBackward0": (None, "max"),
    "ClampMinBackward0": ("min", None),
    "HardtanhBackward0": ("min_val", "max_val"),
    "MaximumBackward0": ("other", None),
    "MinimumBackward0": (None, "other"),
}
# Nodes that hand a tensor on in another shape or dtype.
_SAME_NUMBERS = (
    "Alias",
    "Clone",
    "Expand",
    "Permute",
    "Repeat",
    "Reshape",
    "Select",
    "Slice",
    "Squeeze",
    "TBackward",
    "ToCopy",
    "Transpose",
    "Unsqueeze",
    "UnsafeView",
    "View",
)


def warn_if_bounded_again(
    values: Mapping[NeuronParameter, Tensor], outputs: Iterable[Tensor]
) -> None:
    """Warns of values that a forward clamps to a narrower range, or maps a second time.

    Args:
        values: each value, and the tensor that the forward has read.
        outputs: what the forward has given.
    """
    sources = {t.grad_fn: value for value, t in values.items() if t.grad_fn is not None}
    for value, node, is_first in first_uses(sources, outputs):
        if not isinstance(value.last_map, Parametrization):
            continue  # A map that states no domain may stay inside or not.
        problem = _clamped(value, node, is_first) or _mapped(value, node)
        if problem is not None and value.evidence.is_news("bounded again"):
            (path,) = paths_in_networks([value])
            warn(f"{path!r}: {problem}", MisuseWarning)


def first_uses(
    sources: Mapping[Any, _Source], outputs: Iterable[Tensor]
) -> list[tuple[_Source, Any, bool]]:
    """What takes the results of some nodes of a graph.

    Args:
        sources: nodes that give a value, and what the value is.
        outputs: where to begin.

    Returns:
        What a value is, a node that takes it, and whether it is the first argument there.
    """
    if not sources:
        return []
    # Nodes are numbered as they are made. Those from before the first value cannot use one.
    first = min(node._sequence_nr() for node in sources)
    pending = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    seen = set(pending)
    uses = []
    while pending:
        node: Any = pending.pop()
        if node in sources:
            continue
        for index, (following, _) in enumerate(node.next_functions):
            if following is None or following._sequence_nr() < first:
                continue
            origin: Any = following
            while origin not in sources and origin is not None:
                is_same = origin.name().startswith(_SAME_NUMBERS)
                origin = origin.next_functions[0][0] if is_same else None
            if origin is not None:
                uses.append((sources[origin], node, index == 0))
            if following not in seen:
                seen.add(following)
                pending.append(following)
    return uses


def clamped_to(node: Any, is_first: bool) -> tuple[float, float] | None:
    """The range to which a node clamps a value; None if it does not, or to nothing fixed.

    Args:
        node: what takes the value.
        is_first: whether the value is the first argument there.
    """
    name = node.name()
    if name == "ReluBackward0":
        found: tuple[float | None, float | None] = 0.0, math.inf
    elif name in _CLAMPS:
        low, high = _CLAMPS[name]
        if "other" in (low, high):
            # The larger or the smaller one of two tensors: a bound, if it is a constant.
            if any(node.next_functions[is_first]):
                return None
            low, high = (each and ("other" if is_first else "self") for each in (low, high))
        elif not is_first:
            return None  # It is a bound itself.
        found = _bound(node, low, max, -math.inf), _bound(node, high, min, math.inf)
    else:
        return None
    lower, upper = found
    return None if lower is None or upper is None else (lower, upper)


def _clamped(value: NeuronParameter, node: Any, is_first: bool) -> str | None:
    """What to say of a node that clamps a value to a range which the value can leave."""
    found = clamped_to(node, is_first)
    if found is None:
        return None
    lower, upper = found
    lowest, highest = value.bounds
    if lower <= lowest and highest <= upper:
        return None
    inside = f"Softplus(lower={max(lower, lowest):g})"
    if min(upper, highest) < math.inf:
        inside = f"BoundedSigmoid({max(lower, lowest):g}, {min(upper, highest):g})"
    return (
        f"the forward of its module clamps it to [{lower:g}, {upper:g}], and {in_words(value)} "
        f"lets it leave this range, where its gradient is 0 and the forward computes with another "
        f"number. Give a parametrization that stays inside, such as {inside}."
    )


def _bound(node: Any, name: str | None, narrower: Any, otherwise: float) -> float | None:
    """A bound that a node has saved as a number or a tensor; None if it cannot be read."""
    if name is None:
        return otherwise
    saved = getattr(node, f"_raw_saved_{name}", None)
    if saved is None:  # It is a number.
        found = getattr(node, f"_saved_{name}")
        return otherwise if found is None else float(found)
    # `_saved_...` would run hooks for saved tensors, and activation checkpointing would compute a
    # whole region again.
    tensor = getattr(saved, "data", None)
    return float(narrower(tensor.detach().flatten())) if isinstance(tensor, Tensor) else None


def mapped_by(node: Any) -> str | None:
    """The function by which a node maps any number into a range; None if it does not."""
    return _MAPS.get(node.name())


def _mapped(value: NeuronParameter, node: Any) -> str | None:
    """What to say of a node that maps a value into a range, where it has been mapped before."""
    function = mapped_by(node)
    if function is None or value.bounds == (-math.inf, math.inf):
        return None
    return (
        f"the forward of its module maps it by {function}, so that any number is valid for it, "
        f"and {in_words(value)} keeps it in ({value.bounds[0]:g}, {value.bounds[1]:g}). What the "
        f"forward computes from it cannot take all its values. Leave it the Parameter that it is, "
        f"without a parametrization."
    )
