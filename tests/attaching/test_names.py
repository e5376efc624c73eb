"""Patterns over a whole network: what they match, and which name counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    Softplus,
    errors,
    make_fixed,
    make_trainable,
    values,
)
from tests.support.inside import as_names, is_pattern, matches, specificity
from tests.support.modules import FromRecord, Pair


def network() -> nn.Module:
    net = nn.Module()
    net.lif1, net.lif2, net.out = (FromRecord(Pair()) for _ in range(3))
    net.tau = 3.0
    return net


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*.tau", ["lif1.p.tau", "lif2.p.tau", "out.p.tau"]),
        ("*tau", ["lif1.p.tau", "lif2.p.tau", "out.p.tau", "tau"]),
        ("t?u", ["lif1.p.tau", "lif2.p.tau", "out.p.tau", "tau"]),
        ("lif*.p.tau", ["lif1.p.tau", "lif2.p.tau"]),
        ("lif[2-9].p.*", ["lif2.p.gain", "lif2.p.tau"]),
        ("p.[!t]*", ["lif1.p.gain", "lif2.p.gain", "out.p.gain"]),
    ],
)
def test_what_a_pattern_matches(pattern: str, paths: list[str]) -> None:
    net = make_trainable(network(), pattern)
    assert sorted(values(net)) == paths
    make_fixed(net, pattern)
    assert not values(net)


def test_the_most_specific_name_counts() -> None:
    net = make_trainable(
        network(),
        {
            "*.tau": ExpScaledLog(scale=1.0),
            "lif*.tau": ExpScaledLog(scale=2.0),
            "out.p.tau": BoundedSigmoid(1.0, 10.0),
            "*.gain": Softplus(),
        },
        init={"lif*.tau": 5.0, "*.gain": 1.5},
        shape={"*.gain": (3,)},
    )
    assert net.lif1.p.parametrizations["tau"][0].scale == 2.0
    assert isinstance(net.out.p.parametrizations["tau"][0], BoundedSigmoid)
    present = values(net)
    torch.testing.assert_close(present["lif2.p.tau"], torch.tensor(5.0))
    torch.testing.assert_close(present["out.p.tau"], torch.tensor(4.0))
    torch.testing.assert_close(present["out.p.gain"], torch.full((3,), 1.5))
    assert "tau" not in present


def test_each_value_is_fitted_by_itself() -> None:
    net = network()
    net.lif2.p = Pair(tau=40.0)
    make_trainable(net, {"*.tau": ExpScaledLog()})
    references = [
        net.get_submodule(n).p.parametrizations["tau"][0].reference for n in ("lif1", "lif2")
    ]
    assert references == [4.0, 40.0]


def test_a_plain_name_counts_before_patterns_of_one_weight() -> None:
    net = make_trainable(network(), ["lif1.p.tau", "lif1.p.t*", "lif1.p.ta?"])
    assert list(values(net)) == ["lif1.p.tau"]


def test_one_module_in_two_places_is_matched_once() -> None:
    one = FromRecord(Pair())
    net = make_trainable(nn.Sequential(one, one), "*.tau")
    assert list(values(net)) == ["0.p.tau"]


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("lif.p.tau", True),
        ("p.tau", True),
        ("tau", True),
        ("au", False),
        ("lif", False),
        ("*.tau", True),
        ("p.t*", True),
        ("l[a-k]f.p.tau", True),
        ("T*", False),
        ("lif.[!p].tau", False),
    ],
)
def test_which_names_fit_a_path(name: str, fits: bool) -> None:
    assert matches("lif.p.tau", name) is fits
    assert is_pattern(name) is (set("*[") & set(name) != set())


def test_names_are_sorted_by_how_much_they_say() -> None:
    names = ["lif.p.tau", "*.tau", Quantity.TAU_MEM, "tau", "*", "lif*.tau"]
    expected = [Quantity.TAU_MEM, "*", "*.tau", "lif*.tau", "tau", "lif.p.tau"]
    assert sorted(names, key=specificity) == expected


def test_each_name_is_taken_once_and_in_its_order() -> None:
    assert as_names("tau") == ["tau"]
    assert as_names(Quantity.TAU_MEM) == [Quantity.TAU_MEM]
    assert as_names(name for name in ("tau", "gain", "tau")) == ["tau", "gain"]
    assert as_names({"gain": None, "tau": None}) == ["gain", "tau"]
    for wrong in ([], b"tau", 5, ["tau", None]):
        with pytest.raises(errors.InvalidNamesError, match="names must be a name"):
            as_names(wrong)
