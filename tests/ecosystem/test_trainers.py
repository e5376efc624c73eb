"""Trainers that write checkpoints and resume from them: transformers and Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuroparam import values
from tests.ecosystem.network import Supervised, assert_same
from tests.ecosystem.trainers import train_by_lightning, train_by_transformers


def test_the_trainer_of_transformers_resumes(tmp_path: Path) -> None:
    options = {"save_steps": 2, "learning_rate": 0.05, "lr_scheduler_type": "constant"}

    def train(model: Supervised, steps: int, resume: Path | None = None) -> None:
        train_by_transformers(model, steps, tmp_path, resume, **options)

    torch.manual_seed(0)
    model, resumed = Supervised(50.0), Supervised()
    start = values(model)
    train(model, 4)
    train(resumed, 4, tmp_path / "checkpoint-2")
    assert (values(model)["leaky.tau"] != start["leaky.tau"]).all()
    assert_same(model.leaky, resumed.leaky)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:lightning")
def test_lightning_resumes(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, tau: float = 20.0):
            super().__init__()
            self.net = Supervised(tau)

        def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
            return self.net(**batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.05)

    def train(model: Any, steps: int, resume: Path | None = None) -> Any:
        return train_by_lightning(model, steps, tmp_path, resume)

    model, resumed = Lit(50.0), Lit()
    train(model, 2).save_checkpoint(tmp_path / "checkpoint")
    train(model, 4)
    trained = values(model)
    train(resumed, 2, tmp_path / "checkpoint")  # nothing is left to train
    loaded = Lit.load_from_checkpoint(tmp_path / "checkpoint")
    assert_same(loaded.net.leaky, resumed.net.leaky)
    assert (values(loaded)["net.leaky.tau"] != trained["net.leaky.tau"]).all()
