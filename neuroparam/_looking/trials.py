"""Trials of one stored value: copies of a network run with it, and tell what it does there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from neuroparam._attaching.survey import survey
from neuroparam._attaching.trainable import make_trainable
from neuroparam._ground.errors import NeuroparamError, NotTrainableError
from neuroparam._maps.base import Parametrization
from neuroparam._value.copying import as_before, copy_of_network
from neuroparam._value.place import attached
from neuroparam._value.running import tensors_in
from neuroparam._value.uses import clamped_to, first_uses, mapped_by

__all__ = ["Run", "Trial", "overwritten", "try_value"]

Run: TypeAlias = "Callable[[nn.Module], Any]"
# By how much of itself a value is changed.
_CHANGE = 0.01
# Far beyond every bound.
_FAR = 1e6


@dataclass
class Trial:
    """What a value does in a network.

    Attributes:
        refused: why it cannot be trained, in words; empty if it can.
        failed: what the forward raised with a tensor in the place of the number; empty if it ran.
        read: whether the forward reads it.
        gradient: the largest gradient that reaches it; None if none does.
        moved: how far a change of one per cent moves the output, at most.
        agreement: the change of a sum of the outputs that the gradient foretells, over the change
            that is seen; None where one of them is 0.
        clamped: the range to which the forward clamps it, if it does.
        mapped: the function by which the forward maps it into a range; empty if there is none.
    """

    refused: str = ""
    failed: str = ""
    read: bool = False
    gradient: float | None = None
    moved: float = 0.0
    agreement: float | None = None
    clamped: tuple[float, float] | None = None
    mapped: str = ""


class _AsItIs(Parametrization):
    """No map: the value is the raw tensor. It keeps what it has given."""

    domain = constraints.real

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, raw: Tensor) -> Tensor:
        value = raw.clone()
        self.given.append(value)
        return value

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def _outputs(network: nn.Module, run: Run) -> list[Tensor]:
    with as_before(), torch.enable_grad():
        return [t for t in tensors_in(run(network)) if t.is_floating_point()]


def _weighted(outputs: list[Tensor]) -> Tensor:
    """A sum in which each output counts differently, so that no two changes cancel."""
    total = torch.zeros((), dtype=torch.float64)
    for each in outputs:
        numbers = each.double().flatten().cpu()
        total = total + torch.cos(torch.arange(len(numbers), dtype=torch.float64)) @ numbers
    return total


def overwritten(network: nn.Module, run: Run) -> set[str]:
    """The paths of the numbers that a forward overwrites: those of its states."""
    tried = copy_of_network(network)
    before = {place.path: (place.value, _numbers(place.value)) for place in survey(tried)}
    _outputs(tried, run)
    after = {place.path: place.value for place in survey(tried)}
    return {
        path
        for path, (stored, numbers) in before.items()
        if after.get(path) is not stored or not _is_same(stored, numbers)
    }


def _numbers(stored: Any) -> Any:
    return stored.detach().clone() if isinstance(stored, Tensor) else stored


def _is_same(stored: Any, numbers: Any) -> bool:
    """Whether a stored object has the numbers that it had."""
    if not isinstance(stored, Tensor):
        return True  # Only another object has another number.
    same = stored.shape == numbers.shape
    return same and bool(((stored == numbers) | (stored != stored)).all())


def try_value(network: nn.Module, path: str, run: Run) -> Trial:
    """Runs copies of a network with one of its values as it is, and changed by one per cent.

    Args:
        network: stays as it is.
        path: that of the value.
        run: runs a network once, and gives its output.
    """
    trial = Trial()
    try:
        tried = _Tried(network, path)
    except NotTrainableError as error:
        trial.refused = error.reason
        return trial
    except NeuroparamError as error:
        trial.refused = str(error)
        return trial
    try:
        outputs = _outputs(tried.network, run)
    except Exception as error:  # It is the user's code, and may raise anything.
        trial.failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        trial.clamped = _clamped_in_place(network, path, run)
        return trial
    trial.read = bool(tried.given)
    gradient = _gradient(outputs, tried.raw)
    trial.gradient = None if gradient is None else gradient.abs().max().item()
    _note_uses(trial, tried.given, outputs)
    trial.clamped = trial.clamped or _clamped_in_place(network, path, run)
    changes = [_changed(network, path, run, share) for share in (_CHANGE, -_CHANGE)]
    trial.moved = max(_distance(outputs, others) for others in changes)
    seen = (_weighted(changes[0]) - _weighted(changes[1])).item()
    if gradient is not None and seen != 0.0:
        step = 2 * _CHANGE * tried.unit
        trial.agreement = (gradient.double() * step.double()).sum().item() / seen
    return trial


class _Tried:
    """A copy of a network with one value attached as it is."""

    def __init__(self, network: nn.Module, path: str):
        self.network = copy_of_network(network)
        with as_before():
            make_trainable(self.network, {path: _AsItIs()})
        (parameter,) = (
            place.parameter
            for place in attached(self.network)
            if isinstance(place.parameter[0], _AsItIs)
        )
        self.raw: nn.Parameter = parameter.raw
        each: Any = parameter[0]
        each.given.clear()
        self.given: list[Tensor] = each.given
        # What one per cent is one per cent of: a value of 0 has no per cent.
        self.unit = torch.where(self.raw == 0, 1.0, self.raw).detach().clone()


def _gradient(outputs: list[Tensor], raw: nn.Parameter) -> Tensor | None:
    total = _weighted(outputs)
    if not total.requires_grad:
        return None
    return torch.autograd.grad(total, raw, allow_unused=True)[0]


def _changed(network: nn.Module, path: str, run: Run, share: float) -> list[Tensor]:
    tried = _Tried(network, path)
    with torch.no_grad():
        tried.raw.add_(share * tried.unit)
    return [each.detach() for each in _outputs(tried.network, run)]


def _distance(ones: list[Tensor], others: list[Tensor]) -> float:
    if [each.shape for each in ones] != [each.shape for each in others]:
        return float("inf")
    far = [(a - b).abs().max().item() for a, b in zip(ones, others, strict=True) if a.numel()]
    return max(far, default=0.0)


def _note_uses(trial: Trial, given: list[Tensor], outputs: list[Tensor]) -> None:
    for _, node, is_first in first_uses(dict.fromkeys((t.grad_fn for t in given), None), outputs):
        trial.mapped = trial.mapped or mapped_by(node) or ""
        trial.clamped = trial.clamped or clamped_to(node, is_first)


def _clamped_in_place(network: nn.Module, path: str, run: Run) -> tuple[float, float] | None:
    """The range to which a forward writes a stored tensor back, if it does."""
    found = []
    for far in (-_FAR, _FAR):
        tried = copy_of_network(network)
        stored = next(place.value for place in survey(tried) if place.path == path)
        if not isinstance(stored, Tensor) or not stored.is_floating_point():
            return None
        with torch.no_grad():
            stored.fill_(far)
        with contextlib.suppress(Exception):  # Far beyond its bounds a value may be refused.
            _outputs(tried, run)
        found.append(stored.detach().double().mean().item())
    lower, upper = found
    return (lower, upper) if (lower, upper) != (-_FAR, _FAR) and lower < upper else None
