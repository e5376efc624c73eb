"""accelerate: its checkpoints and its models, in both formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ecosystem.network import assert_same, attached, move, trained

accelerate = pytest.importorskip("accelerate")
each_format = pytest.mark.parametrize("safe_serialization", [True, False])


@each_format
def test_a_checkpoint_is_saved_and_loaded(tmp_path: Path, safe_serialization: bool) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    source, expected = accelerator.prepare(trained()), attached()
    expected.load_state_dict(source.state_dict())
    accelerator.save_state(str(tmp_path), safe_serialization=safe_serialization)
    move(source)
    accelerator.load_state(str(tmp_path))
    assert_same(expected, source)
    later = accelerate.Accelerator(cpu=True)
    fresh = later.prepare(attached())
    later.load_state(str(tmp_path))
    assert_same(expected, fresh)


@each_format
def test_a_model_is_saved_and_loaded(tmp_path: Path, safe_serialization: bool) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    source, fresh = accelerator.prepare(trained()), attached()
    accelerator.save_model(source, str(tmp_path), safe_serialization=safe_serialization)
    accelerate.load_checkpoint_in_model(fresh, str(tmp_path))
    assert_same(source, fresh)
