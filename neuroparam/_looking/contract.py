"""check_parametrization: whether a user's map keeps the contract of `Parametrization`."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._attaching.trainable import make_trainable
from neuroparam._looking.summary import summary
from neuroparam._looking.values import values
from neuroparam._maps.base import Parametrization

__all__ = ["check_parametrization"]


def check_parametrization(
    parametrization: Parametrization,
    shape: Sequence[int] = (3,),
    dtype: torch.dtype = torch.float32,
    raw_range: tuple[float, float] = (-8.0, 8.0),
) -> None:
    """Checks that a parametrization of your own keeps the contract of `Parametrization`.

    It checks an instance, which is left as it is, on raw values from a range: shapes and dtypes,
    the domain, the inverse, strict monotony, elementwise computation, and gradients against
    finite differences. Then it attaches a copy, and checks `summary`, a copy, a pickle (where
    pickle finds the class), and a state dict that is loaded back.

    Args:
        parametrization: the map.
        shape: of the values that are attached.
        dtype: in which values are attached; gradients are checked in float64 besides.
        raw_range: the least and the greatest raw value to try.

    Raises:
        AssertionError: saying what does not hold, and for which raw values.

    Examples:
        >>> import torch
        >>> from torch.distributions import constraints
        >>> from neuroparam import Parametrization
        >>> from neuroparam.testing import check_parametrization
        >>> class Square(Parametrization):
        ...     domain = constraints.positive
        ...     def forward(self, raw):
        ...         return torch.nn.functional.softplus(raw).square()
        ...     def right_inverse(self, value):
        ...         return value  # wrong
        >>> check_parametrization(Square())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        AssertionError: Square(): forward(right_inverse(value)) differs from value by more ...
    """
    tried = copy.deepcopy(parametrization)
    _check_constants(tried)
    raw = torch.linspace(*raw_range, 41)
    # A constant that is fitted takes a value first.
    tried.right_inverse(torch.full((1,), _some_value(tried)))
    for precision in dict.fromkeys((dtype, torch.float64)):
        _check_values(tried, raw.to(precision))
    _check_gradients(tried, raw.double())
    _check_attached(tried, raw, tuple(shape), dtype)


def _require(holds: object, parametrization: Parametrization, problem: str) -> None:
    if not bool(holds):
        raise AssertionError(f"{parametrization!r}: {problem}")


def _some_value(parametrization: Parametrization) -> float:
    """A value inside the domain."""
    lower, upper = parametrization.image(-math.inf, math.inf)
    if math.isfinite(lower) and math.isfinite(upper):
        return (lower + upper) / 2
    if math.isfinite(lower):
        return lower + 1.0
    return upper - 1.0 if math.isfinite(upper) else 0.0


def _check_constants(tried: Parametrization) -> None:
    _require(isinstance(tried, Parametrization), tried, "is no Parametrization")
    _require(getattr(tried, "domain", None) is not None, tried, "states no domain")
    for name in tried.constant_names:
        if not hasattr(tried, name):  # Its repr would fail.
            raise AssertionError(
                f"{type(tried).__name__} names a constant {name!r} that it has not"
            )
        _require(
            isinstance(getattr(tried, name), (float, int, str, type(None))),
            tried,
            f"the constant {name!r} is no python number: it would change with the dtype of the "
            f"module",
        )
    _require(not [*tried.buffers()], tried, "has buffers; keep constants as python floats")


def _check_values(tried: Parametrization, raw: Tensor) -> None:
    value = tried(raw)
    _require(
        value.shape == raw.shape and value.dtype == raw.dtype and value.device == raw.device,
        tried,
        f"forward changes shape, dtype or device: {tuple(value.shape)}, {value.dtype} for a raw "
        f"tensor of {tuple(raw.shape)}, {raw.dtype}",
    )
    outside = tried.outside_domain(value)
    _require(
        not outside.any(),
        tried,
        f"values leave the domain {tried.domain_in_words()} at raw = {raw[outside].tolist()[:3]}",
    )
    lowest, highest = tried.limits(raw.dtype)
    _require(
        ((value >= lowest) & (value <= highest)).all(),
        tried,
        f"values leave the limits {lowest:g} to {highest:g} that it states for {raw.dtype}",
    )
    back = tried(tried.right_inverse(value))
    tolerance = 1e-9 if raw.dtype == torch.float64 else 1e-3
    close = torch.isclose(back, value, rtol=tolerance, atol=0.0)
    _require(
        close.all(),
        tried,
        f"forward(right_inverse(value)) differs from value by more than {tolerance:g} of it, at "
        f"value = {value[~close].tolist()[:3]}",
    )
    one_by_one = torch.stack([tried(each) for each in raw])
    same = torch.isclose(one_by_one, value, rtol=tolerance, atol=0.0)
    _require(same.all(), tried, "forward does not compute elementwise")


def _check_gradients(tried: Parametrization, raw: Tensor) -> None:
    value = tried(raw)
    steps = value.diff()
    _require(
        (steps > 0).all() or (steps < 0).all(), tried, "forward is not strictly monotone in float64"
    )
    wanted = raw.clone().requires_grad_(True)
    output = tried(wanted).sum()
    _require(output.requires_grad, tried, "no gradient reaches the raw tensor")
    (gradient,) = torch.autograd.grad(output, wanted)
    width = 1e-6
    slope = (tried(raw + width) - tried(raw - width)) / (2 * width)
    close = torch.isclose(gradient, slope, rtol=1e-3, atol=1e-6 * float(slope.abs().max()))
    _require(
        close.all(),
        tried,
        f"the gradient differs from finite differences at raw = {raw[~close].tolist()[:3]}",
    )


def _check_attached(
    tried: Parametrization, raw: Tensor, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    wanted = tried(raw[torch.arange(math.prod(shape)) % len(raw)].to(dtype)).reshape(shape)
    module: Any = nn.Module()
    module.value = wanted.clone()
    make_trainable(module, {"value": tried})
    close = torch.isclose(module.value, wanted, rtol=1e-3, atol=0.0)
    _require(close.all(), tried, "attaching changes the values")
    _require(repr(tried) in summary(module), tried, "summary does not show it")
    others = {"a deep copy": copy.deepcopy(module)}
    # pickle does not find a class that is defined in a function or a notebook.
    with contextlib.suppress(AttributeError, pickle.PicklingError):
        others["an unpickled copy"] = pickle.loads(pickle.dumps(module))
    for what, other in others.items():
        same = torch.equal(values(other)["value"], values(module)["value"])
        _require(same, tried, f"{what} of the module has other values")
    other = others["a deep copy"]
    with torch.no_grad():
        other.parametrizations.value.original.add_(0.5)
    other.load_state_dict(module.state_dict())
    same = torch.equal(values(other)["value"], values(module)["value"])
    _require(same, tried, "loading its state dict gives other values")
