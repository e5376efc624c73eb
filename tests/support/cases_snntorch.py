"""snnTorch 1.0."""

from __future__ import annotations

from collections.abc import Callable

import snntorch as snn
import torch
from torch import Tensor, nn

from tests.support.cases import BATCH, Case, N

LAPICQUE = "computes with R, C and time_step only"
STATE = "it is a state"


def loop(module: nn.Module, x: Tensor, recurrent: bool) -> tuple[Tensor, Tensor]:
    """Spikes and membrane; a recurrent cell takes its last spikes as the first of its states."""
    module.reset_mem()
    kept: tuple[Tensor, ...] = ()
    outputs, membranes = [], []
    for part in x:
        output = module(part, *kept)
        kept = output if recurrent else output[1:]
        outputs.append(output[0])
        membranes.append(output[-1])
    return torch.stack(outputs), torch.stack(membranes)


def cell(module: nn.Module, x: Tensor) -> Tensor:
    return loop(module, x, recurrent=False)[0]


def membrane(module: nn.Module, x: Tensor) -> Tensor:
    return loop(module, x, recurrent=False)[1]


def recurrent_cell(module: nn.Module, x: Tensor) -> Tensor:
    return loop(module, x, recurrent=True)[0]


def recurrent_membrane(module: nn.Module, x: Tensor) -> Tensor:
    return loop(module, x, recurrent=True)[1]


def whole(module: nn.Module, x: Tensor) -> Tensor:
    output = module(x)
    return output[0] if isinstance(output, tuple) else output


def whole_membrane(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)[1]


def delta(module: nn.Module, x: Tensor) -> Tensor:
    state: tuple[Tensor | None, Tensor | None] = (None, None)
    outputs = []
    for part in x:
        spike, state = module(part, state)
        outputs.append(spike)
    return torch.stack(outputs)


def delta_membrane(module: nn.Module, x: Tensor) -> Tensor:
    state: tuple[Tensor | None, Tensor | None] = (None, None)
    outputs = []
    for part in x:
        _, state = module(part, state)
        outputs.append(state[0])
    return torch.stack(outputs)


def images(module: nn.Module, x: Tensor) -> Tensor:
    """For convolutional cells: each input becomes an image of one channel."""
    return cell(module, x[:, :, None, None].expand(-1, BATCH, 1, N, N))


def associative() -> nn.Module:
    module = snn.AssociativeLeaky(in_dim=N, d_value=1, d_key=N, num_spiking_neurons=N)
    module.threshold.fill_(0.02)  # its constructor takes none
    return module


