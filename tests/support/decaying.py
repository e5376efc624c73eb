"""Modules of each library with a state that decays freely, and how to read it step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from norse.torch.module.leaky_integrator_box import LIBoxCell
from rockpool.nn.modules import ExpSynTorch, LIFNeuronTorch, LIFTorch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from neuroparam import Quantity, find
from tests.support.cases import N


@dataclass(frozen=True)
class Decaying:
    """A module with a state that decays freely without input.

    Attributes:
        build: makes it, for a time step, which only some keep.
        trace: the state at each step, for an input of shape (time, 1, N) far below threshold.
        euler: whether one step multiplies it by 1 - dt / tau rather than by exp(-dt / tau).
        normed: whether the input is scaled by the leak, one minus that factor.
    """

    build: Callable[[float], nn.Module]
    trace: Callable[[nn.Module, Tensor], Tensor]
    euler: bool
    normed: bool = False

    def factor(self, tau: Tensor, dt: float) -> Tensor:
        """By what one step multiplies the state, in double precision."""
        per_step = dt / tau.double().flatten()
        return 1 - per_step if self.euler else torch.exp(-per_step)


def pulse(steps: int) -> Tensor:
    """(time, batch, neurons): an input in the first step only, far below threshold."""
    x = torch.zeros(steps, 1, N)
    x[0] = 0.01
    return x


def norse_cell(module: nn.Module, x: Tensor) -> Tensor:
    state, trace = None, []
    for part in x:
        _, state = module(part, state)
        trace.append(state.v)
    return torch.cat(trace)


def norse_synapse(module: nn.Module, x: Tensor) -> Tensor:
    state, trace = None, []
    for part in x:
        _, state = module(part, state)
        trace.append(state.i)
    return torch.cat(trace)


def snn_leaky(module: nn.Module, x: Tensor) -> Tensor:
    mem, trace = module.reset_mem(), []
    for part in x:
        _, mem = module(part, mem)
        trace.append(mem)
    return torch.cat(trace)


def snn_synapse(module: nn.Module, x: Tensor) -> Tensor:
    (syn, mem), trace = module.reset_mem(), []
    for part in x:
        _, syn, mem = module(part, syn, mem)
        trace.append(syn)
    return torch.cat(trace)


def state_leaky(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)[1][:, 0]


def jelly(state: str) -> Callable[[nn.Module, Tensor], Tensor]:
    def trace(module: nn.Module, x: Tensor) -> Tensor:
        functional.reset_net(module)
        kept = []
        for part in x:
            module(part)
            kept.append(getattr(module, state))
        return torch.cat(kept)

    return trace


def sinabs_state(state: str) -> Callable[[nn.Module, Tensor], Tensor]:
    def trace(module: nn.Module, x: Tensor) -> Tensor:
        module.reset_states()
        module.record_states = True
        module(x.transpose(0, 1))
        return module.recordings[state][0]

    return trace


def rockpool_record(state: str) -> Callable[[nn.Module, Tensor], Tensor]:
    def trace(module: nn.Module, x: Tensor) -> Tensor:
        module.reset_state()
        recorded = module(x.transpose(0, 1), record=True)[2][state][0]
        return recorded.reshape(len(x), N)

    return trace


def rockpool_output(module: nn.Module, x: Tensor) -> Tensor:
    module.reset_state()
    return module(x.transpose(0, 1))[0][0]


MEMBRANES = {
    "norse LIFBoxCell": Decaying(lambda dt: norse.LIFBoxCell(dt=dt), norse_cell, True, True),
    "norse LIBoxCell": Decaying(lambda dt: LIBoxCell(dt=dt), norse_cell, True, True),
    "snntorch Leaky": Decaying(lambda dt: snn.Leaky(beta=0.5), snn_leaky, False),
    "snntorch StateLeaky": Decaying(
        lambda dt: snn.StateLeaky(beta=0.5, channels=N), state_leaky, False
    ),
    "spikingjelly LIFNode": Decaying(lambda dt: neuron.LIFNode(), jelly("v"), True, True),
    "spikingjelly CUBALIFNode": Decaying(
        lambda dt: neuron.CUBALIFNode(c_decay=0.0), jelly("v"), False
    ),
    "sinabs LIF": Decaying(lambda dt: sl.LIF(tau_mem=5.0), sinabs_state("v_mem"), False, True),
    "sinabs LIF train_alphas": Decaying(
        lambda dt: sl.LIF(tau_mem=5.0, train_alphas=True), sinabs_state("v_mem"), False, True
    ),
    "sinabs ExpLeak": Decaying(lambda dt: sl.ExpLeak(tau_mem=5.0), sinabs_state("v_mem"), False),
    "rockpool LIFNeuronTorch": Decaying(
        lambda dt: LIFNeuronTorch(N, dt=dt), rockpool_record("vmem"), False
    ),
}
SYNAPSES = {
    "norse LIFCell": Decaying(lambda dt: norse.LIFCell(dt=dt), norse_synapse, True),
    "snntorch Synaptic": Decaying(lambda dt: snn.Synaptic(alpha=0.5, beta=0.5), snn_synapse, False),
    "spikingjelly CUBALIFNode": Decaying(lambda dt: neuron.CUBALIFNode(), jelly("c"), False),
    "sinabs LIF": Decaying(
        lambda dt: sl.LIF(tau_mem=5.0, tau_syn=5.0), sinabs_state("i_syn"), False
    ),
    "rockpool LIFTorch": Decaying(lambda dt: LIFTorch(N, dt=dt), rockpool_record("isyn"), False),
    "rockpool LIFTorch decays": Decaying(
        lambda dt: LIFTorch(N, leak_mode="decays", dt=dt), rockpool_record("isyn"), False
    ),
    "rockpool LIFTorch bitshifts": Decaying(
        lambda dt: LIFTorch(N, leak_mode="bitshifts", dt=dt), rockpool_record("isyn"), False
    ),
    "rockpool ExpSynTorch": Decaying(lambda dt: ExpSynTorch(N, dt=dt), rockpool_output, False),
}
DECAYING = [(Quantity.TAU_MEM, name, case) for name, case in MEMBRANES.items()]
DECAYING += [(Quantity.TAU_SYN, name, case) for name, case in SYNAPSES.items()]
every_decay = pytest.mark.parametrize(
    ("quantity", "case"),
    [(quantity, case) for quantity, _, case in DECAYING],
    ids=[f"{quantity.name}-{name}" for quantity, name, _ in DECAYING],
)


def shaped(module: nn.Module, quantity: Quantity, tau: Tensor) -> Tensor:
    """Rockpool's synaptic values have a column for each synapse of a neuron."""
    (present,) = (c for c in find(module) if c.quantity is quantity)
    return tau[:, None] if len(present.shape) == 2 else tau
