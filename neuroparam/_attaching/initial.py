"""Initial values: whatever the user gives, as one checked tensor in the stored unit."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._ground.real import as_real, why_not_real
from neuroparam._ground.shapes import broadcasts_to

__all__ = ["Initial", "Shape", "initial_tensor"]

# torch computes with tensors of at most so many dimensions.
_MOST_DIMENSIONS = 64

Initial: TypeAlias = (
    "None | float | Tensor | Sequence[float] | Distribution | Callable[[torch.Size], Any]"
)
"""An initial value: None keeps the present one, and a callable gets the shape."""

Shape: TypeAlias = "None | int | str | Sequence[int]"
"""A shape, or "neuron", "channel" or "layer" with an `example`; None keeps the present one."""


def initial_tensor(
    init: Initial,
    shape: Shape,
    present: Tensor,
    domain: constraints.Constraint | None,
) -> Tensor:
    """A new tensor with the dtype and device of `present`, which is left as it was.

    Args:
        init: None (keep `present`), a number, a tensor or array, a distribution, or a callable
            `shape -> values`.
        shape: the shape wanted; None keeps that of `present`, or takes that of `init` where
            `present` is a single number.
        present: the value now stored, floating point.
        domain: what the values must satisfy; only a distribution's support is checked here,
            the values are checked by the parametrization.

    Raises:
        InvalidArgumentError: wrong type, shape, dtype, an empty or non-finite tensor, or a
            distribution whose support leaves the domain.
    """
    wanted = _as_shape(shape)
    size = present.shape if wanted is None else wanted
    if isinstance(init, nn.Module) and hasattr(init, "right_inverse"):
        raise _unusable(
            init,
            "the third argument is the initial value; give a parametrization with its name, "
            "{name: parametrization}",
        )
    if isinstance(init, type):
        raise _unusable(init, "it is a class; give an instance, or a function")
    if isinstance(init, Distribution):
        _check_support(init, domain)
        values: Any = _sample(init, size)
    elif callable(init) and not isinstance(init, Tensor):
        values = _called(init, size, init)
        if values is None:
            raise _unusable(init, "the callable returned None, not the values")
    else:
        values = present if init is None else init

    tensor = _as_tensor(values).to(device=present.device, dtype=present.dtype)
    if wanted is None:
        wanted = present.shape if broadcasts_to(tensor.shape, present.shape) else tensor.shape
        if present.numel() != 1 and wanted != present.shape:
            raise _unusable(
                values, f"the stored value has shape {tuple(present.shape)}; give shape=..."
            )
    if not broadcasts_to(tensor.shape, wanted):
        raise _unusable(values, f"it does not broadcast to shape {tuple(wanted)}")
    if not bool(torch.isfinite(tensor).all()):
        raise _unusable(values, "every value must be finite")
    try:
        if len(wanted) > _MOST_DIMENSIONS:
            raise TypeError
        return tensor.detach().expand(wanted).clone(memory_format=torch.contiguous_format)
    except (RuntimeError, TypeError, ValueError) as error:  # torch cannot count so many values.
        problem = "torch can make no tensor of this shape"
        raise _unusable(tuple(wanted), problem) from error


def _unusable(given: object, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError("init", given, problem)


def _as_shape(shape: Any) -> torch.Size | None:
    if shape is None:
        return None
    try:
        several = hasattr(shape, "__iter__") and not isinstance(shape, (str, bytes))
        sizes = list(shape) if several else [shape]
        if any(isinstance(size, bool) for size in sizes):
            raise TypeError  # True would count as 1.
        wanted = torch.Size([operator.index(size) for size in sizes])
    except TypeError:
        wanted = torch.Size((0,))
    if any(size < 1 for size in wanted):
        raise InvalidArgumentError("shape", shape, "must be positive integers")
    return wanted


def _as_tensor(values: Any) -> Tensor:
    expected = "it must be a number, tensor or array"
    if isinstance(values, (str, bytes, bytearray, bool)):
        raise _unusable(values, expected)
    single = None if isinstance(values, Tensor) else as_real(values)
    if single is not None:  # It may be an integer that is too large for torch.
        return torch.tensor(single, dtype=torch.float64)
    try:
        tensor = torch.as_tensor(values)
    except Exception as error:  # An array of another library may raise anything.
        raise _unusable(values, expected) from error
    problem = why_not_real(tensor)
    if tensor.is_meta:
        problem = "it is on the meta device", "give a tensor that has numbers"
    if problem is not None:
        raise _unusable(values, "; ".join(problem))
    return tensor


def _called(draw: Callable[[torch.Size], Any], size: torch.Size, init: object) -> Any:
    """What the user's function returns for a shape."""
    try:
        return draw(size)
    except Exception as error:  # It is the user's code, and may raise anything.
        raise _unusable(
            init,
            f"give a function from a shape, as one tuple, to values, such as "
            f"numpy.random.random_sample or lambda shape: torch.rand(shape); this one, called with "
            f"{tuple(size)}, raised {type(error).__name__}: {error}",
        ) from error


def _sample(distribution: Distribution, wanted: torch.Size) -> Any:
    own = distribution.batch_shape + distribution.event_shape
    if len(own) > len(wanted) or wanted[len(wanted) - len(own) :] != own:
        raise _unusable(
            distribution,
            f"samples of shape (*, {', '.join(map(str, own))}) cannot fill shape {tuple(wanted)}; "
            f"give shape=...",
        )
    return _called(distribution.sample, wanted[: len(wanted) - len(own)], distribution)


def _check_support(distribution: Distribution, domain: constraints.Constraint | None) -> None:
    """Refuses a distribution that could draw from beyond a bound of the domain.

    Only the bounds are probed: a support that misses the domain altogether is found by the
    check of the values drawn.
    """
    try:
        support = distribution.support
    except NotImplementedError:  # It states no support. The values drawn are checked later.
        return
    for bound, outwards in (
        (getattr(domain, "lower_bound", None), -1.0),
        (getattr(domain, "upper_bound", None), 1.0),
    ):
        if bound is None or math.isinf(bound) or support is None:
            continue
        own = distribution.batch_shape + distribution.event_shape
        probe = torch.full(own, bound + outwards * (1e-5 * abs(bound) or 1e-30))
        if bool(torch.as_tensor(support.check(probe)).any()):
            raise _unusable(
                distribution,
                f"its support {_in_words(support)} leaves the domain {_in_words(domain)}; give a "
                f"distribution inside it, such as neuroparam.initial.log_normal(median, spread, "
                f"lower=..., upper=...), or a callable such as "
                f"lambda shape: distribution.sample(shape).clamp(...)",
            )


def _in_words(constraint: Any) -> str:
    """A constraint as an interval."""
    lower = getattr(constraint, "lower_bound", -math.inf)
    upper = getattr(constraint, "upper_bound", math.inf)
    if isinstance(lower, Tensor) or isinstance(upper, Tensor):
        return str(constraint)
    return f"({lower:g}, {upper:g})"
