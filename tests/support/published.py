"""Small networks that store and read their values as published code does.

Each is written anew after the way in which the named project keeps its neuron parameters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "PLIF",
    "BrainCogPLIF",
    "Heterogeneous",
    "LavaCuba",
    "SiLIF",
    "Sparch",
    "Stork",
]

N = 6


class _Spike(torch.autograd.Function):
    """A boxcar surrogate, as many projects write their own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < 0.5)


spike = _Spike.apply


class Sparch(nn.Module):
    """sparch's adLIF layer: each Parameter is clamped in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = 1.0
        self.alpha = nn.Parameter(torch.linspace(0.83, 0.95, N))
        self.beta = nn.Parameter(torch.linspace(0.97, 0.99, N))
        self.a = nn.Parameter(torch.linspace(-0.9, 0.9, N))
        self.b = nn.Parameter(torch.linspace(0.1, 1.9, N))

    def forward(self, x: Tensor) -> Tensor:
        alpha, beta = torch.clamp(self.alpha, 0.82, 0.96), torch.clamp(self.beta, 0.96, 0.99)
        a, b = torch.clamp(self.a, -1.0, 1.0), torch.clamp(self.b, 0.0, 2.0)
        u = w = s = torch.zeros_like(x[0])
        spikes = []
        for step in x:
            w = beta * w + a * u + b * s
            u = alpha * (u - s) + (1 - alpha) * (5.0 * step - 0.1 * w)
            s = spike(u - self.threshold)
            spikes.append(s)
        return torch.stack(spikes)


class SiLIF(nn.Module):
    """An SSM-inspired LIF layer: `alpha` is the logarithm of a rate."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.linspace(-2.0, -1.0, N).exp().log())
        self.dt = 1.0
        self.theta = 1.0

    def forward(self, x: Tensor) -> Tensor:
        u, spikes = torch.zeros_like(x[0]), []
        decay = torch.exp(-torch.exp(self.alpha) * self.dt)
        for step in x:
            u = decay * u + step
            spikes.append(spike(u - self.theta))
            u = u - self.theta * spikes[-1]
        return torch.stack(spikes)


class PLIF(nn.Module):
    """PLIF: 1 / tau is a sigmoid of `w`."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.4))
        self.v_threshold, self.v_reset = 1.0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for step in x:
            v = v + (2.0 * step - (v - self.v_reset)) * self.w.sigmoid()
            spikes.append(spike(v - self.v_threshold))
            v = (1 - spikes[-1]) * v + spikes[-1] * self.v_reset
        return torch.stack(spikes)


class Heterogeneous(nn.Module):
    """The layer of "Neural heterogeneity promotes robust learning": rows of values."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1, N), 0.8))
        self.beta = nn.Parameter(torch.full((1, N), 0.9))
        self.th = nn.Parameter(torch.ones(1, N))
        self.reset = nn.Parameter(torch.zeros(1, N))
        self.register_buffer("state", torch.zeros(1, N))

    def forward(self, x: Tensor) -> Tensor:
        syn = mem = torch.zeros_like(x[0])
        spikes = []
        for step in x:
            syn = self.alpha * syn + step
            mem = self.beta * mem + syn
            spikes.append(spike(mem - self.th))
            mem = mem * (1 - spikes[-1]) + self.reset * spikes[-1]
        self.state = mem.detach().mean(0, keepdim=True)
        return torch.stack(spikes)


class Stork(nn.Module):
    """A group of stork's: time constants become decays when it is built; it is run by a method."""

    def __init__(self) -> None:
        super().__init__()
        self.time_step = 1e-3
        self.tau_mem, self.tau_syn = 10e-3, 5e-3
        self.dcy_mem = math.exp(-self.time_step / self.tau_mem)
        self.dcy_syn = math.exp(-self.time_step / self.tau_syn)
        self.threshold = 1.0
        self.mem: Tensor | None = None

    def evolve(self, x: Tensor) -> Tensor:
        syn, self.mem = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        spikes = []
        for step in x:
            self.mem = self.dcy_mem * self.mem + (1 - self.dcy_mem) * syn
            syn = self.dcy_syn * syn + 4.0 * step
            spikes.append(spike(self.mem - self.threshold))
            self.mem = self.mem * (1 - spikes[-1].detach())
        return torch.stack(spikes)


class LavaCuba(nn.Module):
    """lava-dl's CUBA neuron: decays are twelve-bit numbers, clamped in place at each forward."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1 << 12
        self.current_decay = nn.Parameter(torch.tensor([1024.0]))
        self.voltage_decay = nn.Parameter(torch.tensor([512.0]))
        self.threshold = 1.0
        self.register_buffer("voltage_state", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.current_decay.data.clamp_(0, self.scale)
        self.voltage_decay.data.clamp_(0, self.scale)
        keep_i = 1 - self.current_decay / self.scale
        keep_v = 1 - self.voltage_decay / self.scale
        current = voltage = torch.zeros_like(x[0])
        spikes = []
        for step in x:
            current = keep_i * current + step
            voltage = keep_v * voltage + current
            spikes.append(spike(voltage - self.threshold))
            voltage = voltage * (1 - spikes[-1].detach())
        self.voltage_state = voltage.detach().mean().reshape(1)
        return torch.stack(spikes)


class BrainCogPLIF(nn.Module):
    """BrainCog's PLIF node: a threshold that is a Parameter, and a time constant behind `w`."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor([0.5]), requires_grad=False)
        self.w = nn.Parameter(torch.as_tensor(-math.log(2.0 - 1.0) + 0.3))
        self.dt = 1.0
        self.mem: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.mem, spikes = torch.zeros_like(x[0]), []
        for step in x:
            self.mem = self.mem + (step - self.mem) * self.w.sigmoid() * self.dt
            spikes.append(spike(self.mem - self.threshold))
            self.mem = self.mem * (1 - spikes[-1].detach())
        return torch.stack(spikes)
