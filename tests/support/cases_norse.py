"""Norse 1.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import torch
from norse.torch.module.leaky_integrator_box import LIBoxCell
from norse.torch.module.lif_adex_refrac import (
    LIFAdExRefracCell,
    LIFAdExRefracRecurrent,
    LIFAdExRefracRecurrentCell,
)
from norse.torch.module.lif_mc import LIFMCRecurrentCell
from norse.torch.module.lif_refrac import LIFRefracRecurrent
from torch import Tensor, nn

from tests.support.cases import Case, N

SYNAPSE_AND_MEMBRANE = ("p.tau_syn_inv", "p.tau_mem_inv")
LIF = (*SYNAPSE_AND_MEMBRANE, "p.v_th")
LSNN = ("p.tau_syn_inv", "p.tau_mem_inv", "p.tau_adapt_inv", "p.v_th", "p.beta")
EX = ("p.delta_T", *LIF)
ADEX = ("p.tau_ada_inv", *EX)
REFRAC = tuple(f"p.lif.{name.removeprefix('p.')}" for name in LIF)
ADEX_REFRAC = tuple(f"p.lif_adex.{name.removeprefix('p.')}" for name in ADEX)


def whole(module: nn.Module, x: Tensor) -> Tensor:
    """For modules that loop over time themselves."""
    return module(8.0 * x)[0]


def cell(module: nn.Module, x: Tensor) -> Tensor:
    state, outputs = None, []
    for part in 8.0 * x:
        output, state = module(part, state)
        outputs.append(output)
    return torch.stack(outputs)


def _away_from_rest(state: Any, field: str = "v") -> Any:
    """A first state that depends on no parameter; in float64, which Norse's own is not."""
    if isinstance(state, tuple):
        fields = zip(state._fields, state, strict=True)
        return type(state)(*(_away_from_rest(part, name) for name, part in fields))
    if not isinstance(state, Tensor):
        return state
    if field in ("z", "rho"):  # spikes, and steps left to be refractory
        return torch.zeros_like(state, dtype=torch.float64)
    return torch.linspace(0.02, 0.1, state.numel(), dtype=torch.float64).reshape(state.shape)


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state] if state.is_floating_point() else []
    return [t for part in state for t in _tensors(part)] if isinstance(state, tuple) else []


def _states(module: nn.Module, x: Tensor, cells: bool) -> Tensor:
    """All that a module carries after x, from a first state away from rest, and from its own."""

    def run(state: Any) -> Any:
        if not cells:
            return module(0.16 * x, state)[1]
        for part in 0.16 * x:
            _, state = module(part, state)
        return state

    with torch.no_grad():
        first = _away_from_rest(run(None))
    return torch.cat([part.flatten() for each in (first, None) for part in _tensors(run(each))])


def states_of_whole(module: nn.Module, x: Tensor) -> Tensor:
    return _states(module, x, cells=False)


def states_of_cell(module: nn.Module, x: Tensor) -> Tensor:
    return _states(module, x, cells=True)


def _without_surrogate(p: Any) -> Any:
    """The same record with a hard threshold: below it, all that is left is smooth."""
    changes = {n: _without_surrogate(v) for n, v in p._asdict().items() if hasattr(v, "_fields")}
    if "method" in p._fields:
        changes["method"] = "heaviside"
    return p._replace(**changes)


def _smooth(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        module = build()
        module.p = _without_surrogate(module.p)
        if hasattr(module, "g_coupling"):
            module.g_coupling = 0.1 * torch.rand(N, N)
        return module

    return made


def case(name: str, build: Callable[[], nn.Module], trains: tuple[str, ...]) -> Case:
    is_cell = name.endswith("Cell")
    # a threshold enters smoothly where it is part of the membrane's or the adaptation's equation
    smooth = tuple(
        n for n in trains if not n.endswith("v_th") or "Ex" in name or name.startswith("LSNN")
    )
    membrane = (_smooth(build), states_of_cell if is_cell else states_of_whole)
    # Norse fills the first state of these from v_th as one number
    one_number = ("p.v_th",) if name in ("LSNN", "LSNNRecurrent") else ()
    return Case(
        "norse",
        name,
        build,
        cell if is_cell else whole,
        trains,
        membrane=membrane if smooth else None,
        smooth=smooth,
        one_number=one_number,
    )


def coupled(kind: Any) -> Callable[[], nn.Module]:
    return lambda: kind(N, N, g_coupling=torch.zeros(N, N))


CASES = [
    case("LIF", lambda: norse.LIF(), LIF),
    case("LIFCell", lambda: norse.LIFCell(), LIF),
    case("LIFRecurrent", lambda: norse.LIFRecurrent(N, N), LIF),
    case("LIFRecurrentCell", lambda: norse.LIFRecurrentCell(N, N), LIF),
    case("LIFBoxCell", lambda: norse.LIFBoxCell(), ("p.tau_mem_inv", "p.v_th")),
    case("LI", lambda: norse.LI(), SYNAPSE_AND_MEMBRANE),
    case("LICell", lambda: norse.LICell(), SYNAPSE_AND_MEMBRANE),
    case("LIBoxCell", lambda: LIBoxCell(), ("p.tau_mem_inv",)),
    case("LILinearCell", lambda: norse.LILinearCell(N, N), SYNAPSE_AND_MEMBRANE),
    case("LSNN", lambda: norse.LSNN(), LSNN),
    case("LSNNCell", lambda: norse.LSNNCell(), LSNN),
    case("LSNNRecurrent", lambda: norse.LSNNRecurrent(N, N), LSNN),
    case("LSNNRecurrentCell", lambda: norse.LSNNRecurrentCell(N, N), LSNN),
    case("LIFAdEx", lambda: norse.LIFAdEx(), ADEX),
    case("LIFAdExCell", lambda: norse.LIFAdExCell(), ADEX),
    case("LIFAdExRecurrent", lambda: norse.LIFAdExRecurrent(N, N), ADEX),
    case("LIFAdExRecurrentCell", lambda: norse.LIFAdExRecurrentCell(N, N), ADEX),
    case("LIFEx", lambda: norse.LIFEx(), EX),
    case("LIFExCell", lambda: norse.LIFExCell(), EX),
    case("LIFExRecurrent", lambda: norse.LIFExRecurrent(N, N), EX),
    case("LIFExRecurrentCell", lambda: norse.LIFExRecurrentCell(N, N), EX),
    case("LIFRefracCell", lambda: norse.LIFRefracCell(), REFRAC),
    case("LIFRefracRecurrentCell", lambda: norse.LIFRefracRecurrentCell(N, N), REFRAC),
    case("LIFRefracRecurrent", lambda: LIFRefracRecurrent(N, N), REFRAC),
    case("LIFAdExRefracCell", lambda: LIFAdExRefracCell(), ADEX_REFRAC),
    case("LIFAdExRefracRecurrentCell", lambda: LIFAdExRefracRecurrentCell(N, N), ADEX_REFRAC),
    case("LIFAdExRefracRecurrent", lambda: LIFAdExRefracRecurrent(N, N), ADEX_REFRAC),
    case("LIFMCRecurrentCell", coupled(LIFMCRecurrentCell), LIF),
    case("LIFMCRefracRecurrentCell", coupled(norse.LIFMCRefracRecurrentCell), REFRAC),
    Case("norse", "IAF", lambda: norse.IAF(), whole, ("p.v_th",)),
    Case("norse", "IAFCell", lambda: norse.IAFCell(), cell, ("p.v_th",)),
]
