"""Writes docs/evidence.md: the source of every test that docs/rely.md refers to.

python -m tools.evidence
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
HEAD = """# The tests behind it

The tests that [What you can rely on](rely.md) refers to, as they stand in `tests/`.
What they share is in `tests/support/`.
Written by `python -m tools.evidence`.
"""


def referred() -> list[str]:
    """The dotted names of the tests, in the order of the page."""
    return list(dict.fromkeys(re.findall(r"\]\[(tests\.[\w.]+)\]", (DOCS / "rely.md").read_text())))


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD]
    names = sorted(referred(), key=lambda name: name.rpartition(".")[0])
    for module, tests in itertools.groupby(names, key=lambda name: name.rpartition(".")[0]):
        parts.append(f"## {module.replace('.', '/')}.py\n")
        parts += [
            f"::: {name}\n    options:\n      show_source: true\n      heading_level: 3\n"
            for name in tests
        ]
    return "\n".join(parts)


if __name__ == "__main__":
    (DOCS / "evidence.md").write_text(page())
