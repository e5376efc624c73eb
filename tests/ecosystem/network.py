"""A network with attached values, and what the tests with other packages ask of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam import ExpScaledLog, Softplus, make_trainable, values

X = torch.linspace(-1, 2, 12).reshape(4, 3)
MAPS = {"tau": ExpScaledLog(), "threshold": Softplus()}


class Leaky(nn.Module):
    def __init__(self, tau: float = 20.0):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("tau", torch.tensor(tau))
        self.threshold = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) / self.tau - self.threshold


class Supervised(nn.Module):
    """Gives its loss, as `transformers.Trainer` wants it."""

    def __init__(self, tau: float = 20.0):
        super().__init__()
        self.leaky = attached(tau)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        output = self.leaky(x)
        return {"loss": (output - labels).square().mean(), "logits": output}


class Data(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": X[index], "labels": X[index] - 1}


def attached(tau: float = 20.0) -> nn.Module:
    """Constants are fitted to `tau`."""
    return make_trainable(Leaky(tau), MAPS, shape=(3,))


def trained() -> nn.Module:
    """With other constants and raw numbers than `attached()` has."""
    module = attached(50.0)
    move(module)
    return module


def move(module: Any) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter) + 0.1)


def assert_same(one: Any, other: Any) -> None:
    """Equal values, bit for bit, and an equal output; both can be trained further."""
    assert values(one).keys() == values(other).keys()
    for path, value in values(one).items():
        assert torch.equal(values(other)[path], value), path
    assert torch.equal(one(X), other(X))
    other(X).sum().backward()
