"""Trainers that write checkpoints and resume from them: transformers and Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuroparam import values
from tests.ecosystem.network import Data, Supervised, assert_same


def test_the_trainer_of_transformers_resumes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    def train(model: Supervised, steps: int, resume: Path | None = None) -> None:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=steps,
            save_steps=2,
            learning_rate=0.05,
            lr_scheduler_type="constant",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = transformers.Trainer(model, arguments, train_dataset=Data())
        trainer.train(resume_from_checkpoint=resume and str(resume))

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
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(model, torch.utils.data.DataLoader(Data(), batch_size=4), ckpt_path=resume)
        return trainer

    model, resumed = Lit(50.0), Lit()
    train(model, 2).save_checkpoint(tmp_path / "checkpoint")
    train(model, 4)
    trained = values(model)
    train(resumed, 2, tmp_path / "checkpoint")  # nothing is left to train
    loaded = Lit.load_from_checkpoint(tmp_path / "checkpoint")
    assert_same(loaded.net.leaky, resumed.net.leaky)
    assert (values(loaded)["net.leaky.tau"] != trained["net.leaky.tau"]).all()
