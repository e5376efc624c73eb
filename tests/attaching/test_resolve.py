"""Names become places: for attaching with the name that counts, for fixing in their order."""

from __future__ import annotations

import norse.torch as norse
import pytest
import torch
from torch import nn

from neuroparam import Quantity, errors, make_trainable
from tests.support.inside import attached_places, places_to_attach
from tests.support.modules import FromRecord, Pair


def two() -> nn.Module:
    net = nn.Module()
    net.lif1, net.lif2 = FromRecord(Pair()), FromRecord(Pair())
    return net


def chosen(module: nn.Module, names: list[object]) -> dict[str, object]:
    return {place.path: name for name, place in places_to_attach(module, names)}


def test_each_place_goes_to_the_name_that_says_most() -> None:
    assert chosen(two(), ["*", "*.tau", "lif2.p.tau", "lif*.steps"]) == {
        "lif1.steps": "lif*.steps",
        "lif1.p.tau": "*.tau",
        "lif1.p.gain": "*",
        "lif2.steps": "lif*.steps",
        "lif2.p.tau": "lif2.p.tau",
        "lif2.p.gain": "*",
    }


def test_a_quantity_means_what_stores_it_and_a_path_says_more() -> None:
    net = nn.Sequential(norse.LIFCell(), norse.LIFCell())
    assert chosen(net, [Quantity.TAU_MEM, "1.p.tau_mem_inv"]) == {
        "0.p.tau_mem_inv": Quantity.TAU_MEM,
        "1.p.tau_mem_inv": "1.p.tau_mem_inv",
    }


def test_unknown_names_come_with_near_ones_and_with_what_could_be_named() -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        places_to_attach(two(), ["lif1.p.tua", "lif1.p.tau"])
    assert list(caught.value.missing) == ["lif1.p.tua"]
    assert caught.value.missing["lif1.p.tua"][:2] == ["lif1.p.tau", "lif2.p.tau"]
    assert caught.value.available[:2] == ["lif1.p.tau", "lif1.p.gain"]


def test_the_end_of_several_paths_is_ambiguous() -> None:
    with pytest.raises(errors.AmbiguousNameError) as caught:
        places_to_attach(two(), ["tau"])
    assert caught.value.matches == ["lif1.p.tau", "lif2.p.tau"]


def test_a_parameter_in_two_places_is_refused() -> None:
    net, tied = two(), nn.Parameter(torch.tensor(4.0))
    net.lif1.p = net.lif2.p = Pair(tied)
    with pytest.raises(errors.TiedParameterError) as caught:
        places_to_attach(net, ["lif2.p.tau"])
    assert caught.value.path == "lif2.p.tau"
    assert caught.value.paths == ["lif1.p.tau", "lif2.p.tau"]


def test_attached_places_stand_in_the_order_of_the_module() -> None:
    net = make_trainable(two(), ["*.tau", "*.gain"])
    everything = [place.path for place in attached_places(net, None)]
    assert everything == ["lif1.p.tau", "lif1.p.gain", "lif2.p.tau", "lif2.p.gain"]
    named = attached_places(net, ["lif2.p.gain", "lif1.p.tau"])
    assert [place.path for place in named] == ["lif1.p.tau", "lif2.p.gain"]


def test_a_value_of_a_shared_module_is_named_by_either_path() -> None:
    one = FromRecord(Pair())
    net = make_trainable(nn.Sequential(one, one), "tau")
    assert [place.path for place in attached_places(net, "1.p.tau")] == ["0.p.tau"]
