"""The code in the README and the guide runs, block after block."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import neuroparam
from neuroparam import ExpScaledLog
from tools.evidence import page, referred

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text()]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), namespace)
    assert blocks
    assert "nan" not in capsys.readouterr().out


def test_the_first_example_has_about_ten_lines() -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert len(block[1].splitlines()) <= 12


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


def test_every_public_name_is_documented() -> None:
    for name in neuroparam.__all__:
        assert getattr(neuroparam, name).__doc__, name
    assert ExpScaledLog.__doc__ is not None
