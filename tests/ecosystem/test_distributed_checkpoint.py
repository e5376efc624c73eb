"""torch.distributed.checkpoint in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)

from tests.ecosystem.network import assert_same, attached, trained


@pytest.mark.filterwarnings("ignore:torch.distributed is .*single process")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.6 uses it itself
def test_a_checkpoint_is_saved_and_loaded(tmp_path: Path) -> None:
    source, fresh = trained(), attached()
    dcp.save(source.state_dict(), checkpoint_id=tmp_path)
    state = fresh.state_dict()
    dcp.load(state, checkpoint_id=tmp_path)
    fresh.load_state_dict(state)
    assert_same(source, fresh)


def test_the_full_state_dict_of_a_model() -> None:
    source, fresh = trained(), attached()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    set_model_state_dict(fresh, get_model_state_dict(source, options=options), options=options)
    assert_same(source, fresh)
