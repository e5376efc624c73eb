"""Sinabs 3.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import Tensor, nn

from tests.support.cases import BATCH, Case, N

STATE = "it is a state"
MEMBRANE = ("tau_mem", "tau_syn")
ALPHAS = ("alpha_mem", "alpha_syn")


def run(module: nn.Module, x: Tensor) -> Tensor:
    """Sinabs wants (batch, time, neurons)."""
    module.reset_states()
    return module(2.0 * x.transpose(0, 1)).transpose(0, 1)


def squeezed(module: nn.Module, x: Tensor) -> Tensor:
    """The Squeeze variants want (batch * time, neurons)."""
    module.reset_states()
    flat = module(2.0 * x.transpose(0, 1).flatten(0, 1))
    return flat.unflatten(0, (BATCH, -1)).transpose(0, 1)


class Silent:
    """A spike function without spikes: ALIF needs one, where LIF takes None."""

    required_states = ("v_mem",)

    @staticmethod
    def apply(v_mem: Tensor, *_: Any) -> Tensor:
        return torch.zeros_like(v_mem)


def last_membrane(module: nn.Module, x: Tensor) -> Tensor:
    run(module, x)
    return module.v_mem


def recurrent() -> nn.Module:
    return nn.Linear(N, N, bias=False)


def lif(**options: Any) -> Callable[[], nn.Module]:
    return lambda: sl.LIF(**{"tau_mem": 5.0, "spike_threshold": torch.tensor(0.4), **options})


def alif(**options: Any) -> Callable[[], nn.Module]:
    return lambda: sl.ALIF(
        **{
            "tau_mem": 5.0,
            "tau_adapt": 8.0,
            "tau_syn": 3.0,
            "spike_threshold": torch.tensor(0.4),
            **options,
        }
    )


IN_ALIF = {"spike_threshold": "in ALIF it is a state", "b": STATE, "v_mem": STATE}

CASES = [
    Case(
        "sinabs",
        "LIF",
        lif(tau_syn=3.0),
        run,
        (*MEMBRANE, "spike_threshold"),
        {"v_mem": STATE, "i_syn": STATE},
        (lif(tau_syn=3.0, spike_fn=None), run),
        MEMBRANE,
    ),
    Case(
        "sinabs",
        "LIF without synapse",
        lif(),
        run,
        ("tau_mem", "spike_threshold"),
        {"tau_syn": "it is None"},
        (lif(spike_fn=None), run),
        ("tau_mem",),
    ),
    Case(
        "sinabs",
        "LIF MembraneReset",
        lif(tau_syn=3.0, reset_fn=sina.MembraneReset(), spike_fn=sina.SingleSpike),
        run,
        (*MEMBRANE, "spike_threshold"),
    ),
    Case(
        "sinabs",
        "LIF MaxSpike",
        lif(tau_syn=3.0, spike_fn=sina.MaxSpike(2), norm_input=False),
        run,
        (*MEMBRANE, "spike_threshold"),
        {},
        (lif(tau_syn=3.0, spike_fn=None, norm_input=False), run),
        MEMBRANE,
    ),
    Case(
        "sinabs",
        "LIF train_alphas",
        lif(tau_syn=3.0, train_alphas=True),
        run,
        (*ALPHAS, "spike_threshold"),
        {"alpha_mem_calculated": "it is a property"},
        (lif(tau_syn=3.0, train_alphas=True, spike_fn=None), run),
        ALPHAS,
    ),
    Case(
        "sinabs",
        "LIFRecurrent",
        lambda: sl.LIFRecurrent(
            tau_mem=5.0, tau_syn=3.0, rec_connect=recurrent(), spike_threshold=torch.tensor(0.4)
        ),
        run,
        (*MEMBRANE, "spike_threshold"),
        {},
        (
            lambda: sl.LIFRecurrent(
                tau_mem=5.0, tau_syn=3.0, rec_connect=recurrent(), spike_fn=None
            ),
            run,
        ),
        MEMBRANE,
    ),
    Case(
        "sinabs",
        "LIFSqueeze",
        lambda: sl.LIFSqueeze(
            batch_size=BATCH, tau_mem=5.0, tau_syn=3.0, spike_threshold=torch.tensor(0.4)
        ),
        squeezed,
        (*MEMBRANE, "spike_threshold"),
        {},
        (
            lambda: sl.LIFSqueeze(batch_size=BATCH, tau_mem=5.0, tau_syn=3.0, spike_fn=None),
            squeezed,
        ),
        MEMBRANE,
    ),
    Case(
        "sinabs",
        "ExpLeak",
        lambda: sl.ExpLeak(tau_mem=5.0),
        run,
        ("tau_mem",),
        {"v_mem": STATE, "spike_threshold": "it is None"},
        (lambda: sl.ExpLeak(tau_mem=5.0), run),
        ("tau_mem",),
    ),
    Case(
        "sinabs",
        "ExpLeak train_alphas",
        lambda: sl.ExpLeak(tau_mem=5.0, train_alphas=True),
        run,
        ("alpha_mem",),
        {},
        (lambda: sl.ExpLeak(tau_mem=5.0, train_alphas=True), run),
        ("alpha_mem",),
    ),
    Case(
        "sinabs",
        "ExpLeakSqueeze",
        lambda: sl.ExpLeakSqueeze(batch_size=BATCH, tau_mem=5.0),
        squeezed,
        ("tau_mem",),
        {},
        (lambda: sl.ExpLeakSqueeze(batch_size=BATCH, tau_mem=5.0), squeezed),
        ("tau_mem",),
    ),
    Case(
        "sinabs",
        "ALIF",
        alif(),
        run,
        ("tau_mem", "tau_adapt", "tau_syn", "adapt_scale", "b0"),
        IN_ALIF,
        (alif(spike_fn=Silent), last_membrane),
        MEMBRANE,
    ),
    Case(
        "sinabs",
        "ALIF train_alphas",
        alif(train_alphas=True),
        run,
        ("alpha_mem", "alpha_adapt", "alpha_syn", "adapt_scale", "b0"),
        IN_ALIF,
        (alif(spike_fn=Silent, train_alphas=True), last_membrane),
        ALPHAS,
    ),
    Case(
        "sinabs",
        "ALIFRecurrent",
        lambda: sl.ALIFRecurrent(
            tau_mem=5.0,
            tau_adapt=8.0,
            tau_syn=3.0,
            rec_connect=recurrent(),
            spike_threshold=torch.tensor(0.4),
        ),
        run,
        ("tau_mem", "tau_adapt", "tau_syn", "adapt_scale", "b0"),
        IN_ALIF,
    ),
    Case(
        "sinabs",
        "IAF",
        lambda: sl.IAF(spike_threshold=torch.tensor(0.4)),
        run,
        ("spike_threshold",),
        {"tau_mem": "it is None"},
    ),
    Case(
        "sinabs",
        "IAF with synapse",
        lambda: sl.IAF(tau_syn=3.0, spike_threshold=torch.tensor(0.4)),
        run,
        ("tau_syn", "spike_threshold"),
        {},
        (lambda: sl.IAF(tau_syn=3.0, spike_fn=None), run),
        ("tau_syn",),
    ),
    Case(
        "sinabs",
        "IAFRecurrent",
        lambda: sl.IAFRecurrent(rec_connect=recurrent(), spike_threshold=torch.tensor(0.4)),
        run,
        ("spike_threshold",),
    ),
    Case(
        "sinabs",
        "IAFSqueeze",
        lambda: sl.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(0.4)),
        squeezed,
        ("spike_threshold",),
    ),
]
