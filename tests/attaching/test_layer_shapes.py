"""One value per neuron, channel or layer, as a dry run tells; and shapes that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from neuroparam import Quantity, errors, make_trainable, neuron_parameters, values
from tests.support.modules import assert_unchanged, snapshot

T, B = 5, 3


class Loop(nn.Module):
    """A loop of the user's own over (time, batch, inputs), with batch normalisation and states."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(7, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.hidden, self.out = snn.Leaky(beta=0.9), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        first, second, seen = self.hidden.init_leaky(), self.out.init_leaky(), []
        for step in x:
            spikes, first = self.hidden(self.norm(self.fc1(step)), first)
            _, second = self.out(self.fc2(spikes), second)
            seen.append(second)
        return torch.stack(seen)


class Convolutional(nn.Module):
    """(batch, channels, height, width), one step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif = nn.Conv2d(1, 4, 3), snn.Leaky(beta=0.9)
        self.fc, self.out = nn.Linear(4 * 6 * 6, 2), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        spikes, _ = self.lif(self.conv(x), self.lif.init_leaky())
        _, mem = self.out(self.fc(spikes.flatten(1)), self.out.init_leaky())
        return mem


class Own(nn.Module):
    """A neuron of the user's own, for whole sequences (batch, time, neurons)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.tau = nn.Linear(7, 4), 5.0

    def forward(self, x: Tensor) -> Tensor:
        v, seen = torch.zeros_like(self.fc(x)[:, 0]), []
        for step in self.fc(x).unbind(1):
            v = v + (step - v) / self.tau
            seen.append(v)
        return torch.stack(seen, 1)


def jelly() -> nn.Module:
    made = nn.Sequential(layer.Conv2d(1, 4, 3), neuron.LIFNode())
    for part in made:
        part.step_mode = "m"
    return made


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Any, str, dict[str, tuple[int, ...]]]] = {
    "own loop": (
        Loop,
        torch.rand(T, B, 7),
        "*.beta",
        {"hidden.beta": (4,), "out.beta": (2,)},
    ),
    "convolution": (
        Convolutional,
        torch.rand(B, 1, 8, 8),
        "*.beta",
        {"lif.beta": (4, 6, 6), "out.beta": (2,)},
    ),
    "Norse": (
        lambda: norse.SequentialState(nn.Linear(7, 4), norse.LIF(), norse.LIFRecurrent(4, 6)),
        torch.rand(T, B, 7),
        "*.tau_mem_inv",
        {"1.p.tau_mem_inv": (4,), "2.p.tau_mem_inv": (6,)},
    ),
    "SpikingJelly": (jelly, torch.rand(T, B, 1, 8, 8), "*.tau", {"1.tau": (4, 6, 6)}),
    "Sinabs": (
        lambda: nn.Sequential(nn.Linear(7, 4), sl.LIF(tau_mem=10.0)),
        torch.rand(B, T, 7),
        "*.tau_mem",
        {"1.tau_mem": (4,)},
    ),
    "Rockpool": (
        lambda: nn.Sequential(nn.Linear(7, 4), LIFTorch(4, has_rec=False)),
        torch.rand(B, T, 7),
        "*.tau_mem",
        {"1.tau_mem": (4,)},
    ),
}
every_network = pytest.mark.parametrize(
    ("build", "example", "names", "shapes"), NETWORKS.values(), ids=NETWORKS
)


