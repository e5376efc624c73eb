"""Every LIF-type module of the five libraries, as installed, and what becomes of its parameters.

A case says how to build a module, how to run it over time, and which of its parameters train;
the tests hold each case to it, and `tools/tables.py` writes the guide's table from the same list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[nn.Module, Tensor], Tensor]

N, BATCH, STEPS = 3, 2, 10


@dataclass(frozen=True)
class Case:
    """One module of a library.

    Attributes:
        library: its top-level package.
        name: the class, with what is special about this instance.
        build: makes the plain module, for N inputs and N neurons.
        run: runs it from its initial state over x of shape (STEPS, BATCH, N); returns all
            outputs, time first.
        trains: the parameters that train.
        refused: what looks like a parameter and is refused -> what the error says.
        membrane: makes a module and a run that returns its membrane below threshold, where
            everything is smooth; None if the library has no such thing.
        smooth: the parameters that the membrane depends on.
        one_number: parameters that the library takes as one number only.
        fixed_length: whether the module was built for STEPS time steps.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    run: Run
    trains: tuple[str, ...]
    refused: dict[str, str] = field(default_factory=dict)
    membrane: tuple[Callable[[], nn.Module], Run] | None = None
    smooth: tuple[str, ...] = ()
    one_number: tuple[str, ...] = ()
    fixed_length: bool = False

    def __str__(self) -> str:
        return f"{self.library}-{self.name}".replace(" ", "-")


def built(case: Case, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """The module of a case, or another one of its own, always with the same weights."""
    torch.manual_seed(0)
    return (build or case.build)()


def spikes(seed: int = 0) -> Tensor:
    """Random input spikes of shape (STEPS, BATCH, N)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(STEPS, BATCH, N, generator=generator, dtype=torch.float64)
    return (drawn < 0.7).to(torch.get_default_dtype())


def all_cases() -> list[Case]:
    """The cases of all five libraries."""
    from tests.support import (
        cases_norse,
        cases_rockpool,
        cases_sinabs,
        cases_snntorch,
        cases_spikingjelly,
    )

    modules: list[Any] = [
        cases_norse,
        cases_snntorch,
        cases_spikingjelly,
        cases_sinabs,
        cases_rockpool,
    ]
    return [case for module in modules for case in module.CASES]
