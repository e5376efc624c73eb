"""Tables in notebooks and as DataFrames."""

from __future__ import annotations

import copy
import pickle

import pytest
from torch import nn

from neuroparam import find, summary
from tests.support.modules import FromRecord, Pair
from tests.support.network import two_values


def test_a_summary_is_a_string_and_shows_as_html() -> None:
    found = summary(two_values())
    assert isinstance(found, str)
    assert repr(found) == str(found)
    html = found._repr_html_()
    assert html.count("<tr>") == 3
    assert "<td style='text-align: left'>1.p.tau</td>" in html
    assert "spacing=&#x27;log&#x27;" in html
    for same in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert same == found
        assert same._repr_html_() == html


def test_an_empty_summary_has_its_columns() -> None:
    assert "nothing is attached" in summary(nn.Linear(2, 2))._repr_html_()


def test_a_summary_becomes_a_frame_with_numbers() -> None:
    pytest.importorskip("pandas")
    frame = summary(two_values()).to_frame()
    assert list(frame["name"]) == ["1.p.tau", "1.p.gain"]
    assert frame["median"].dtype == float
    assert frame["median"][0] == 4.0


def test_candidates_show_as_html_and_become_a_frame() -> None:
    module = FromRecord(Pair())
    module.dt = 1e-3
    found = find(module)
    assert found._repr_html_().count("<table>") == 2
    assert "p.gain" in found._repr_html_()
    pytest.importorskip("pandas")
    frame = found.to_frame()
    assert list(frame["path"]) == ["p.tau", "p.gain", "dt"]
    assert list(frame["offered"]) == [True, True, False]
