"""The code in the README and the guide runs, block after block, and prints what it shows.

`pytest tests/test_docs.py --update-examples -n 0` writes what it prints into the pages.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

import neuroparam
from neuroparam import ExpScaledLog
from tools.evidence import page, referred

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text()]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_prints_what_the_page_shows(page: Path, eval_example: EvalExample) -> None:
    eval_example.set_config(line_length=80, target_version="py310")
    assert blocks_of(page)
    names: dict[str, object] = {}
    for block in blocks_of(page):
        if eval_example.update_examples:
            names |= eval_example.run_print_update(block, module_globals=names)
        else:
            names |= eval_example.run_print_check(block, module_globals=names)


def blocks_of(page: Path) -> list[CodeExample]:
    """The blocks that run; those marked `py` need a library that cannot be installed here."""
    return [each for each in find_examples(page) if each.prefix == "python"]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_is_no_wider_than_a_page(page: Path) -> None:
    for block in blocks_of(page):
        # What is printed stands in a comment or a string, and may be wider.
        code = re.sub(r'^ *"""\n.*?^ *"""$', "", block.source, flags=re.MULTILINE | re.DOTALL)
        wide = [line for line in code.splitlines() if len(line) > 80 and "#>" not in line]
        assert not wide, (page.name, wide)


def test_the_first_example_has_about_ten_lines() -> None:
    block = blocks_of(ROOT / "README.md")[0].source.partition('"""')[0]
    assert len(block.splitlines()) <= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("name", referred())
def test_what_the_guide_relies_on_is_a_test(name: str) -> None:
    module, _, test = name.rpartition(".")
    found = getattr(importlib.import_module(module), test)
    assert test.startswith("test_") or hasattr(found, "TestCase")  # or a state machine


def test_the_page_of_the_tests_is_up_to_date() -> None:
    assert (ROOT / "docs" / "evidence.md").read_text() == page(), "run python -m tools.evidence"


PUBLIC = (
    "neuroparam",
    *(f"neuroparam.{name}" for name in ("adjoint", "catalogue", "initial", "plot", "units")),
)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_an_entry_in_the_reference(module: str) -> None:
    reference = "".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.md")))
    for name in set(importlib.import_module(module).__all__) - {"errors"}:
        homes = {f"::: {module}.{name}\n", f"::: neuroparam.{name}\n"}
        assert any(home in reference for home in homes), name


def test_every_error_has_an_entry_in_the_reference() -> None:
    reference = (ROOT / "docs" / "api" / "errors.md").read_text()
    assert {n for n in neuroparam.errors.__all__ if n not in reference} == set()


def test_every_public_name_is_documented() -> None:
    for name in neuroparam.__all__:
        assert getattr(neuroparam, name).__doc__, name
    assert ExpScaledLog.__doc__ is not None
