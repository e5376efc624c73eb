"""Layers of Norse whose eleven inputs are all leaves, and what comes to each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import norse.torch as norse
import torch
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, LIFState
from torch import Tensor, nn

STEPS, BATCH, FEATURES, NEURONS = 40, 3, 5, 6
PARAMETERS = ("tau_mem_inv", "tau_syn_inv", "v_th", "v_leak", "v_reset")
RECURRENT = ("x", "input_weights", "recurrent_weights", "z", "v", "i", *PARAMETERS)
FEED_FORWARD = ("x", "v", "i", *PARAMETERS)
# surrogate -> a steepness that suits it
SURROGATES = {
    "super": 100.0,
    "triangle": 0.3,
    "tanh": 1.0,
    "circ": 1.0,
    "heavi_erfc": 1.0,
    "heaviside": 1.0,
}


class Case(NamedTuple):
    """What a layer is built from and given."""

    recurrent: bool = True
    dtype: torch.dtype = torch.float64
    per_neuron: bool = True
    surrogate: str = "super"
    steps: int = STEPS
    batch: tuple[int, ...] = (BATCH,)
    with_state: bool = True
    threshold: float = 0.3
    neurons: int = NEURONS

    @property
    def names(self) -> tuple[str, ...]:
        names = RECURRENT if self.recurrent else FEED_FORWARD
        return names if self.with_state else tuple(n for n in names if n not in "zvi")


class Outcome(NamedTuple):
    """What a layer gave, and the gradient of each of its inputs."""

    outputs: tuple[Tensor, ...]
    gradients: dict[str, Tensor | None]


Change = Callable[[nn.Module], nn.Module]


def leaves(case: Case, frozen: Collection[str] = ()) -> dict[str, Tensor]:
    """The inputs of a layer, drawn anew but always the same."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    n = case.neurons
    made = {
        "tau_mem_inv": 100 + 20 * uniform(n),
        "tau_syn_inv": 200 + 20 * uniform(n),
        "v_th": case.threshold * (1 + 0.3 * uniform(n)),
        "v_leak": 0.02 * normal(n),
        "v_reset": -0.05 * uniform(n),
        "input_weights": 0.9 * normal(n, FEATURES),
        "recurrent_weights": 0.4 * normal(n, n),
        "z": (uniform(*case.batch, n) < 0.3).double(),
        "v": 0.1 * normal(*case.batch, n),
        "i": 0.1 * normal(*case.batch, n),
        "x": (
            (uniform(case.steps, *case.batch, FEATURES) < 0.3).double()
            if case.recurrent
            else 0.6 * normal(case.steps, *case.batch, n) + 0.4
        ),
    }
    if not case.with_state:  # Norse fills its first state with one number.
        made["v_leak"] = made["v_leak"].mean()
    if not case.per_neuron:
        made.update({name: made[name].mean() for name in PARAMETERS})
    return {
        name: made[name].to(case.dtype).requires_grad_(name not in frozen) for name in case.names
    }


def layer_of(case: Case, given: dict[str, Tensor]) -> Any:
    """A layer that computes with the given leaves."""
    p = LIFParameters(
        **{name: given[name] for name in PARAMETERS},
        method=case.surrogate,
        alpha=torch.as_tensor(SURROGATES[case.surrogate]),
    )
    if not case.recurrent:
        layer: Any = norse.LIF()
    else:
        layer = norse.LIFRecurrent(FEATURES, case.neurons, autapses=True)
        del layer.input_weights, layer.recurrent_weights
        layer.input_weights = given["input_weights"]
        layer.recurrent_weights = given["recurrent_weights"]
    layer.p = p
    return layer


def state_of(case: Case, given: dict[str, Tensor]) -> Any:
    if not case.with_state:
        return None
    v, i = given["v"], given["i"]
    return LIFState(given["z"], v, i) if case.recurrent else LIFFeedForwardState(v, i)


def loss_of(outputs: tuple[Tensor, ...]) -> Tensor:
    """A loss to which spikes and final state contribute, each element with its own weight."""
    generator = torch.Generator().manual_seed(2)
    return sum(
        (torch.randn(each.shape, generator=generator).to(each.dtype) * each).sum()
        + each.square().sum()
        for each in outputs
    )


def outcome(
    case: Case, change: Change = lambda layer: layer, frozen: Collection[str] = ()
) -> Outcome:
    """Runs a layer and differentiates."""
    given = leaves(case, frozen)
    layer = change(layer_of(case, given))
    spikes, state = layer(given["x"], state_of(case, given))
    outputs = (spikes, state.v, state.i)
    wanted = [leaf for leaf in given.values() if leaf.requires_grad]
    loss = loss_of(outputs)
    if not loss.requires_grad:  # Norse's plain step function ends the graph.
        return Outcome(outputs, dict.fromkeys(given))
    found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
    return Outcome(
        tuple(each.detach() for each in outputs),
        {name: next(found) if leaf.requires_grad else None for name, leaf in given.items()},
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm; 0 where both are nothing."""
    difference, size = (found - expected).norm().item(), expected.norm().item()
    return difference / size if size else difference


def worst_error(found: Outcome, expected: Outcome) -> float:
    """The largest relative error of a gradient; a missing gradient is one of zeros."""
    errors = [0.0]
    for name, gradient in expected.gradients.items():
        mine = found.gradients[name]
        if gradient is None or mine is None:
            rest = gradient if mine is None else mine
            assert rest is None or not rest.any(), name
        else:
            assert mine.shape == gradient.shape, name
            assert mine.dtype == gradient.dtype, name
            errors.append(relative_error(mine, gradient))
    return max(errors)
