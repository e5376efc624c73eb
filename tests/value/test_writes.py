"""What code writes in place into a value is lost: an error in a forward, a warning elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuroparam import Softplus, cached, errors, make_trainable, values

X = torch.rand(4, 3)


class Layer(nn.Module):
    def __init__(self, write: Callable[[nn.Module], object] = lambda layer: None):
        super().__init__()
        self.threshold, self.write = torch.ones(3), write

    def forward(self, x: Tensor) -> Tensor:
        output = x - self.threshold
        self.write(self)
        return output - self.threshold


def in_place(layer: nn.Module) -> None:
    value = layer.threshold
    value -= 0.1


def without_gradients(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.threshold.mul_(2.0)


WRITES: dict[str, Callable[[nn.Module], object]] = {
    "data, in place": lambda layer: layer.threshold.data.sub_(0.1),
    "data, an entry": lambda layer: layer.threshold.data.__setitem__(0, 2.0),
    "data exchanged": lambda layer: setattr(layer.threshold, "data", torch.full((3,), 2.0)),
    "data of another shape": lambda layer: setattr(layer.threshold, "data", torch.zeros(1, 3)),
    "of a detached one": lambda layer: layer.threshold.detach().clamp_(min=1.5),
    "under no_grad": without_gradients,
    "an initialisation": lambda layer: nn.init.constant_(layer.threshold, 0.5),
    "nan": lambda layer: layer.threshold.data.fill_(torch.nan),
    "operator": in_place,
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@every_write
@pytest.mark.parametrize("gradients", [True, False])
def test_in_a_forward_it_is_an_error(write, gradients: bool) -> None:
    net = make_trainable(nn.Sequential(Layer(write)), {"0.threshold": Softplus()})
    with torch.set_grad_enabled(gradients), pytest.raises(errors.AssignmentError) as caught:
        net(X)
    assert caught.value.path == "0.threshold"
    net[0].write = lambda layer: None
    assert torch.equal(net(X), X - 2)


def test_in_a_forward_that_begins_to_write_later() -> None:
    layer = make_trainable(Layer(), {"threshold": Softplus()})
    for _ in range(5):
        layer(X)
    layer.write = WRITES["data, in place"]

    def more() -> None:
        for _ in range(4):
            layer(X)

    with pytest.raises(errors.AssignmentError):
        more()


def test_in_a_block_that_keeps_values() -> None:
    layer = make_trainable(Layer(WRITES["data, in place"]), {"threshold": Softplus()})
    with pytest.raises(errors.AssignmentError), cached():
        layer(X)


def test_an_error_of_the_forward_goes_before() -> None:
    def write(layer: nn.Module) -> None:
        layer.threshold.data.sub_(0.1)
        raise KeyError("mine")

    layer = make_trainable(Layer(write), {"threshold": Softplus()})
    with pytest.raises(KeyError, match="mine"):
        layer(X)


@every_write
@pytest.mark.parametrize(
    "later",
    [
        lambda net, optimizer: net(X),
        lambda net, optimizer: net[0].threshold,
        lambda net, optimizer: optimizer.step(),
    ],
    ids=["a forward", "a read", "a step"],
)
def test_elsewhere_it_is_a_warning_once(write, later) -> None:
    net = make_trainable(nn.Sequential(Layer()), {"0.threshold": Softplus()})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            write(net[0])
            later(net, optimizer)
    assert [w.category for w in seen] == [errors.MisuseWarning]
    assert seen[0].filename == __file__
    assert "'0.threshold': code has written in place into it" in str(seen[0].message)
    assert torch.equal(values(net)["0.threshold"], torch.ones(3))


def test_reads_and_assignments_are_no_writes() -> None:
    net = make_trainable(nn.Sequential(Layer()), {"0.threshold": Softplus()})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(10):
        net[0].threshold = net[0].threshold.detach().clamp(0.5, 0.9)
        net[0].threshold.detach().numpy().copy()[0] = 3.0
        net(X).sum().backward()
        optimizer.step()
        net[0].threshold.mean().item()
    assert net[0].threshold.unique().numel() == 1  # All entries train alike, the first one too.


def test_a_value_that_became_nan_is_not_written() -> None:
    layer = make_trainable(Layer(), {"threshold": Softplus()})
    with torch.no_grad():
        layer.parametrizations["threshold"].original.fill_(torch.nan)
    assert layer(X).isnan().all()
    assert layer.threshold.isnan().all()
    assert layer.threshold.isnan().all()
