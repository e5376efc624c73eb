"""SpikingJelly 2.0, in single-step and multi-step mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from tests.support.cases import STEPS, Case, N, Run

UNCONSTRAINED = "it is unconstrained already"
DRIVE = 1.3


def multi_step(module: nn.Module, x: Tensor) -> Tensor:
    """One call for all time steps, time first."""
    functional.reset_net(module)
    output = module(DRIVE * x)
    return torch.stack(output) if isinstance(output, list) else output


def single_step(module: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(module)
    outputs = [module(DRIVE * part) for part in x]
    return torch.stack([o[0] if isinstance(o, (list, tuple)) else o for o in outputs])


def _images(module: nn.Module, x: Tensor) -> Tensor:
    """For nodes that want (time, batch, channel, height, width)."""
    return multi_step(module, x[..., None, None])


def _membranes(module: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(module)
    voltages = []
    for part in 0.1 * x:
        module(part)
        voltages.append(module.v)
    return torch.stack(voltages)


def _last_membrane(module: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(module)
    module(0.1 * x)
    return module.v


def both_modes(
    name: str,
    build: Callable[..., nn.Module],
    trains: tuple[str, ...],
    smooth: tuple[str, ...] = (),
    refused: dict[str, str] | None = None,
    **options: Any,
) -> list[Case]:
    """The case of a node in each of its step modes.

    The membrane is read below a threshold of 1e6, where surrogates are flat.
    """
    high = {**options, "v_threshold": 1e6}
    return [
        Case(
            "spikingjelly",
            f"{name} ({mode})",
            lambda mode=mode: build(step_mode=mode, **options),
            run,
            trains,
            refused or {},
            (lambda mode=mode: build(step_mode=mode, **high), read) if smooth else None,
            smooth,
        )
        for mode, run, read in (
            ("s", single_step, _membranes),
            ("m", multi_step, _last_membrane),
        )
    ]


def whole(
    name: str,
    build: Callable[[], nn.Module],
    trains: tuple[str, ...],
    run: Run = multi_step,
    refused: dict[str, str] | None = None,
    one_number: tuple[str, ...] = (),
    fixed_length: bool = False,
    membrane: tuple[Callable[[], nn.Module], Run] | None = None,
    smooth: tuple[str, ...] = (),
) -> Case:
    return Case(
        "spikingjelly",
        name,
        build,
        run,
        trains,
        refused or {},
        membrane,
        smooth,
        one_number,
        fixed_length,
    )


CASES = [
    *both_modes("IFNode", neuron.IFNode, ("v_threshold",)),
    *both_modes("IFNode soft reset", neuron.IFNode, ("v_threshold",), v_reset=None),
    *both_modes("LIFNode", neuron.LIFNode, ("v_threshold", "tau"), ("tau",)),
    *both_modes(
        "LIFNode soft reset",
        neuron.LIFNode,
        ("v_threshold", "tau"),
        ("tau",),
        v_reset=None,
        decay_input=False,
    ),
    *both_modes(
        "LIFNode ATan",
        neuron.LIFNode,
        ("v_threshold", "tau"),
        ("tau",),
        surrogate_function=surrogate.ATan(),
        detach_reset=True,
    ),
    *both_modes(
        "ParametricLIFNode",
        neuron.ParametricLIFNode,
        ("v_threshold",),
        refused={"w": UNCONSTRAINED},
    ),
    *both_modes("QIFNode", neuron.QIFNode, ("v_threshold", "tau"), ("tau",)),
    *both_modes("EIFNode", neuron.EIFNode, ("v_threshold", "tau"), ("tau",)),
    *both_modes(
        "IzhikevichNode",
        neuron.IzhikevichNode,
        ("v_threshold", "tau_w", "tau"),
        ("tau_w", "tau"),
        a=0.2,
        b=0.1,
    ),
    *both_modes(
        "LIAFNode",
        lambda **options: neuron.LIAFNode(torch.relu, True, **options),
        ("v_threshold", "tau"),
        ("tau",),
    ),
    *both_modes("ILIFNode", neuron.ILIFNode, ("v_threshold", "tau")),
    *both_modes("KLIFNode", neuron.KLIFNode, ("k", "v_threshold", "tau"), ("tau",)),
    *both_modes(
        "ComplementaryLIFNode", neuron.ComplementaryLIFNode, ("v_threshold", "tau"), ("tau",)
    ),
    *both_modes("SimpleIFNode", neuron.SimpleIFNode, ("v_threshold",)),
    *both_modes(
        "SimpleLIFNode",
        lambda **options: neuron.SimpleLIFNode(tau=2.0, decay_input=True, **options),
        ("v_threshold", "tau"),
        ("tau",),
    ),
    *both_modes("TernaryIFNode", neuron.TernaryIFNode, ("v_threshold",)),
    *both_modes("TernaryLIFNode", neuron.TernaryLIFNode, ("v_threshold", "tau"), ("tau",)),
    *both_modes("HalfThresholdIFNode", neuron.HalfThresholdIFNode, ("v_threshold",)),
    *both_modes(
        "MPBNLIFNode",
        lambda **options: neuron.MPBNLIFNode(out_features=N, mpbn=False, **options),
        ("v_threshold", "tau"),
        ("tau",),
        v_threshold=2.0,
    ),
    whole(
        "MPBNLIFNode learnable_vth",
        lambda: neuron.MPBNLIFNode(
            out_features=N, mpbn=False, learnable_vth=True, decay_input=True
        ),
        ("tau",),
        single_step,
        {"a": UNCONSTRAINED, "v_threshold": "reads exp(a)"},
    ),
    whole("OTTTLIFNode", lambda: neuron.OTTTLIFNode(), ("v_threshold", "tau"), single_step),
    whole("SLTTLIFNode", lambda: neuron.SLTTLIFNode(), ("v_threshold", "tau"), single_step),
    whole(
        "CUBALIFNode",
        lambda: neuron.CUBALIFNode(),
        ("v_threshold", "c_decay", "v_decay"),
        single_step,
        membrane=(lambda: neuron.CUBALIFNode(v_threshold=1e6), _membranes),
        smooth=("c_decay", "v_decay"),
    ),
    whole(
        "NonSpikingLIFNode",
        lambda: neuron.NonSpikingLIFNode(),
        ("tau",),
        membrane=(lambda: neuron.NonSpikingLIFNode(), multi_step),
        smooth=("tau",),
    ),
    whole("ILCIFNode", lambda: neuron.ILCIFNode(1, N), ("v_threshold",)),
    whole(
        "ILCLIFNode",
        lambda: neuron.ILCLIFNode(1, N),
        ("v_threshold", "v_decay"),
        membrane=(lambda: neuron.ILCLIFNode(1, N, v_threshold=1e6), _last_membrane),
        smooth=("v_decay",),
    ),
    whole(
        "ILCCUBALIFNode",
        lambda: neuron.ILCCUBALIFNode(1, N),
        ("v_threshold", "c_decay", "v_decay"),
        membrane=(lambda: neuron.ILCCUBALIFNode(1, N, v_threshold=1e6), _last_membrane),
        smooth=("c_decay", "v_decay"),
    ),
    whole(
        "NoisyCUBALIFNode",
        lambda: neuron.NoisyCUBALIFNode(N, is_training=False, T=STEPS),
        ("v_threshold", "c_decay", "v_decay"),
        fixed_length=True,
        membrane=(
            lambda: neuron.NoisyCUBALIFNode(N, is_training=False, T=STEPS, v_threshold=1e6),
            _last_membrane,
        ),
        smooth=("c_decay", "v_decay"),
    ),
    whole(
        "NoisyILCCUBALIFNode",
        lambda: neuron.NoisyILCCUBALIFNode(1, N, is_training=False, T=STEPS),
        ("v_threshold", "c_decay", "v_decay"),
        fixed_length=True,
        membrane=(
            lambda: neuron.NoisyILCCUBALIFNode(1, N, is_training=False, T=STEPS, v_threshold=1e6),
            _last_membrane,
        ),
        smooth=("c_decay", "v_decay"),
    ),
    whole(
        "GatedLIFNode",
        lambda: neuron.GatedLIFNode(T=STEPS),
        (),
        _images,
        {"tau": UNCONSTRAINED, "v_threshold": UNCONSTRAINED},
        fixed_length=True,
    ),
    # the functions of the DSR nodes return one gradient for all neurons
    whole(
        "DSRIFNode",
        lambda: neuron.DSRIFNode(T=STEPS, v_threshold=0.5),
        ("v_threshold",),
        one_number=("v_threshold",),
        fixed_length=True,
    ),
    whole(
        "DSRLIFNode",
        lambda: neuron.DSRLIFNode(T=STEPS, v_threshold=0.15, delta_t=0.5),
        ("v_threshold",),
        refused={"tau": "takes it as a float", "alpha": "firing comparison"},
        one_number=("v_threshold",),
        fixed_length=True,
    ),
    whole(
        "RAFNode",
        lambda: neuron.RAFNode(-0.5, 1.0, 0.5, v_threshold=0.5),
        ("v_threshold",),
        single_step,
        {"b": "takes it as a float", "omega": "takes it as a float"},
    ),
]
