"""huggingface_hub: a module that saves and loads itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuroparam import make_trainable
from tests.ecosystem.network import MAPS, Leaky, assert_same, move

hub = pytest.importorskip("huggingface_hub")


class Shared(Leaky, hub.PyTorchModelHubMixin):  # type: ignore[misc, name-defined]
    def __init__(self, tau: float = 20.0):
        super().__init__(tau)
        make_trainable(self, MAPS, shape=(3,))


def test_a_module_is_saved_and_loaded(tmp_path: Path) -> None:
    source = Shared(50.0)
    move(source)
    source.save_pretrained(tmp_path)
    assert_same(source, Shared.from_pretrained(tmp_path))
    other = Shared.from_pretrained(tmp_path, tau=7.0)  # its constants are fitted to 7 at first
    assert_same(source, other)
