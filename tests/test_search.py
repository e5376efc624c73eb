"""What people type into the guide's search box leads to the page that answers it.

It looks at a guide that `mkdocs build` has made, in the folder that SITE names.
"""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

SITE = os.environ.get("SITE", "")
lunr = pytest.importorskip("lunr", reason="the extra `docs` is not installed")
pytestmark = pytest.mark.skipif(not SITE, reason="SITE names no built guide")


@pytest.fixture(scope="module")
def index() -> Any:
    """The index as the page builds it: titles count more, and words are split as it is set."""
    found = json.loads((Path(SITE) / "search" / "search_index.json").read_text())
    config = found["config"]
    assert config["pipeline"] == ["trimmer"]

    def words(text: str) -> list[str]:
        plain = html.unescape(re.sub(r"<[^>]+>", " ", text))
        return [word for word in re.split(config["separator"], plain) if word]

    documents = [
        {
            "location": each["location"],
            "title": words(each["title"]),
            "text": words(each["text"]),
        }
        for each in found["docs"]
    ]
    builder = lunr.get_default_builder()
    builder.pipeline.reset()
    builder.search_pipeline.reset()
    fields = [
        {"field_name": name, "boost": int(config["fields"][name]["boost"])}
        for name in ("title", "text")
    ]
    return lunr.lunr(ref="location", fields=fields, documents=documents, builder=builder)


@pytest.mark.parametrize(
    ("typed", "page"),
    [
        ("plot", "howto|api/.*"),
        ("freeze", "howto"),
        ("PLIF", "migrate|others|quantities|spikingjelly|troubleshooting"),
        ("Lightning", "howto|others"),
        ("milliseconds", "howto|troubleshooting"),
        ("could mean any of", "troubleshooting"),
        ("tensorboard", "howto"),
        ("heterogeneous", "howto|benefit|index"),
        ("learn_beta", "migrate"),
        ("ParametricLIFNode", "migrate|quantities|spikingjelly"),
        ("notebook", "audit|howto"),
        ("early stopping", "howto"),
        ("prior", "howto|which"),
        ("channel", "howto|troubleshooting"),
        ("checkpoint", "howto|behaviour|migrate|api/.*"),
        ("onnx", "howto"),
        ("clamp", "migrate|untrained|audit"),
        ("forward Euler", "glossary|quantities|which"),
        ("is outside the domain of", "troubleshooting"),
        ("has no time step of its own", "troubleshooting"),
        ("there is one value per column", "troubleshooting"),
        ("has its median at exp", "troubleshooting"),
        ("has written in place into it", "troubleshooting|untrained"),
        ("none of them holds", "troubleshooting|untrained"),
    ],
)
def test_a_search_finds_its_page(index: Any, typed: str, page: str) -> None:
    required = " ".join(f"+{word.lower()}" for word in re.split(r"[\s_]+", typed))
    found = [each["ref"].partition("#")[0].strip("/") for each in index.search(required)]
    pages = list(dict.fromkeys(found))
    assert any(re.fullmatch(page, each) for each in pages[:4]), pages[:8]
