"""Trainers of other packages, small and quiet, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ecosystem.network import Data


def train_by_transformers(
    model: torch.nn.Module, steps: int, folder: Path, resume: Path | None = None, **options: Any
) -> None:
    """Trains a model that gives its loss with `transformers.Trainer`.

    Args:
        model: the model.
        steps: when to stop.
        folder: for checkpoints.
        resume: a checkpoint to begin with.
        **options: further ones of its `TrainingArguments`.
    """
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=Data())
    trainer.train(resume_from_checkpoint=resume and str(resume))


def train_by_lightning(model: Any, steps: int, folder: Path, resume: Path | None = None) -> Any:
    """Trains a LightningModule, and gives the trainer."""
    lightning = pytest.importorskip("lightning")
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, torch.utils.data.DataLoader(Data(), batch_size=4), ckpt_path=resume)
    return trainer
