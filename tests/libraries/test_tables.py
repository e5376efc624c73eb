"""The tables of the guide are what the scripts write."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex

from tests.support.cases import all_cases
from tools.tables import (
    COLOURS,
    COMPARED,
    DOCS,
    NO_WAY,
    modules_table,
    native_picture,
    native_text,
    rows_of,
    state_of,
    written,
)


def test_the_page_of_all_modules_is_up_to_date() -> None:
    above, below = written("modules")
    assert "# All modules" in above
    assert below == modules_table(), "run python -m tools.tables modules"


@pytest.mark.parametrize("library", COMPARED)
def test_the_page_of_native_training_lists_every_value(library: str) -> None:
    rows = rows_of(written("native")[1])[library]
    cases = {case.name: case for case in all_cases() if case.library == library}
    values = [(name, f"`{path}`") for name in COMPARED[library] for path in cases[name].trains]
    assert sorted((row[0], row[1]) for row in rows) == sorted(values)
    for row in rows:
        assert state_of(row[-1]).startswith("inside")  # attached: never outside, never NaN


def test_the_page_of_native_training_is_what_the_script_writes() -> None:
    _, below = written("native")
    versions = below.partition("\nVersions: ")[2].partition(".\n")[0]
    assert below == native_text(rows_of(below), versions), "run python -m tools.tables native"
    assert (DOCS / "images" / "native.png").exists()


@pytest.mark.parametrize(
    ("cell", "state"),
    [
        ("inside", "inside"),
        ("inside, 0.1 to 2", "inside"),
        ("inside, stuck, 0.1 to 2", "inside, stuck"),
        ("**left at step 3, stuck (0.9 to 1.8)**", "left"),
        ("**left at step 7 (-0.1 to 0.3), NaN at step 8**", "NaN"),
        ("**NaN at step 8**", "NaN"),
        (NO_WAY, NO_WAY),
    ],
)
def test_the_state_of_a_cell(cell: str, state: str) -> None:
    assert state_of(cell) == state


def test_the_picture_of_native_training_shows_every_row() -> None:
    rows = rows_of(written("native")[1])
    for axes, part in zip(native_picture(rows).axes, rows.values(), strict=True):
        labels = [f"{name}.{path.strip('`')}" for name, path, *_ in part]
        assert [label.get_text() for label in axes.get_yticklabels()] == labels
        shown = [to_hex(square.get_facecolor()) for square in axes.patches]
        expected = [to_hex(COLOURS[state_of(cell)]) for row in part for cell in row[3:]]
        assert shown == expected
