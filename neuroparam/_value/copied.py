"""Raw numbers that were copied from another network, where other constants give them a meaning.

`p.copy_(q)`, `vector_to_parameters` and broadcasts copy raw tensors without their constants.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import MisuseWarning
from neuroparam._ground.messages import warn
from neuroparam._ground.torch_state import is_traced

__all__ = ["Copied", "fingerprint"]

# Values of one path and shape, each with its maps in words.
_Group: TypeAlias = list[tuple["weakref.ref[Any]", str]]


def fingerprint(raw: Tensor) -> float | None:
    """A number that changes with the raw numbers; None where asking for one would wait.

    A look at a tensor on an accelerator waits for the device, and one at a sharded tensor for
    the other processes.
    """
    if not _is_seen(raw):
        return None
    numbers = raw.detach().double().flatten()
    # A plain sum is 0 for all networks in which the reference is fitted to the values themselves.
    weights = torch.arange(1, len(numbers) + 1, dtype=torch.float64, device="cpu")
    return (numbers @ weights).item()


def _is_seen(raw: Tensor) -> bool:
    return type(raw) in (nn.Parameter, Tensor) and raw.device.type == "cpu"


class Copied:
    """Finds raw tensors that have become equal to those of a value with other constants.

    It compares values of one path and one shape in networks of one class, as the same code builds
    them. Networks of other kinds may have equal raw numbers by chance. Nearly always the
    constants agree, and there is nothing to look at.
    """

    def __init__(self) -> None:
        self._stamp: object = None
        self._unlike: weakref.WeakKeyDictionary[Any, _Group] = weakref.WeakKeyDictionary()

    def look(self, value: Any, everything: Any) -> None:
        """Warns if the raw numbers of a value have been copied from one with other constants.

        Args:
            value: what is evaluated.
            everything: all values that are alive, with a stamp that changes with them.
        """
        # What has been trained is no network that is filled by copies, and what is being made has
        # none of its numbers from one.
        if value.evidence.proven or value not in everything:
            return
        if is_traced():
            return  # Looking would become part of what is traced.
        if self._stamp is not everything.stamp:
            self._unlike = _unlike(everything.all())
            self._stamp = everything.stamp
        if value not in self._unlike:
            return
        raw = value.raw.detach()
        before, now = value.fingerprint, fingerprint(raw)
        value.__dict__["fingerprint"] = now
        # Two values at their reference have raw numbers of 0.
        if now is None or before is None or before == now or not bool(raw.any()):
            return
        mine = _maps_of(value)
        for reference, theirs in self._unlike[value]:
            other = reference()
            if theirs == mine or other is None or not torch.equal(other.raw.detach(), raw):
                continue
            # Single numbers may be equal by chance, unless they come from training.
            telling = raw.unique().numel() > 1 or other.evidence.proven
            if telling and value.evidence.is_news("copied"):
                warn(
                    f"the raw numbers of {value.path_in_network()!r} are a copy of those of "
                    f"another network, where they mean other values: the maps are {theirs} there, "
                    f"{mine} here. Copy with load_state_dict(other.state_dict()), which "
                    f"takes the constants along, or give both the same constants when they are "
                    f"attached.",
                    MisuseWarning,
                )
            return


def _unlike(values: Iterable[Any]) -> weakref.WeakKeyDictionary[Any, _Group]:
    """For each value, all that it is compared with, if the constants of any of them differ."""
    alike: dict[tuple[Any, ...], list[Any]] = {}
    for value in values:
        raw = value._parameters["original"]
        if _is_seen(raw):
            # A copy has no root, and is compared with other copies.
            network = None if value.root is None else type(value.root())
            alike.setdefault((network, value.path, raw.shape, raw.dtype), []).append(value)
    found: weakref.WeakKeyDictionary[Any, _Group] = weakref.WeakKeyDictionary()
    for values_of_path in alike.values():
        group = [(weakref.ref(value), _maps_of(value)) for value in values_of_path]
        if len({words for _, words in group}) > 1:
            found.update(dict.fromkeys(values_of_path, group))
    return found


def _maps_of(value: Any) -> str:
    return " -> ".join(map(repr, value._modules.values()))
