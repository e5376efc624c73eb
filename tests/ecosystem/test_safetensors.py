"""safetensors: files of tensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ecosystem.network import assert_same, attached, trained

safetensors = pytest.importorskip("safetensors.torch")


def test_a_state_dict_goes_through_a_file(tmp_path: Path) -> None:
    source, fresh = trained(), attached()
    safetensors.save_file(source.state_dict(), tmp_path / "net.safetensors")
    fresh.load_state_dict(safetensors.load_file(tmp_path / "net.safetensors"))
    assert_same(source, fresh)


def test_a_model_goes_through_a_file(tmp_path: Path) -> None:
    source, fresh = trained(), attached()
    safetensors.save_model(source, str(tmp_path / "net.safetensors"))
    missing, unexpected = safetensors.load_model(fresh, tmp_path / "net.safetensors")
    assert not missing
    assert not unexpected
    assert_same(source, fresh)
