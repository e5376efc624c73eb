"""Modules written for the tests: every way in which a neuron may store its parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class Smooth(nn.Module):
    """A leaky filter whose output is smooth in `tau` and `gain`; T steps, read every step."""

    def __init__(self, steps: int = 5):
        super().__init__()
        self.steps = steps

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        return v + (x * self.gain - v) / self.tau

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x)
        for _ in range(self.steps):
            v = self.step(x, v)
        return v


class Stored(Smooth):
    """`tau` stored by a given function, `gain` a Parameter."""

    def __init__(self, store: Callable[[nn.Module], None], steps: int = 5):
        super().__init__(steps)
        self.gain = nn.Parameter(torch.tensor(2.0))
        store(self)


class Doubled(nn.Module):
    """A parametrization written by a user, without a domain."""

    def forward(self, raw: Tensor) -> Tensor:
        return 2 * raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / 2


class Pair(NamedTuple):
    tau: Tensor | float = 4.0
    gain: Tensor | float = 2.0
    method: str = "super"


class Nest(NamedTuple):
    inner: Pair
    rho: float = 3.0


@dataclass
class Data:
    tau: Tensor | float = 4.0
    gain: float = 2.0
    method: str = "super"


@dataclass(frozen=True)
class FrozenData:
    tau: float = 4.0
    gain: float = 2.0
    computed: float = field(init=False, default=7.0)


class FromRecord(Smooth):
    """Reads `p.tau` and `p.gain` each step, as Norse does."""

    def __init__(self, p: Any, steps: int = 5):
        super().__init__(steps)
        self.p = p

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        p = self.p.inner if hasattr(self.p, "inner") else self.p
        return v + (x * p.gain - v) / p.tau


def _parameter(m: nn.Module) -> None:
    m.tau = nn.Parameter(torch.tensor(4.0))


def _frozen(m: nn.Module) -> None:
    m.tau = nn.Parameter(torch.tensor(4.0), requires_grad=False)


def _vector(m: nn.Module) -> None:
    m.tau = nn.Parameter(torch.tensor([3.0, 4.0, 5.0]))


def _buffer(m: nn.Module) -> None:
    m.register_buffer("tau", torch.tensor(4.0))


def _hidden_buffer(m: nn.Module) -> None:
    m.register_buffer("tau", torch.tensor(4.0), persistent=False)


def _integer_buffer(m: nn.Module) -> None:
    m.register_buffer("tau", torch.tensor(4))


def _tensor(m: nn.Module) -> None:
    m.tau = torch.tensor(4.0)


def _number(m: nn.Module) -> None:
    m.tau = 4.0


def _integer(m: nn.Module) -> None:
    m.tau = 4


# name -> (builds the module, name of tau in it)
STORAGES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "parameter": (lambda: Stored(_parameter), "tau"),
    "frozen parameter": (lambda: Stored(_frozen), "tau"),
    "vector parameter": (lambda: Stored(_vector), "tau"),
    "buffer": (lambda: Stored(_buffer), "tau"),
    "non-persistent buffer": (lambda: Stored(_hidden_buffer), "tau"),
    "integer buffer": (lambda: Stored(_integer_buffer), "tau"),
    "tensor": (lambda: Stored(_tensor), "tau"),
    "number": (lambda: Stored(_number), "tau"),
    "integer": (lambda: Stored(_integer), "tau"),
    "named tuple, numbers": (lambda: FromRecord(Pair()), "p.tau"),
    "named tuple, tensors": (
        lambda: FromRecord(Pair(torch.tensor(4.0), torch.tensor(2.0))),
        "p.tau",
    ),
    "named tuple, parameter": (lambda: FromRecord(Pair(nn.Parameter(torch.tensor(4.0)))), "p.tau"),
    "nested named tuple": (lambda: FromRecord(Nest(Pair())), "p.inner.tau"),
    "dataclass": (lambda: FromRecord(Data(torch.tensor(4.0))), "p.tau"),
    "frozen dataclass": (lambda: FromRecord(FrozenData()), "p.tau"),
}
STORAGES |= {
    f"{name}, in a network": (
        lambda build=build: nn.Sequential(nn.Identity(), nn.Sequential(build())),
        f"1.0.{path}",
    )
    for name, (build, path) in list(STORAGES.items())
}
every_storage = pytest.mark.parametrize(
    ("build", "name"), STORAGES.values(), ids=list(STORAGES.keys())
)
INPUT = torch.linspace(-1, 2, 3)


def of(module: nn.Module, path: str) -> Tensor:
    value = module
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return value


def snapshot(module: nn.Module) -> dict[str, Any]:
    """All that an error must leave as it was: classes, attributes, hooks, tensors bit by bit."""
    state: dict[str, Any] = {"keys": list(module.state_dict())}
    for name, part in module.named_modules():
        state[f"{name}: class"] = type(part)
        for key, value in part.__dict__.items():
            if key in ("evidence", "root", "_neuroparam_proven"):
                continue  # what forwards and backward passes have shown
            state[f"{name}.{key}"] = copy.copy(value) if isinstance(value, (dict, set)) else value
        plain = {k: v for k, v in part.__dict__.items() if isinstance(v, Tensor)}
        for key, tensor in {**plain, **part._parameters, **part._buffers}.items():
            # a buffer may have a history, and its gradient is not to be asked for
            gradient = tensor.grad if isinstance(tensor, nn.Parameter) else None
            state[f"{name}.{key}: content"] = _content(tensor)
            state[f"{name}.{key}, gradient: content"] = _content(gradient)
            state[f"{name}.{key}: trainable"] = tensor is not None and tensor.requires_grad
    return state


def _content(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or is_lazy(tensor) or tensor.is_sparse or tensor.is_meta:
        return None
    return tensor.detach().clone()


def assert_unchanged(module: nn.Module, before: dict[str, Any]) -> None:
    after = snapshot(module)
    assert list(after) == list(before)
    for key, value in before.items():
        if key.endswith(": content") and value is not None:
            assert torch.equal(after[key], value), key
        elif isinstance(value, dict):
            assert list(after[key]) == list(value), key
            assert all(after[key][k] is value[k] for k in value), key
        elif isinstance(value, (Pair, Nest, set)):
            assert after[key] == value, key
        else:
            assert after[key] is value or after[key] == value, key