def high(build: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    return lambda: build(threshold=1e6)


CASES = [
    Case(
        "snntorch",
        "Leaky",
        lambda: snn.Leaky(beta=0.8),
        cell,
        ("threshold", "graded_spikes_factor", "beta"),
        {"mem": STATE, "reset_mechanism_val": "number of a reset mechanism"},
        (high(lambda **k: snn.Leaky(beta=0.8, **k)), membrane),
        ("beta",),
    ),
    Case(
        "snntorch",
        "Leaky learned",
        lambda: snn.Leaky(beta=0.8, learn_beta=True, learn_threshold=True),
        cell,
        ("threshold", "beta", "graded_spikes_factor"),
    ),
    Case(
        "snntorch",
        "Leaky per neuron",
        lambda: snn.Leaky(beta=torch.tensor([0.7, 0.8, 0.9]), threshold=1),
        cell,
        ("threshold", "graded_spikes_factor", "beta"),
    ),
    Case(
        "snntorch",
        "Leaky reset to zero",
        lambda: snn.Leaky(beta=0.8, reset_mechanism="zero", reset_delay=False),
        cell,
        ("threshold", "graded_spikes_factor", "beta"),
    ),
    Case(
        "snntorch",
        "Synaptic",
        lambda: snn.Synaptic(alpha=0.7, beta=0.8),
        cell,
        ("threshold", "graded_spikes_factor", "beta", "alpha"),
        {"mem": STATE, "syn": STATE},
        (high(lambda **k: snn.Synaptic(alpha=0.7, beta=0.8, **k)), membrane),
        ("beta", "alpha"),
    ),
    Case(
        "snntorch",
        "RLeaky",
        lambda: snn.RLeaky(beta=0.8, all_to_all=False),
        recurrent_cell,
        ("threshold", "graded_spikes_factor", "beta"),
        {"mem": STATE, "spk": STATE},
        (high(lambda **k: snn.RLeaky(beta=0.8, all_to_all=False, **k)), recurrent_membrane),
        ("beta",),
    ),
    Case(
        "snntorch",
        "RSynaptic",
        lambda: snn.RSynaptic(alpha=0.7, beta=0.8, linear_features=N),
        recurrent_cell,
        ("threshold", "graded_spikes_factor", "beta", "alpha"),
        {"mem": STATE, "syn": STATE, "spk": STATE},
        (
            # its spikes are float32, which its linear layer refuses beside float64
            lambda: snn.RSynaptic(
                alpha=0.7, beta=0.8, linear_features=N, spike_grad=torch.zeros_like
            ),
            recurrent_membrane,
        ),
        ("beta", "alpha"),
    ),
    Case(
        "snntorch",
        "Alpha",
        lambda: snn.Alpha(alpha=0.9, beta=0.8, threshold=0.3),
        cell,
        ("threshold", "graded_spikes_factor", "beta", "alpha"),
        {"syn_exc": STATE, "syn_inh": STATE},
        (lambda: snn.Alpha(alpha=0.9, beta=0.8, threshold=1e6), membrane),
        ("beta", "alpha"),
    ),
    Case(
        "snntorch",
        "Lapicque",
        lambda: snn.Lapicque(R=5.1, C=5e-3, time_step=5e-3, threshold=0.5),
        cell,
        ("threshold", "graded_spikes_factor", "R", "C"),
        {"beta": LAPICQUE, "time_step": "time step of the simulation"},
        (lambda: snn.Lapicque(R=5.1, C=5e-3, time_step=5e-3, threshold=1e6), membrane),
        ("R", "C"),
    ),
    Case(
        "snntorch",
        "Lapicque from beta",
        lambda: snn.Lapicque(beta=0.8, threshold=0.2),
        cell,
        ("threshold", "graded_spikes_factor", "R", "C"),
        {"beta": LAPICQUE},
    ),
    Case(
        "snntorch",
        "StateLeaky",
        lambda: snn.StateLeaky(beta=0.8, channels=N),
        whole,
        ("threshold", "graded_spikes_factor", "tau"),
        {"beta": "computed from tau"},
        (lambda: snn.StateLeaky(beta=0.8, channels=N), whole_membrane),
        ("tau",),
    ),
    Case(
        "snntorch",
        "StateLeaky learn_beta",
        lambda: snn.StateLeaky(beta=0.8, channels=N, learn_beta=True),
        whole,
        ("tau", "threshold", "graded_spikes_factor"),
        {"beta": "computed from tau"},
    ),
    Case(
        "snntorch",
        "LinearLeaky",
        lambda: snn.LinearLeaky(beta=0.8, in_features=N, out_features=N, threshold=0.2),
        whole,
        ("threshold", "graded_spikes_factor", "tau"),
        {"beta": "computed from tau"},
        (lambda: snn.LinearLeaky(beta=0.8, in_features=N, out_features=N), whole_membrane),
        ("tau",),
    ),
    Case(
        "snntorch",
        "DeltaLeaky",
        lambda: snn.DeltaLeaky(delta_threshold=0.5, beta=0.8),
        delta,
        ("beta", "delta_threshold"),
        {
            "threshold": "reads delta_threshold only",
            "graded_spikes_factor": "DeltaLeaky does not scale",
        },
        (lambda: snn.DeltaLeaky(delta_threshold=1e6, beta=0.8), delta_membrane),
        ("beta",),
    ),
    Case(
        "snntorch",
        "LeakyParallel",
        lambda: snn.LeakyParallel(input_size=N, hidden_size=N, beta=0.8, threshold=0.2),
        whole,
        ("threshold", "graded_spikes_factor"),
        {"beta": "copied into the diagonal"},
    ),
    Case(
        "snntorch",
        "SLSTM",
        lambda: snn.SLSTM(N, N, threshold=0.1),
        cell,
        ("threshold", "graded_spikes_factor"),
    ),
    Case(
        "snntorch",
        "SConv2dLSTM",
        lambda: snn.SConv2dLSTM(1, 1, 3, threshold=0.05),
        images,
        ("threshold", "graded_spikes_factor"),
    ),
    Case(
        "snntorch",
        "AssociativeLeaky",
        associative,
        whole,
        ("threshold", "graded_spikes_factor"),
    ),
]
