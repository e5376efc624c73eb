"""What the sequence function keeps until the backward pass, in bytes."""

from __future__ import annotations

import norse.torch as norse
import pytest
import snntorch
import torch
from torch import Tensor, nn

from neuroparam import make_trainable
from neuroparam.adjoint import sequence, use_adjoint, use_autograd

BATCH, NEURONS = 16, 20


def layer_of(kind: type[nn.Module]) -> nn.Module:
    layer = kind(NEURONS, NEURONS) if kind is norse.LIFRecurrent else kind()
    return make_trainable(layer, ["tau_mem_inv", "tau_syn_inv", "v_th"], shape=(NEURONS,))


def units_saved(run, x: Tensor, steps: int) -> float:
    """What a graph keeps beside its input, in tensors of shape (time, batch, neurons)."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # An output that its own node keeps would never be freed.

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept_alive = run(x)
    found.pop(x.untyped_storage().data_ptr(), None)
    del kept_alive
    return sum(found.values()) / (4 * steps * BATCH * NEURONS)


@pytest.mark.parametrize("kind", [norse.LIFRecurrent, norse.LIF])
def test_a_layer_keeps_three_tensors(kind: type[nn.Module]) -> None:
    x = torch.rand(100, BATCH, NEURONS)
    layer = use_adjoint(layer_of(kind))
    assert units_saved(layer, x, 100) <= 3.1
    assert units_saved(use_autograd(layer), x, 100) > 4.9


@pytest.mark.parametrize("kind", [norse.LIFRecurrent, norse.LIF])
@pytest.mark.parametrize(("steps", "most"), [(100, 1.3), (1000, 1.1)])
def test_lean_keeps_little_beside_its_output(
    kind: type[nn.Module], steps: int, most: float
) -> None:
    x = torch.rand(steps, BATCH, NEURONS)
    assert units_saved(use_adjoint(layer_of(kind), lean=True), x, steps) <= most


def test_a_layer_without_weights_does_not_keep_its_input() -> None:
    x = torch.rand(100, BATCH, NEURONS, requires_grad=True)
    kept: list[int] = []
    storage = x.untyped_storage().data_ptr()

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage().data_ptr())
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        use_adjoint(norse.LIF())(x)
    assert storage not in kept


def test_snntorch_keeps_two_tensors() -> None:
    x = torch.rand(100, BATCH, NEURONS)
    leaky = make_trainable(snntorch.Leaky(beta=0.9), ["beta", "threshold"], shape=(NEURONS,))
    assert units_saved(lambda inputs: sequence(leaky, inputs), x, 100) <= 3.1
