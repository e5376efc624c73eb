"""Tables and short forms of values, as text."""

from __future__ import annotations

import pytest
import torch

from tests.support.inside import Table, span


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor(0.5), "0.5"),
        (torch.full((3,), 20.0), "20"),
        (torch.tensor([3.0, 1.0, 2.0]), "1 to 3"),
        (torch.tensor([1 / 3, 1e-7]), "1e-07 to 0.3333"),
        (torch.ones(0), ""),
        (torch.ones(2, device="meta"), ""),
    ],
    ids=range(6),
)
def test_a_value_is_its_number_or_its_ends(value: torch.Tensor, words: str) -> None:
    assert span(value) == words


def test_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    rows = [("tau", "20", "a time constant"), ("threshold", "0.5", "")]
    assert Table(("name", "value", "meaning"), rows).splitlines() == [
        "name       value  meaning",
        "tau           20  a time constant",
        "threshold    0.5",
    ]


def test_a_column_in_which_nothing_stands_is_left_out() -> None:
    rows = [("tau", "", "20"), ("gain", "", "2")]
    assert Table(("name", "unit", "value"), rows).splitlines() == [
        "name  value",
        "tau      20",
        "gain      2",
    ]


def test_without_rows_every_column_is_named() -> None:
    assert Table(("name", "unit", "value"), []) == "name  unit  value"
