"""Copies of a network on which something is tried, while the network stays as it is."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import UnsupportedModuleError
from neuroparam._ground.torch_state import all_modules
from neuroparam._value.running import tensors_in

__all__ = ["as_before", "copied", "copy_of_network"]

_Thing = TypeVar("_Thing")


def copied(what: _Thing, held: Iterable[Tensor]) -> _Thing:
    """A deep copy, in which tensors with a graph have none: torch copies no such tensor.

    Args:
        what: anything.
        held: the tensors in it.
    """
    return copy.deepcopy(what, _without_history(held))


def _without_history(held: Iterable[Tensor]) -> dict[int, Any]:
    """What `copy.deepcopy` is told to use for tensors that have a graph."""
    return {id(t): t.detach().clone() for t in held if t.grad_fn is not None}


def copy_of_network(network: nn.Module) -> nn.Module:
    """A copy that shares no tensor with the network, and whose states have no graph.

    Raises:
        UnsupportedModuleError: it holds something that cannot be copied.
    """
    held = [t for part in all_modules(network) for t in tensors_in(part.__dict__)]
    with contextlib.suppress(Exception):  # It is the user's code, and may raise anything.
        return _copied_by_state(network, held)
    try:
        return copied(network, held)
    except Exception as error:
        raise UnsupportedModuleError(
            f"{type(network).__name__} cannot be copied, and values are tried on copies: "
            f"{type(error).__name__}: {error}"
        ) from error


def _copied_by_state(network: nn.Module, held: Iterable[Tensor]) -> nn.Module:
    """A copy, for which modules are not asked how they copy themselves.

    Sinabs' layers go through their constructor, which takes over a tensor that it is given, or
    fails. What they store is copied instead, as it is for any other module.
    """
    memo, states = _without_history(held), []
    for part in all_modules(network):
        if _copies_itself(type(part)):
            reduced: Any = part.__reduce_ex__(4)
            make, args, state, *_ = reduced
            made = make(*args)
            memo[id(part)] = made
            states.append((made, state))
    for made, state in states:
        made.__setstate__(copy.deepcopy(state, memo))
    return copy.deepcopy(network, memo)


def _copies_itself(kind: type) -> bool:
    """Whether a class has a way of its own to copy, which is neither torch's nor ours."""
    method = getattr(kind, "__deepcopy__", None)
    is_known = getattr(method, "__module__", "").startswith(("torch.", "neuroparam."))
    return method is not None and not is_known


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Random generators go on afterwards from where they were before; nothing is warned of."""
    numpy: Any = sys.modules.get("numpy")
    on_cpu, plain = torch.get_rng_state(), random.getstate()
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    of_numpy = None if numpy is None else numpy.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(on_cpu)
        random.setstate(plain)
        if on_cuda:
            torch.cuda.set_rng_state_all(on_cuda)
        if numpy is not None:
            numpy.random.set_state(of_numpy)
