"""Draws the guide's pictures of the maps and of the Euler bound.

python examples/figures.py --out docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import norse.torch as norse
import torch
from matplotlib.figure import Figure
from norse.torch.module.leaky_integrator_box import LIBoxCell

from neuroparam import BoundedSigmoid, ExpScaledLog, Softplus

BLUE, ORANGE, GREEN, GREY = "#1f6fb4", "#d1651a", "#2e8b57", "0.6"
MAPS = (
    ("Softplus(lower=0, scale=100)", Softplus(0.0, 100.0), BLUE),
    ("ExpScaledLog(reference=100)", ExpScaledLog(reference=100.0), ORANGE),
    ("BoundedSigmoid(0, 1000)", BoundedSigmoid(0.0, 1000.0), GREEN),
)


def maps() -> Figure:
    """The value of each map, and how far one step in raw moves it, relative to the value."""
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    value_axes, step_axes = figure.subplots(1, 2)
    raw = torch.linspace(-4, 4, 400, dtype=torch.float64)
    for label, parametrization, color in MAPS:
        leaf = raw.clone().requires_grad_()
        value = parametrization(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        value_axes.plot(raw, value.detach(), color=color, label=label)
        step_axes.plot(value.detach(), slope / value.detach(), color=color)
    value_axes.set(xlabel="raw", ylabel="value", yscale="log", ylim=(1.5, 7e3))
    value_axes.legend(frameon=False, fontsize="small")
    step_axes.set(
        xlabel="value", ylabel="relative change of the value\nper unit of raw", xscale="log"
    )
    step_axes.set(xlim=(3, 3e3), ylim=(0, 1.1))
    for axes in (value_axes, step_axes):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def euler_bound() -> Figure:
    """A membrane driven by a constant input, at rates below and above 1 / dt."""
    steps, dt = 12, 1e-3
    figure = Figure(figsize=(7.2, 2.5), layout="constrained")
    for axes, factor in zip(figure.subplots(1, 3), (0.5, 1.5, 2.5), strict=True):
        cell = LIBoxCell(p=norse.LIBoxParameters(tau_mem_inv=torch.tensor(factor / dt)), dt=dt)
        voltage, state, trace = torch.zeros(1), None, [0.0]
        for _ in range(steps):
            voltage, state = cell(torch.ones(1), state)
            trace.append(voltage.item())
        time = torch.arange(steps + 1) * dt * 1e3
        axes.axhline(1.0, color=GREY, linewidth=0.8)
        axes.plot(time, trace, color=BLUE, marker="o", markersize=3, linewidth=1.2)
        axes.set_title(f"tau_mem_inv = {factor:g} / dt", fontsize="medium")
        axes.set_xlabel("time (ms)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("membrane voltage")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in (("maps", maps), ("euler-bound", euler_bound)):
        draw().savefig(out / f"{name}.png", dpi=160)
        print(f"wrote {out / name}.png")


if __name__ == "__main__":
    main()
