"""The arguments of make_trainable become one request for each place."""

from __future__ import annotations

import pytest
from torch import nn

from neuroparam import ExpScaledLog, Softplus, errors
from tests.support.inside import requests
from tests.support.modules import FromRecord, Pair


def two() -> nn.Module:
    return nn.Sequential(FromRecord(Pair()), FromRecord(Pair()))


def test_a_pattern_asks_for_each_of_its_places() -> None:
    asked = requests(two(), "*.tau", 5.0, 3, 1e-3)
    assert [request.place.path for request in asked] == ["0.p.tau", "1.p.tau"]
    for request in asked:
        assert request.name == "*.tau"
        assert request.maps is None
        assert (request.init, request.shape, request.dt) == (5.0, 3, 1e-3)


def test_one_map_is_a_chain_of_one_and_none_is_the_default() -> None:
    one, first, last = ExpScaledLog(), ExpScaledLog(), Softplus()
    names = {"0.p.tau": one, "0.p.gain": None, "1.p.tau": (first, last)}
    asked = {
        request.place.path: request.maps for request in requests(two(), names, None, None, None)
    }
    assert asked["0.p.tau"] == [one]
    assert asked["0.p.gain"] is None
    assert asked["1.p.tau"] == [first, last]


def test_initial_values_go_by_name_and_shapes_by_place() -> None:
    asked = requests(
        two(),
        ["*.tau", "1.p.gain"],
        {"*.tau": 5.0},
        {"*": 2, "1.p.*": 3, "1.p.tau": (4, 1)},
        None,
    )
    found = {request.place.path: (request.init, request.shape) for request in asked}
    assert found == {"0.p.tau": (5.0, 2), "1.p.tau": (5.0, (4, 1)), "1.p.gain": (None, 3)}


@pytest.mark.parametrize("argument", ["init", "shape"])
def test_a_key_that_speaks_of_nothing_is_unknown(argument: str) -> None:
    given = {"init": None, "shape": None, argument: {"0.p.gain": 1}}
    with pytest.raises(errors.UnknownNameError, match=f"{argument} speaks of") as caught:
        requests(two(), ["0.p.tau"], given["init"], given["shape"], None)
    assert list(caught.value.missing) == ["0.p.gain"]
    assert caught.value.available == ["0.p.tau"]
