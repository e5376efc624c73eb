"""The words in which a library is described: classes, patterns, and entries that many share."""

from __future__ import annotations

from types import SimpleNamespace

import snntorch as snn
from torch import nn

from neuroparam import Quantity
from neuroparam.catalogue import Adapted, Refused, Trains
from tests.support.inside import classes_of, own_step, states


class Derived(snn.Leaky):
    """A user's class."""


def test_a_class_is_known_by_its_own_name_and_those_of_its_bases() -> None:
    assert classes_of("snntorch", snn.Leaky)[:2] == ["Leaky", "LIF"]
    assert classes_of("snntorch", Derived) == classes_of("snntorch", snn.Leaky)
    assert classes_of("snntorch", nn.Linear) == []


def test_a_module_without_a_step_has_none() -> None:
    assert own_step(SimpleNamespace(dt=1e-3)) == 1e-3
    assert own_step(SimpleNamespace(dt=None)) is None
    assert own_step(nn.ReLU()) is None


def test_states_are_refused_one_by_one() -> None:
    mem, syn = states("mem", "syn", modules=("Synaptic",))
    assert (mem.field, syn.field) == ("mem", "syn")
    assert mem.modules == syn.modules == ("Synaptic",)
    assert isinstance(mem, Refused)
    assert "state" in mem.reason


def test_all_that_a_class_itself_defines_is_adapted() -> None:
    class Members:
        constant = 3.0

        def method(self) -> None: ...

        @property
        def value(self) -> float:
            return 1.0

    assert list(Adapted(members=Members).body(object)) == ["constant", "method", "value"]


def test_a_row_applies_to_every_class_unless_it_says_otherwise() -> None:
    row = Trains(field="tau", meaning="a time constant", default=lambda neuron: None)
    assert row.modules == ("*",)
    assert row.quantity is None
    assert not row.euler
    assert Quantity.TAU_MEM.unit == Quantity.TAU_SYN.unit == "s"
    assert Quantity.THRESHOLD.unit == "voltage"
