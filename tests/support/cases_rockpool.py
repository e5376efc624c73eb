"""Rockpool 3.1."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from rockpool.nn.modules import (
    ExpSynTorch,
    LIFBitshiftTorch,
    LIFNeuronTorch,
    LIFTorch,
    LowPass,
    RateTorch,
    UpDownTorch,
    aLIFTorch,
)
from torch import Tensor, nn

from tests.support.cases import Case, N

STATE = "it is a state"
TAUS = ("tau_mem", "tau_syn")
DECAYS = ("alpha", "beta")
DASHES = ("dash_mem", "dash_syn")
ROUNDED = "rounds it to a whole bitshift"


def run(module: nn.Module, x: Tensor) -> Tensor:
    """Rockpool wants (batch, time, neurons) and returns output, state and records."""
    module.reset_state()
    return module(0.8 * x.transpose(0, 1))[0].transpose(0, 1)


def membrane(module: nn.Module, x: Tensor) -> Tensor:
    module.reset_state()
    return module(x.transpose(0, 1), record=True)[2]["vmem"].transpose(0, 1)


class Silent:
    """A spike function in the dtype of the membrane: Rockpool's own makes float32."""

    @staticmethod
    def apply(membrane: Tensor, *_: Tensor) -> Tensor:
        return torch.zeros_like(membrane)


def lif(kind: Any = LIFTorch, **options: Any) -> Callable[[], nn.Module]:
    return lambda: kind(N, **{"dt": 1e-3, **options})


def low_pass() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Rockpool advises against it
        return LowPass(N, 1e-3, 0.02)


def first_of_the_batch(module: nn.Module, x: Tensor) -> Tensor:
    return module(x[:, :1])


def lif_case(
    name: str, trains: tuple[str, ...], one_number: tuple[str, ...] = (), **options: Any
) -> Case:
    return Case(
        "rockpool",
        name,
        lif(**options),
        run,
        (*trains, "threshold"),
        {
            "vmem": STATE,
            "learning_window": "shapes the surrogate gradient",
            "dt": "time step of the simulation",
        },
        (lif(spike_generation_fn=Silent, **options), membrane),
        trains,
        one_number,
    )


CASES = [
    lif_case("LIFTorch", TAUS),
    lif_case("LIFTorch recurrent", TAUS, has_rec=True),
    # one synaptic time constant per neuron has a shape of (N, synapses) in Rockpool
    lif_case("LIFTorch one number each", TAUS, ("tau_syn",), tau_mem=5e-3, tau_syn=4e-3),
    lif_case("LIFTorch decays", DECAYS, leak_mode="decays"),
    lif_case("LIFTorch bitshifts", DASHES, leak_mode="bitshifts"),
    Case(
        "rockpool",
        "aLIFTorch",
        lif(aLIFTorch),
        run,
        (*TAUS, "threshold", "tau_ahp"),
        {"iahp": STATE, "gamma": "it is a property"},
        (lif(aLIFTorch, spike_generation_fn=Silent), membrane),
        TAUS,
    ),
    Case(
        "rockpool",
        "LIFNeuronTorch",
        lif(LIFNeuronTorch),
        run,
        ("tau_mem", "threshold"),
        {"vmem": STATE},
        (lif(LIFNeuronTorch, spike_generation_fn=Silent), membrane),
        ("tau_mem",),
    ),
    Case(
        "rockpool",
        "LIFBitshiftTorch",
        lif(LIFBitshiftTorch, max_spikes_per_dt=torch.tensor(31)),
        run,
        ("threshold",),
        {"tau_mem": ROUNDED, "tau_syn": ROUNDED, "alpha": "it is a property"},
    ),
    Case(
        "rockpool",
        "ExpSynTorch",
        lif(ExpSynTorch),
        run,
        ("tau",),
        {"isyn": STATE},
        (lif(ExpSynTorch), run),
        ("tau",),
    ),
    Case(
        "rockpool",
        "RateTorch",
        lif(RateTorch),
        run,
        ("tau",),
        {"x": STATE, "threshold": "any real number is valid"},
        (lif(RateTorch), run),
        ("tau",),
    ),
    Case(
        "rockpool",
        "LowPass",
        low_pass,
        first_of_the_batch,
        (),
        {"alpha_mem": "computes it from tau_mem when it is built"},
    ),
    Case(
        "rockpool",
        "UpDownTorch",
        lambda: UpDownTorch(N, thr_up=0.2, thr_down=0.2),
        run,
        ("thr_up", "thr_down"),
    ),
]
