"""The stand-in of a record has the record's properties and methods, and derives plain records."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from neuroparam import make_fixed, make_trainable
from tests.support.inside import Record


class Base:
    def scaled_leak(self) -> Any:
        return self.leak * 2.0


@dataclasses.dataclass(frozen=True)
class Params(Base):
    tau: Any = 20.0
    threshold: Any = 1.0
    unit: ClassVar[str] = "ms"

    @property
    def leak(self) -> Any:
        return 1 / self.tau

    @cached_property
    def decay(self) -> Any:
        return 1 - 1 / self.tau

    def scaled_leak(self) -> Any:
        return super().scaled_leak() + 0.0

    def faster(self, by: float) -> Params:
        return dataclasses.replace(self, tau=self.tau / by)

    def half(self) -> Any:
        return self.tau / 2

    @classmethod
    def slow(cls) -> Params:
        return cls(tau=100.0)

    @staticmethod
    def bound() -> float:
        return 3.0

    def __matmul__(self, other: float) -> Any:
        return self.tau * other


@dataclasses.dataclass(slots=True)
class Compact:
    tau: Any = 20.0
    threshold: Any = 1.0

    @property
    def leak(self) -> Any:
        return 1 / self.tau


class Row(NamedTuple):
    tau: Any = 20.0
    threshold: Any = 1.0

    @property
    def leak(self) -> Any:
        return 1 / self.tau

    def faster(self, by: float) -> Row:
        return self._replace(tau=self.tau / by)


class Outer(NamedTuple):
    inner: Any
    gain: float = 2.0


class Layer(nn.Module):
    def __init__(self, p: Any):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * self.p.leak - self.p.threshold


KINDS = [Params, Compact, Row]
each_kind = pytest.mark.parametrize("kind", KINDS)
new_torch = pytest.mark.skipif(
    torch.__version__ < "2.14", reason="Dynamo looks for properties in `__class__`"
)


def attached(record: Any) -> Any:
    """A layer with both fields attached, `tau` trained to 10."""
    layer = make_trainable(Layer(record), ["p.tau", "p.threshold"])
    layer.p.tau = 10.0
    return layer


def raw_of(p: Any) -> nn.Parameter:
    return p.parametrizations["tau"].original


@each_kind
def test_a_property_sees_the_trained_value_with_its_graph(kind) -> None:
    layer = attached(kind())
    torch.testing.assert_close(layer(torch.ones(3)), torch.full((3,), -0.9))
    layer(torch.ones(3)).sum().backward()
    torch.testing.assert_close(raw_of(layer.p).grad, torch.tensor(-0.3))


def test_methods_inherited_ones_and_constants_of_the_class_are_there() -> None:
    p = attached(Params()).p
    values = [p.decay, p.scaled_leak(), p.half(), p @ 3.0]
    assert [v.item() for v in values] == pytest.approx([0.9, 0.2, 5.0, 30.0])
    assert all(value.requires_grad for value in values)
    assert (p.unit, p.bound()) == ("ms", 3.0)
    assert type(p.slow()) is type(type(p)()) is Params
    p.tau = 20.0
    assert p.decay.item() == pytest.approx(0.95)  # It is not kept.


@new_torch
@each_kind
def test_it_is_an_instance_of_its_type_and_a_module(kind) -> None:
    p = attached(kind()).p
    assert isinstance(p, kind)
    assert isinstance(p, nn.Module)
    assert isinstance(p, tuple) is (kind is Row)
    match p:
        case Params(tau=tau) | Row(tau=tau) | Compact(tau=tau):
            assert tau.item() == pytest.approx(10.0)
        case _:
            raise AssertionError


@pytest.mark.parametrize(
    "derive",
    [
        lambda p: p.faster(by=2.0),
        lambda p: p._replace(tau=p.tau / 2) if isinstance(p, tuple) else p.faster(2.0),
    ],
)
@pytest.mark.parametrize("kind", [Params, Row])
def test_a_record_derived_from_it_is_plain_and_has_gradients(kind, derive) -> None:
    layer = attached(kind())
    derived = derive(layer.p)
    assert type(derived) is kind
    assert derived.tau.item() == pytest.approx(5.0)
    assert derived.threshold.requires_grad
    derived.tau.backward()
    assert raw_of(layer.p).grad == 5.0
    assert layer.p.tau.item() == pytest.approx(10.0)


@pytest.mark.parametrize("kind", [Params, Compact])
def test_dataclasses_own_functions_take_it(kind) -> None:
    p = attached(kind()).p
    assert dataclasses.is_dataclass(p)
    assert [field.name for field in dataclasses.fields(p)] == ["tau", "threshold"]
    assert dataclasses.asdict(p) == {"tau": pytest.approx(10.0), "threshold": 1.0}
    assert dataclasses.astuple(p) == (pytest.approx(10.0), 1.0)
    assert not dataclasses.asdict(p)["tau"].requires_grad
    replaced = dataclasses.replace(p, threshold=0.5)
    assert type(replaced) is kind
    assert replaced.tau.requires_grad
    assert replaced.threshold == 0.5


def test_a_tuple_is_unpacked_sliced_indexed_compared_and_searched() -> None:
    p = attached(Row()).p
    tau, threshold = p
    assert tau.requires_grad
    assert (p[0], p[-2], p[0:1]) == (tau, tau, (tau,))
    assert (*p, len(p)) == (tau, threshold, 2)
    assert p == Row(tau.detach(), threshold.detach())
    assert p == p
    assert p != Row()
    assert threshold in p
    assert p.index(threshold) == 1
    assert p + (1.0,) == (tau, threshold, 1.0)  # noqa: RUF005
    assert p._asdict() == {"tau": tau, "threshold": threshold}
    assert (p._fields, p._field_defaults) == (Row._fields, Row._field_defaults)
    assert type(p._make([1.0, 2.0])) is Row
    assert len({p, p}) == 1
    with pytest.raises(IndexError):
        p[2]


def test_a_nested_record_comes_out_plain() -> None:
    layer = make_trainable(Layer(Outer(Params())), "tau")
    inner, gain = layer.p
    assert type(inner) is Params
    assert inner.leak.requires_grad
    assert gain == 2.0
    assert type(layer.p._replace(gain=1.0).inner) is Params
    assert layer.p.inner.leak.requires_grad


def test_what_a_record_keeps_besides_its_fields_stays() -> None:
    record = Params()
    assert record.decay == 0.95  # It is kept in the dictionary of the record, and is soon too old.
    object.__setattr__(record, "origin", "measured")
    layer = attached(record)
    assert layer.p.origin == "measured"
    assert layer.p.decay.item() == pytest.approx(0.9)
    fixed = make_fixed(layer).p
    assert type(fixed) is Params
    assert fixed.origin == "measured"
    assert fixed.decay == pytest.approx(0.9)


@each_kind
def test_copies_and_pickles_have_the_same_members(kind) -> None:
    layer = attached(kind())
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(copied.p) is type(layer.p)
        assert copied.p.leak.item() == pytest.approx(0.1)
        copied.p.tau = 5.0
        assert layer.p.tau.item() == pytest.approx(10.0)
    alone = copy.deepcopy(Record(kind()))
    assert type(alone) is type(Record(kind()))
    assert pickle.loads(pickle.dumps(alone)).rebuild() == kind()


MEMBERS = {
    "property": lambda p: p.leak,
    "cached property": lambda p: p.decay,
    "method with super": lambda p: p.scaled_leak(),
}


@pytest.mark.parametrize("read", MEMBERS.values(), ids=MEMBERS)
def test_members_are_compiled_in_one_graph(read) -> None:
    layer = attached(Params())
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(lambda x: x * read(layer.p), backend=counter, fullgraph=True)
    torch.testing.assert_close(compiled(torch.ones(3)), torch.ones(3) * read(layer.p))
    layer.p.tau = 5.0
    torch.testing.assert_close(compiled(torch.ones(3)), torch.ones(3) * read(layer.p))
    assert counter.frame_count == 1


def test_a_registry_of_records_hears_of_no_stand_in() -> None:
    class Registered:
        known: ClassVar[list[str]] = []

        def __init_subclass__(cls) -> None:
            cls.known.append(cls.__name__)

    @dataclasses.dataclass
    class Local(Registered):
        tau: float = 20.0

    layer = make_trainable(Layer(Local()), "p.tau")
    assert Registered.known == ["Local"]
    assert type(make_fixed(layer).p) is Local