def shapes_of(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {path: tuple(value.shape) for path, value in values(net).items()}


@every_network
def test_one_value_per_neuron(build: Any, example: Any, names: str, shapes: Any) -> None:
    net = build()
    make_trainable(net, names, shape="neuron", example=example)
    assert shapes_of(net) == shapes
    output = net(example)
    (output[0] if isinstance(output, tuple) else output).sum().backward()
    for raw in neuron_parameters(net):
        assert raw.grad is not None


def test_one_value_per_channel_and_per_layer() -> None:
    example = torch.rand(B, 1, 8, 8)
    net = make_trainable(Convolutional(), "*.beta", shape="channel", example=example)
    assert shapes_of(net) == {"lif.beta": (4, 1, 1), "out.beta": (2,)}
    net(example)
    wanted = {"lif.*": "channel", "out.*": "layer"}
    net = make_trainable(Convolutional(), "*.beta", shape=wanted, example=example)
    assert shapes_of(net) == {"lif.beta": (4, 1, 1), "out.beta": ()}
    assert shapes_of(make_trainable(Convolutional(), "*.beta", shape="layer")) == {
        "lif.beta": (),
        "out.beta": (),
    }


def test_an_own_layer_with_weights_tells_by_its_output() -> None:
    net = nn.Sequential(nn.Linear(9, 7), Own())
    make_trainable(net, "tau", shape="neuron", example=torch.rand(B, T, 9))
    assert shapes_of(net) == {"1.tau": (4,)}
    net(torch.rand(B, T, 9)).sum().backward()


def test_a_dry_run_leaves_the_network_and_the_generators_as_they_were() -> None:
    net = nn.Sequential(nn.Dropout(0.5), sl.LIF(tau_mem=10.0), nn.BatchNorm1d(T))
    example = torch.rand(B, T, 7)
    net(example)
    before, generator = snapshot(net), torch.get_rng_state()
    with pytest.raises(errors.OutOfDomainError):  # after the dry run
        make_trainable(net, "1.tau_mem", -1.0, shape="neuron", example=example)
    assert_unchanged(net, before)
    assert torch.equal(torch.get_rng_state(), generator)


def test_starts_are_drawn_for_each_neuron_of_each_layer() -> None:
    net = make_trainable(
        Loop(),
        Quantity.TAU_MEM,
        init=torch.distributions.Uniform(10e-3, 30e-3),
        shape="neuron",
        dt=1e-3,
        example=torch.rand(T, B, 7),
    )
    assert all(len(value.unique()) == value.numel() > 1 for value in values(net).values())


@pytest.mark.parametrize(
    ("shape", "example", "why"),
    [
        ("neuron", None, r"shape must come with example=\.\.\..*got 'neuron'"),
        ("neurons", torch.rand(T, B, 7), "one of 'neuron', 'channel', 'layer'; got 'neurons'"),
        ("auto", None, "one of 'neuron', 'channel', 'layer'"),
        ("neuron", torch.rand(T, B, 8), "the network does not run with it"),
        ("neuron", "input", "must be an input of the network"),
        ("neuron", (), "must be an input of the network"),
        ((3,), torch.rand(T, B, 7), r"does not fit its layer, whose neurons have shape \(4,\)"),
        ({"hidden.*": (4,), "out.*": (4,)}, torch.rand(T, B, 7), r"'out\.beta'.*shape \(2,\)"),
        (-1, None, "positive integers"),
    ],
)
def test_what_tells_no_shape_is_refused(shape: Any, example: Any, why: str) -> None:
    net = Loop()
    before = snapshot(net)
    with pytest.raises(errors.InvalidArgumentError, match=why):
        make_trainable(net, "*.beta", shape=shape, example=example)
    assert_unchanged(net, before)


class PastTheLayer(nn.Module):
    """Runs a part of a network, and not its neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()

    def forward(self, x: Tensor) -> Any:
        return self.loop.fc1(x)


def test_a_layer_that_does_not_run_tells_nothing() -> None:
    net = PastTheLayer()
    with pytest.raises(errors.InvalidArgumentError, match="does not run this layer"):
        make_trainable(net, "*.beta", shape="neuron", example=torch.rand(T, B, 7))


def test_states_of_another_batch_are_said() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tau, self.v = 5.0, torch.zeros(B, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.v = self.v + (x - self.v) / self.tau
            return self.v

    net = nn.Sequential(nn.Linear(7, 4), Stateful())
    net(torch.rand(B, 7))
    with pytest.raises(errors.InvalidArgumentError, match="reset the states"):
        make_trainable(net, "1.tau", shape="neuron", example=torch.rand(B, 7))


# ------------------------------------------------------------------------- at the forward


@pytest.mark.parametrize("shape", [(4,), (5, 1, 1), (3, 6, 6)])
def test_a_shape_that_does_not_fit_is_said_at_the_first_forward(shape: tuple[int, ...]) -> None:
    net = make_trainable(Convolutional(), "lif.beta", shape=shape)
    with pytest.raises(errors.ShapeError) as caught:
        net(torch.rand(B, 1, 8, 8))
    message = str(caught.value)
    assert f"'lif.beta' has shape {shape}" in message
    assert f"input of shape {(B, 4, 6, 6)}" in message
    assert "shape=(channels, 1, 1)" in message
    assert isinstance(caught.value, RuntimeError)
    assert "must match the size" in str(caught.value.__cause__)


@pytest.mark.parametrize("shape", [(4,), (5, 1, 1)])
def test_it_is_said_without_gradients_too(shape: tuple[int, ...]) -> None:
    net = make_trainable(Convolutional(), "lif.beta", shape=shape)
    with torch.no_grad(), pytest.raises(errors.ShapeError, match=r"'lif\.beta' has shape"):
        net(torch.rand(B, 1, 8, 8))


def square() -> nn.Module:
    """Four channels of 4 x 4."""
    return nn.Sequential(nn.Conv2d(1, 4, 5), snn.Leaky(beta=0.9, init_hidden=True))


def test_as_many_columns_as_channels_are_warned_of_once(recwarn: pytest.WarningsRecorder) -> None:
    net = make_trainable(square(), "1.beta", shape=(4,))
    with pytest.warns(errors.MisuseWarning, match=r"one value per column.*shape=\(4, 1, 1\)"):
        net(torch.rand(B, 1, 8, 8))
    net(torch.rand(B, 1, 8, 8))
    assert not recwarn.list


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 1, 4), (), (1,)])
def test_other_shapes_of_such_a_layer_are_not(
    shape: tuple[int, ...], recwarn: pytest.WarningsRecorder
) -> None:
    output = make_trainable(square(), "1.beta", shape=shape)(torch.rand(B, 1, 8, 8))
    assert output.shape == (B, 4, 4, 4)
    assert not recwarn.list


def test_an_error_about_other_sizes_is_torch_s_own() -> None:
    net = make_trainable(Convolutional(), "lif.beta", shape=(4, 1, 1))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        net(torch.rand(B, 1, 9, 9))
