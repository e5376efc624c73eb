"""Places: where values are attached, under which paths, and what is known of them there."""

from __future__ import annotations

import pytest
import snntorch as snn
import torch
from torch import nn

from neuroparam import Quantity, errors, make_trainable
from tests.support.inside import Kind, attached, is_attached, refuse_scripted, survey
from tests.support.modules import FromRecord, Nest, Pair


def test_an_attached_value_is_found_behind_its_record() -> None:
    net = make_trainable(nn.Sequential(FromRecord(Nest(Pair()))), "tau")
    (place,) = attached(net)
    assert place.path == "0.p.inner.tau"
    assert place.kind is Kind.ATTACHED
    assert place.owner is net[0].p.inner
    assert place.neuron is net[0]
    assert (place.field, place.fields) == ("tau", ())
    assert place.parameter.raw is next(net.parameters())


def test_before_attaching_the_owner_is_the_module_with_the_record() -> None:
    cell = FromRecord(Nest(Pair()))
    place = next(place for place in survey(cell) if place.path == "p.inner.tau")
    assert place.owner is cell
    assert (place.attribute, place.fields, place.field) == ("p", ("inner", "tau"), "tau")


def test_a_shared_module_has_one_place_and_two_paths() -> None:
    one = FromRecord(Pair())
    net = make_trainable(nn.Sequential(one, one), "tau")
    assert [place.path for place in attached(net)] == ["0.p.tau"]
    first, second = attached(net, every_path=True)
    assert (first.path, second.path) == ("0.p.tau", "1.p.tau")
    assert first.identity == second.identity


def test_what_the_catalogue_knows_of_a_place() -> None:
    (place,) = attached(make_trainable(snn.Leaky(beta=0.9), "beta"))
    assert place.quantity is Quantity.TAU_MEM
    assert place.trains is place.row
    (own,) = attached(make_trainable(FromRecord(Pair()), "tau"))
    assert own.quantity is own.trains is own.row is None


def test_whether_anything_is_attached() -> None:
    cell = FromRecord(Pair())
    assert not is_attached(cell)
    assert is_attached(nn.Sequential(make_trainable(cell, "tau")))


@pytest.mark.parametrize("other", [None, nn.Linear, "tau", torch.ones(2)], ids=range(4))
def test_only_a_module_has_places(other: object) -> None:
    with pytest.raises(errors.UnsupportedModuleError, match=r"an instance of torch\.nn\.Module"):
        list(attached(other))
    with pytest.raises(errors.UnsupportedModuleError, match=r"an instance of torch\.nn\.Module"):
        refuse_scripted(other)
