"""A stored value gives way to a trainable one and comes back, in its place and of its kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuroparam import ExpScaledLog
from tests.support.inside import (
    Kind,
    NeuronParameter,
    Place,
    Record,
    attach,
    attached,
    detach,
    rebuild_records,
    survey,
)
from tests.support.modules import FromRecord, Nest, Pair


class Ordered(nn.Module):
    """A value of each kind, between two others of its kind."""

    def __init__(self) -> None:
        super().__init__()
        for part in ("first", "middle", "last"):
            setattr(self, f"{part}_parameter", nn.Parameter(torch.tensor(4.0)))
            self.register_buffer(f"{part}_buffer", torch.tensor(4.0), persistent=False)
            setattr(self, f"{part}_tensor", torch.tensor(4.0))
            setattr(self, f"{part}_number", 4)


def place_of(module: nn.Module, path: str) -> Place:
    return next(place for place in survey(module) if place.path == path)


def exchanged(module: nn.Module, path: str, value: float = 4.0) -> NeuronParameter:
    parameter = NeuronParameter([ExpScaledLog()], torch.tensor(value), path)
    attach(place_of(module, path), parameter)
    return parameter


@pytest.mark.parametrize(
    ("kind", "store"),
    [
        (Kind.PARAMETER, "_parameters"),
        (Kind.BUFFER, "_buffers"),
        (Kind.TENSOR, "__dict__"),
        (Kind.NUMBER, "__dict__"),
    ],
)
def test_a_value_comes_back_where_it_was(kind: Kind, store: str) -> None:
    module, name = Ordered(), f"middle_{kind.value.split()[0]}"
    order = list(getattr(module, store))
    parameter = exchanged(module, name)
    assert parameter.storage.kind is kind
    assert name not in getattr(module, store)
    assert [place.path for place in attached(module)] == [name]
    parameter.assign(5.0)
    (place,) = attached(module)
    detach(place)
    assert list(getattr(module, store)) == order
    assert torch.as_tensor(getattr(module, name)).item() == pytest.approx(5.0)
    assert type(module) is Ordered
    assert "parametrizations" not in module._modules
    assert name in module._non_persistent_buffers_set or kind is not Kind.BUFFER


def test_the_parameter_stays_the_same_object_without_its_old_memory() -> None:
    shared = torch.tensor(4.0)
    module = Ordered()
    module.middle_parameter = plain = nn.Parameter(shared)
    parameter = exchanged(module, "middle_parameter")
    assert parameter.raw is plain
    with torch.no_grad():
        plain.add_(1.0)
    assert shared == 4.0
    assert parameter().item() == pytest.approx(4.0 * torch.e)


def test_a_gradient_of_the_plain_value_is_not_taken_for_one_of_the_raw_value() -> None:
    module = Ordered()
    (3 * module.middle_parameter).backward()
    parameter = exchanged(module, "middle_parameter")
    assert parameter.raw.grad is None
    torch.optim.SGD([parameter.raw], lr=1.0).step()
    assert parameter().item() == 4.0


def test_a_gradient_of_the_raw_value_is_not_taken_for_one_of_the_plain_value() -> None:
    module = Ordered()
    parameter = exchanged(module, "middle_parameter")
    (3 * parameter()).backward()
    assert parameter.raw.grad is not None
    (place,) = attached(module)
    detach(place)
    assert module.middle_parameter is parameter.raw
    assert module.middle_parameter.grad is None
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    assert module.middle_parameter.item() == 4.0


@pytest.mark.parametrize("kind", ["parameter", "buffer", "tensor"])
def test_a_value_that_came_back_shares_no_memory_with_what_an_optimizer_holds(kind: str) -> None:
    class Free(nn.Module):
        """A map that gives the raw tensor itself."""

        def forward(self, raw: torch.Tensor) -> torch.Tensor:
            return raw

        def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
            return value

    module, name = Ordered(), f"middle_{kind}"
    parameter = NeuronParameter([Free()], torch.tensor(4.0), name)
    attach(place_of(module, name), parameter)
    memory = parameter.raw.data_ptr()
    (place,) = attached(module)
    detach(place)
    assert getattr(module, name).data_ptr() != memory
    assert getattr(module, name).item() == 4.0


def test_a_record_gives_way_to_a_stand_in_and_comes_back_when_nothing_is_attached() -> None:
    cell = FromRecord(Nest(Pair()))
    exchanged(cell, "p.inner.tau")
    exchanged(cell, "p.rho", 3.0)
    assert isinstance(cell.p, Record)
    first, second = attached(cell)
    detach(first)
    rebuild_records(cell)
    assert isinstance(cell.p, Record)  # one value in it is attached still
    detach(second)
    rebuild_records(cell)
    assert cell.p == Nest(Pair(pytest.approx(4.0)), pytest.approx(3.0))
    assert type(cell.p.inner) is Pair
