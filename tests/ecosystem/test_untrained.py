"""A value that gets no gradient is said in the loops of other packages; others are left alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuroparam import errors, make_trainable
from tests.ecosystem.network import Leaky, X
from tests.ecosystem.trainers import train_by_lightning, train_by_transformers

STEPS = 15


class Detached(Leaky):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) / self.tau.detach() - self.threshold


class Copied(Leaky):
    def __init__(self) -> None:
        super().__init__()
        self.copy = float(self.tau)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) / self.copy - self.threshold


class Task(nn.Module):
    """Gives its loss, as trainers want it."""

    def __init__(self, kind: type[Leaky]):
        super().__init__()
        self.net = make_trainable(kind(), "tau")

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.net(x) - labels).square().mean()}


def by_accelerate(task: Task, _: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    optimizer = torch.optim.Adam(task.parameters(), lr=0.01)
    model, optimizer = accelerator.prepare(task, optimizer)
    for _step in range(STEPS):
        optimizer.zero_grad()
        accelerator.backward(model(X, X - 1)["loss"])
        optimizer.step()


def by_schedulefree(task: Task, _: Path) -> None:
    schedulefree = pytest.importorskip("schedulefree")
    optimizer = schedulefree.AdamWScheduleFree(task.parameters(), lr=0.01)
    optimizer.train()
    for _step in range(STEPS):
        optimizer.zero_grad()
        task(X, X - 1)["loss"].backward()
        optimizer.step()
    optimizer.eval()


def by_lightning(task: Task, folder: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.task = task

        def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
            return self.task(**batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    train_by_lightning(Lit(), STEPS, folder)


def by_transformers(task: Task, folder: Path) -> None:
    train_by_transformers(task, STEPS, folder, save_strategy="no", learning_rate=0.01)


LOOPS = [by_accelerate, by_schedulefree, by_lightning, by_transformers]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("kind", "said"),
    [(Leaky, None), (Detached, errors.NoGradientError), (Copied, errors.NoGradientWarning)],
)
def test_in_the_loops_of_other_packages(
    loop: Callable[[Task, Path], None], kind: type[Leaky], said: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    task = Task(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error", errors.NeuroparamWarning)
        if said is None:
            loop(task, tmp_path)
            assert (task.net.tau != 20.0).all()
            return
        with pytest.raises(said, match=r"net\.tau"):
            loop(task, tmp_path)
