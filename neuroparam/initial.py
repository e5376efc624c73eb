"""Initial values: whatever the user gives, as one checked tensor in the stored unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from neuroparam.errors import InitialValueError

__all__ = ["Initial", "Shape", "initial_tensor"]

Initial: TypeAlias = (
    "None | float | Tensor | Sequence[float] | Distribution | Callable[[torch.Size], Any]"
)
Shape: TypeAlias = "None | int | Sequence[int]"


def initial_tensor(
    init: Initial,
    shape: Shape,
    present: Tensor,
    domain: constraints.Constraint | None,
    path: str,
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
        path: the place, for messages.

    Raises:
        InitialValueError: wrong type, shape, dtype, an empty or non-finite tensor, or a
            distribution whose support leaves the domain.
    """
    wanted = _as_shape(shape, path)
    if isinstance(init, Distribution):
        _check_support(init, domain, path)
        values: Any = _sample(init, present.shape if wanted is None else wanted, path)
    elif callable(init) and not isinstance(init, Tensor):
        values = init(present.shape if wanted is None else wanted)
        if values is None:
            raise InitialValueError(path, init, "the callable returned None, not the values")
    else:
        values = present if init is None else init

    tensor = _as_tensor(values, path).to(device=present.device, dtype=present.dtype)
    if wanted is None:
        wanted = present.shape if _fits(tensor.shape, present.shape) else tensor.shape
        if present.numel() != 1 and wanted != present.shape:
            raise InitialValueError(
                path, values, f"the stored value has shape {tuple(present.shape)}; give shape=..."
            )
    if not _fits(tensor.shape, wanted):
        raise InitialValueError(path, values, f"it does not broadcast to shape {tuple(wanted)}")
    if not bool(torch.isfinite(tensor).all()):
        raise InitialValueError(path, values, "every value must be finite")
    return tensor.detach().expand(wanted).clone(memory_format=torch.contiguous_format)


def _as_shape(shape: Shape, path: str) -> torch.Size | None:
    if shape is None:
        return None
    sizes = (shape,) if isinstance(shape, int) else shape
    try:
        wanted = torch.Size(sizes)
    except TypeError:
        wanted = torch.Size((0,))
    if isinstance(shape, bool) or any(size < 1 for size in wanted):
        raise InitialValueError(path, shape, "shape must be positive integers")
    return wanted


def _fits(shape: torch.Size, wanted: torch.Size) -> bool:
    try:
        return bool(torch.broadcast_shapes(shape, wanted) == wanted)
    except RuntimeError:
        return False


def _as_tensor(values: Any, path: str) -> Tensor:
    if isinstance(values, (str, bytes, bool)):
        raise InitialValueError(path, values, "it must be a number, tensor or array")
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InitialValueError(path, values, "it must be a number, tensor or array") from error
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise InitialValueError(path, values, "it must be real numbers")
    if tensor.numel() == 0:
        raise InitialValueError(path, values, "it must not be empty")
    return tensor


def _sample(distribution: Distribution, wanted: torch.Size, path: str) -> Tensor:
    own = distribution.batch_shape + distribution.event_shape
    if len(own) > len(wanted) or wanted[len(wanted) - len(own) :] != own:
        raise InitialValueError(
            path, distribution, f"samples of shape (*, {own}) cannot fill shape {tuple(wanted)}"
        )
    return distribution.sample(wanted[: len(wanted) - len(own)])


def _check_support(
    distribution: Distribution, domain: constraints.Constraint | None, path: str
) -> None:
    """Refuses a distribution that could draw from beyond a bound of the domain.

    Only the bounds are probed: a support that misses the domain altogether is found by the
    check of the values drawn.
    """
    support = distribution.support
    for bound, outwards in (
        (getattr(domain, "lower_bound", None), -1.0),
        (getattr(domain, "upper_bound", None), 1.0),
    ):
        if bound is None or support is None:
            continue
        own = distribution.batch_shape + distribution.event_shape
        probe = torch.full(own, bound + outwards * (1e-5 * abs(bound) or 1e-30))
        if bool(torch.as_tensor(support.check(probe)).any()):
            raise InitialValueError(
                path,
                distribution,
                f"its support {support} leaves the domain {domain}; give a distribution inside "
                f"it, or a callable such as lambda shape: distribution.sample(shape).clamp(...)",
            )
