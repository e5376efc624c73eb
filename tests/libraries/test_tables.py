"""The tables of the guide are what the scripts write."""

from __future__ import annotations

import pytest

from tests.support.cases import all_cases
from tools.tables import COMPARED, TITLES, modules_table, written


def test_the_page_of_all_modules_is_up_to_date() -> None:
    above, below = written("modules")
    assert "# All modules" in above
    assert below == modules_table(), "run python -m tools.tables modules"


@pytest.mark.parametrize("library", COMPARED)
def test_the_page_of_native_training_lists_every_value(library: str) -> None:
    _, below = written("native")
    below = below.partition(f"## {TITLES[library]}\n")[2].partition("\n## ")[0]
    cases = {case.name: case for case in all_cases() if case.library == library}
    for name in COMPARED[library]:
        for path in cases[name].trains:
            start = f"| {name} | `{path}` |"
            (row,) = (line for line in below.splitlines() if line.startswith(start))
            assert "**" not in row.split(" | ")[-1]  # attached: never outside, never NaN
