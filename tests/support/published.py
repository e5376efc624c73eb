"""Small networks that store and read their values as published code does.

Each is written anew after the way in which the named project keeps its neuron parameters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "HXLIF",
    "PLIF",
    "BrainCogPLIF",
    "HXBaseParameter",
    "HXParameter",
    "Heterogeneous",
    "LavaCuba",
    "SiLIF",
    "Sparch",
    "Stork",
    "within",
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
    """A group of stork's: time constants become decays in `configure`; it is run by a method.

    With `learn_timescales`, the decays are computed anew before each run, from Parameters of the
    group's own.
    """

    def __init__(self, configured: bool = True, learn_timescales: bool = False) -> None:
        super().__init__()
        self.learn_timescales = learn_timescales
        self.tau_mem, self.tau_syn = 10e-3, 5e-3
        self.threshold = 1.0
        self.mem: Tensor | None = None
        if configured:
            self.configure(1e-3)

    def configure(self, time_step: float) -> None:
        self.time_step = time_step
        if self.learn_timescales:
            self.mem_param = nn.Parameter(torch.zeros(1))
            self.syn_param = nn.Parameter(torch.zeros(1))
        self.dcy_mem = math.exp(-self.time_step / self.tau_mem)
        self.dcy_syn = math.exp(-self.time_step / self.tau_syn)

    def reset_state(self) -> None:
        if self.learn_timescales:
            mem, syn = 2 * self.mem_param.sigmoid(), 2 * self.syn_param.sigmoid()
            self.dcy_mem = torch.exp(-self.time_step / (self.tau_mem * mem))
            self.dcy_syn = torch.exp(-self.time_step / (self.tau_syn * syn))

    def evolve(self, x: Tensor) -> Tensor:
        self.reset_state()
        syn, self.mem = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        spikes = []
        for step in x:
            self.mem = self.dcy_mem * self.mem + (1 - self.dcy_mem) * syn
            syn = self.dcy_syn * syn + 4.0 * step
            spikes.append(spike(self.mem - self.threshold))
            self.mem = self.mem * (1 - spikes[-1].detach())
        return torch.stack(spikes)


class LavaCuba(nn.Module):
    """lava-dl's CUBA neuron: decays are twelve-bit numbers, clamped in place at each forward.

    Without `shared_param`, one for each channel is drawn in the first forward. They are used as
    whole numbers, whose gradient is that of the number itself.
    """

    def __init__(self, shared_param: bool = True) -> None:
        super().__init__()
        self.scale = 1 << 12
        self.current_decay = nn.Parameter(torch.tensor([1024.0]))
        self.voltage_decay = nn.Parameter(torch.tensor([512.0]))
        if not shared_param:
            self.current_decay_min, self.current_decay_max = 0.24, 0.26
            self.voltage_decay_min, self.voltage_decay_max = 0.12, 0.13
        self._threshold = 1.0
        self.register_buffer("voltage_state", torch.zeros(1))

    @property
    def threshold(self) -> float:
        return self._threshold

    def _draw(self, neurons: int) -> None:
        for name in ("current_decay", "voltage_decay"):
            low, high = (getattr(self, f"{name}_{end}") for end in ("min", "max"))
            getattr(self, name).data = self.scale * (low + (high - low) * torch.rand(neurons))
            delattr(self, f"{name}_min")
            delattr(self, f"{name}_max")

    def _kept(self, decay: Tensor) -> Tensor:
        """What is kept per step, for the decay as a whole number."""
        return 1 - (decay + (decay.round() - decay).detach()) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "current_decay_min"):
            self._draw(x.shape[-1])
        self.current_decay.data.clamp_(0, self.scale)
        self.voltage_decay.data.clamp_(0, self.scale)
        keep_i, keep_v = self._kept(self.current_decay), self._kept(self.voltage_decay)
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


class HXBaseParameter(nn.Module):
    """hxtorch's parameter object: a value for the model, and one for the hardware."""

    def __init__(self, model_value: Any, hardware_value: Any) -> None:
        super().__init__()
        self._model_value, self._hardware_value = model_value, hardware_value

    @property
    def model_value(self) -> Any:
        return self._model_value

    def is_trainable(self) -> bool:
        return isinstance(self._model_value, nn.Parameter)


class HXParameter(HXBaseParameter):
    """One value for both, which is that of the hardware."""

    def __init__(self, value: Any) -> None:
        super().__init__(value, value)

    @property
    def model_value(self) -> Any:
        return self._hardware_value


class HXLIF(nn.Module):
    """A neuron of hxtorch, whose parameters are such objects."""

    def __init__(self) -> None:
        super().__init__()
        self.tau_mem = HXBaseParameter(10e-6, 63)
        self.tau_syn = HXBaseParameter(torch.full((N,), 5e-6), 32)
        self.threshold = HXParameter(1.0)
        self.dt = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        mem = syn = torch.zeros_like(x[0])
        spikes = []
        for step in x:
            mem = mem + self.dt / self.tau_mem.model_value * (syn - mem)
            syn = syn * torch.exp(-self.dt / torch.as_tensor(self.tau_syn.model_value)) + 4 * step
            spikes.append(spike(mem - self.threshold.model_value))
            mem = mem * (1 - spikes[-1].detach())
        return torch.stack(spikes)


def within(package: str, kind: type[nn.Module], *arguments: Any, **keywords: Any) -> Any:
    """A module of a class as if it, and the classes of its parts, were defined in a package."""
    made = kind(*arguments, **keywords)
    for part in made.modules():
        own = type(part)
        if own.__module__ == __name__:
            part.__class__ = _moved(package, own)
    return made


def _moved(package: str, kind: type[nn.Module]) -> type[nn.Module]:
    bases = tuple(_moved(package, b) if b.__module__ == __name__ else b for b in kind.__bases__)
    members = {n: m for n, m in vars(kind).items() if n not in ("__dict__", "__weakref__")}
    return type(kind.__name__, bases, members | {"__module__": f"{package}.neurons"})
