"""Maps that count their evaluations, and small modules that use them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import ClassVar

from torch import Tensor, nn

from neuroparam import ExpScaledLog, make_trainable
from tests.support.modules import FromRecord, Pair


class Counting(ExpScaledLog):
    """Counts its evaluations, per thread."""

    counts: ClassVar[Counter] = Counter()

    def forward(self, raw: Tensor) -> Tensor:
        self.counts[threading.get_ident()] += 1
        return super().forward(raw)


def evaluations(run) -> int:
    before = Counting.counts[threading.get_ident()]
    run()
    return Counting.counts[threading.get_ident()] - before


def build(steps: int = 20) -> nn.Module:
    return make_trainable(FromRecord(Pair(), steps), {"tau": Counting(), "gain": Counting()})


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * self.rate
