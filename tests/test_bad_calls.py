"""The tables of bad calls, taken together; each is checked in the folder of its floor."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.bad_calls import every_bad_call

CASES = every_bad_call()


def test_the_tables_hold_many_different_calls() -> None:
    assert len({(case.group, case.says) for case in CASES}) >= 150


def test_the_guide_says_how_many() -> None:
    page = (Path(__file__).parents[1] / "docs" / "rely.md").read_text()
    assert re.findall(r"(\d+) calls in tables", page) == [str(len(CASES))]
