"""Ties: several places share one trainable value."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuroparam._attaching.build import build
from neuroparam._attaching.request import Request
from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.errors import (
    InvalidArgumentError,
    NotTrainableError,
    ParametrizationError,
    placed,
)
from neuroparam._ground.messages import describe
from neuroparam._value.parameter import NeuronParameter, in_words

__all__ = ["build_all"]

# By how much raw values of places that are about to share one may differ: a decay near 1 is stored
# with few digits of its time constant.
_CLOSE = 1e-3


def build_all(module: nn.Module, requests: Sequence[Request]) -> list[NeuronParameter]:
    """The trainable value of each request; those of one tie share their raw tensor.

    Raises:
        NotTrainableError, ParametrizationError, InvalidArgumentError: what is tied differs.
        OutOfDomainError, TimeStepError: as `build`.
    """
    leaders: dict[object, tuple[Request, NeuronParameter]] = {}
    built = []
    for request in requests:
        with placed(request.place.path):
            if request.tie in leaders:
                first, leader = leaders[request.tie]
                _refuse_other_request(first, request)
                parameter = _follower(module, first, request, leader)
                parameter.share(leader)
            else:
                parameter = build(module, request)
                if request.tie is not None:
                    leaders[request.tie] = request, parameter
        built.append(parameter)
    return built


def _refuse_other_request(first: Request, request: Request) -> None:
    """Raises if something else is asked for at two places of a tie."""
    tied = f"it is tied to {first.place.path!r}"
    if _unit_of_name(first) != _unit_of_name(request):
        raise NotTrainableError(
            f"{tied}, and named in another unit ({request.name!s}; {first.name!s})",
            "Name both by their paths, or both by a quantity of one unit.",
        )
    if _maps_of(first) != _maps_of(request):
        raise ParametrizationError(
            f"{tied}, which gets {_maps_of(first)}, and would get {_maps_of(request)}: equal raw "
            f"values would mean other values. Give one parametrization for both."
        )
    for argument, one, other in (
        ("init", first.init, request.init),
        ("shape", first.shape, request.shape),
    ):
        if one is not other and describe(one) != describe(other):
            raise InvalidArgumentError(
                argument, other, f"{tied}, for which it is {describe(one)}; give one for both"
            )


def _unit_of_name(request: Request) -> str | None:
    return request.name.unit if isinstance(request.name, Quantity) else None


def _maps_of(request: Request) -> str:
    """The parametrizations that a request gets, in words."""
    if request.maps is not None:
        return in_words(request.maps)
    by_default = isinstance(request.name, Quantity) and request.name.is_time_constant
    return "the default of time constants" if by_default else repr(request.place.default)


def _follower(
    module: nn.Module, first: Request, request: Request, leader: NeuronParameter
) -> NeuronParameter:
    """The value of a place, with the constants of the one to which it is tied."""
    given = 1 if first.maps is None else len(first.maps)
    maps: list[nn.Module] = [copy.deepcopy(leader[index]) for index in range(given)]
    stored = request.place.value
    if request.shape is None and isinstance(stored, Tensor) and stored.numel() != 1:
        _refuse_other_kind(first, "shape", tuple(stored.shape), tuple(leader.raw.shape))
    init = request.init
    if init is not None:  # It may be drawn at random.
        value = leader.physical() if isinstance(first.name, Quantity) else leader()
        init = value.detach()
    found = build(module, dataclasses.replace(request, maps=maps, init=init))
    tied = f"it is tied to {first.place.path!r}"
    mine, theirs = in_words(found.before_unit), in_words(leader.before_unit)
    if mine != theirs:
        raise ParametrizationError(
            f"{tied}, whose maps are {theirs}, and here they are {mine}: equal raw values would "
            f"mean other values. Give bounds that suit both modules: BoundedSigmoid(lower, upper)."
        )
    own, raw = found.raw, leader.raw
    _refuse_other_kind(first, "shape", tuple(own.shape), tuple(raw.shape))
    _refuse_other_kind(first, "dtype", own.dtype, raw.dtype)
    _refuse_other_kind(first, "device", own.device, raw.device)
    if not torch.allclose(own, raw, rtol=_CLOSE, atol=_CLOSE):
        raise InvalidArgumentError(
            "init",
            None,
            f"{tied}, where another value is stored: {describe(leader().detach())} there, "
            f"{describe(found().detach())} here. Give the value to start from",
        )
    return found


def _refuse_other_kind(first: Request, what: str, here: object, there: object) -> None:
    """Raises unless a tensor of a place is like that of the one to which it is tied."""
    if here != there:
        raise NotTrainableError(
            f"it is tied to {first.place.path!r}, whose {what} is {there}, and here it is {here}",
            "Tie values of one shape, dtype and device, or give a single number a shape=...",
        )
