"""Modules whose value may get no gradient, each in another way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Reads(nn.Module):
    """`rate` is used as `use` says; `weight` always gets its gradient."""

    def __init__(self, use=lambda module, x: x * module.rate):
        super().__init__()
        self.rate = 0.5
        self.weight = nn.Parameter(torch.ones(3))
        self.use = use
        self.state = torch.zeros(3)

    def forward(self, x: Tensor) -> Any:
        return self.use(self, x * self.weight)


class DropsGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, rate: Tensor) -> Tensor:
        return x * rate

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient, None
