"""Running averages of weights: timm, and torch's own AveragedModel."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from neuroparam import errors, neuron_parameters
from tests.ecosystem.network import X, assert_same, attached, move, trained

DECAY = 0.75


def timm_ema(name: str, **options: Any) -> Callable[[nn.Module], Any]:
    def build(module: nn.Module) -> Any:
        utils = pytest.importorskip("timm.utils")
        return getattr(utils, name)(module, decay=DECAY, **options)

    return build


TIMM = {
    "ModelEmaV2": timm_ema("ModelEmaV2"),
    "ModelEmaV3": timm_ema("ModelEmaV3"),
    "ModelEmaV3, no foreach": timm_ema("ModelEmaV3", foreach=False),
    "ModelEmaV3, no buffers": timm_ema("ModelEmaV3", exclude_buffers=True),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm_averages_the_raw_tensors(name: str) -> None:
    module = trained()
    before = [raw.detach().clone() for raw in neuron_parameters(module)]
    average = TIMM[name](module)
    for _ in range(3):
        move(module)
        expected = [
            DECAY * mine + (1 - DECAY) * theirs.detach()
            for mine, theirs in zip(before, neuron_parameters(module), strict=True)
        ]
        average.update(module)
        torch.testing.assert_close([*neuron_parameters(average.module)], expected)
        before = expected
    fresh = attached()
    fresh.load_state_dict(average.module.state_dict())
    assert_same(average.module, fresh)


@pytest.mark.parametrize("name", [name for name in TIMM if "no buffers" not in name])
def test_timm_does_not_average_unlike_constants_in_silence(name: str) -> None:
    average = TIMM[name](attached())
    average.update(trained())
    with pytest.raises(errors.CheckpointError, match="reference differed"):
        average.module(X)


@pytest.mark.parametrize("use_buffers", [True, False])
@pytest.mark.parametrize("function", [None, get_ema_multi_avg_fn(0.5)], ids=["mean", "EMA"])
def test_averaged_model(use_buffers: bool, function: Any) -> None:
    module = trained()
    average = AveragedModel(module, use_buffers=use_buffers, multi_avg_fn=function)
    before = copy.deepcopy(module)
    average.update_parameters(module)
    move(module)
    average.update_parameters(module)
    for mine, one, two in zip(
        neuron_parameters(average),
        neuron_parameters(before),
        neuron_parameters(module),
        strict=True,
    ):
        torch.testing.assert_close(mine, (one + two) / 2)
    fresh = AveragedModel(attached(), use_buffers=use_buffers)
    fresh.load_state_dict(average.state_dict())
    assert_same(average.module, fresh.module)
