"""Training that diverges is reported: a step that leaves a raw value inf or NaN raises."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from neuroparam.errors import NonFiniteError

__all__ = ["Trained", "forget_steps", "refuse_not_finite", "watch_steps"]


class Trained(Protocol):
    """What is watched: the raw Parameter that an optimizer changes, and where it is."""

    path: str

    @property
    def raw(self) -> nn.Parameter: ...


_watched: weakref.WeakKeyDictionary[Trained, None] = weakref.WeakKeyDictionary()


def watch_steps(parameter: Trained) -> None:
    """From now on, a step of an optimizer that leaves its raw values inf or NaN raises."""
    _watched[parameter] = None


def forget_steps(parameter: Trained) -> None:
    """Its raw Parameter may have become the module's own again."""
    _watched.pop(parameter, None)


def _after_step(optimizer: Optimizer, *_: object) -> None:
    # After the step and not in the forward, where each time step of a cell would pay for it, and
    # a compiled one has no place for it. At the raw values and not at the gradients, which a
    # GradScaler, or the optimizer, may leave out.
    if not _watched or torch.compiler.is_compiling():
        return
    alive = (reference() for reference in _watched.keyrefs())  # at once, whatever threads do
    watched = {id(parameter.raw): parameter for parameter in alive if parameter is not None}
    stepped = (watched.get(id(p)) for group in optimizer.param_groups for p in group["params"])
    rates = {f"{float(group['lr']):g}" for group in optimizer.param_groups if "lr" in group}
    refuse_not_finite(
        # on an accelerator a look would wait for the device, in each step
        [p for p in stepped if p is not None and p.raw.device.type == "cpu"],
        f"after a step of {type(optimizer).__name__} with lr={' and '.join(sorted(rates))}",
    )


def refuse_not_finite(parameters: Iterable[Trained], when: str) -> None:
    """Raises where a raw value is inf or NaN.

    Args:
        parameters: where to look; sharded ones, of which each process has a part, are left out.
        when: what has just happened, for the message.

    Raises:
        NonFiniteError: naming each of them.
    """
    lost = {}
    for parameter in parameters:
        raw = parameter.raw.detach()
        if hasattr(raw, "device_mesh") or raw.is_meta:
            continue
        if math.isfinite(raw.sum().item()):
            continue  # and so is each summand, at a third of the cost
        finite = torch.isfinite(raw)
        if not bool(finite.all()):
            lost[parameter.path] = f"{int((~finite).sum())} of {raw.numel()}"
    if lost:
        raise NonFiniteError(lost, when)


register_optimizer_step_post_hook(_after_step)
