"""Is the event rule of `use_adjoint` the gradient of spike times?

Small recurrent networks are simulated twice: in continuous time, where spikes have exact times
and an exact gradient, and by Norse's layer on a time grid, with both rules. The tables say how
close the layer's gradients are to the exact one, for each parameter, time step and loss.

python -m tests.benchmarks.event_rule                 # all, about 4 minutes
python -m tests.benchmarks.event_rule rules losses    # some
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from unittest.mock import patch

import norse.torch as norse
import numpy as np
import torch
from norse.torch.functional.leaky_integrator import LIState
from norse.torch.functional.lif import LIFState
from torch import Tensor

from neuroparam.adjoint import use_adjoint
from tests.benchmarks.event_driven import DURATION, INPUTS, NEURONS, Array, Network, Spikes
from tests.benchmarks.measures import Table
from tests.support.inside import EventLIF

SEEDS = range(16)
RULES = ("event", "surrogate")
# What the input is multiplied by -> how the networks then are.
STRENGTHS = {1.0: "busy", 0.5: "calm"}
PARAMETERS = (
    "input_weights",
    "recurrent_weights",
    "tau_mem_inv",
    "tau_syn_inv",
    "v_th",
    "v_reset",
    "v_leak",
)
Gradient = dict[str, Array]


# ----------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class Loss:
    """The same loss of exact spikes, and of spikes on a grid.

    Those on a grid are of shape (time, batch, neurons), and the loss of shape (batch,).
    """

    exact: Callable[[Spikes], tuple[float, Array]]
    on_grid: Callable[[Tensor, float], Tensor]


def _ends(steps: int, dt: float) -> Tensor:
    """The time that a spike in each step stands for: its end."""
    return (torch.arange(steps) + 1) * dt


def smooth(seed: int) -> Loss:
    """A sine of each spike's time, with a phase of the neuron's own."""
    phases = np.random.default_rng(1000 + seed).random(NEURONS) * 2 * math.pi
    speed = 2 * math.pi / 0.05

    def exact(spikes: Spikes) -> tuple[float, Array]:
        angles = speed * spikes.times + phases[spikes.neurons]
        return float(np.sin(angles).sum()), speed * np.cos(angles)

    def on_grid(z: Tensor, dt: float) -> Tensor:
        angles = speed * _ends(len(z), dt)[:, None, None] + torch.as_tensor(phases)
        return (z * angles.sin()).sum((0, 2))

    return Loss(exact, on_grid)


def first_spikes(seed: int, *, look_ahead: bool) -> Loss:
    """The mean time of each neuron's first spike.

    Args:
        seed: not used.
        look_ahead: whether the mask that picks the first spike is open one step longer, so that
            the loss has a gradient there too.
    """

    def exact(spikes: Spikes) -> tuple[float, Array]:
        _, firsts = np.unique(spikes.neurons, return_index=True)
        slopes = np.zeros_like(spikes.times)
        slopes[firsts] = 1 / NEURONS
        return float(slopes @ spikes.times), slopes

    def on_grid(z: Tensor, dt: float) -> Tensor:
        so_far = z.detach().cumsum(0) - z.detach()
        if look_ahead:
            so_far = torch.cat((torch.zeros_like(so_far[:1]), so_far[:-1]))
        return (z * (so_far == 0) * _ends(len(z), dt)[:, None, None]).sum((0, 2)) / NEURONS

    return Loss(exact, on_grid)


def readout(seed: int, *, at_end: bool = False, dropout: float = 0.0) -> Loss:
    """Through a leaky integrator, `norse.torch.LI`, of fixed random weights.

    Args:
        seed: of the weights.
        at_end: whether its last value is the loss, and not its squared distance from a sine.
        dropout: the probability that a spike on the grid is lost on its way, each on its own.
    """
    a, b, speed = 100.0, 200.0, 2 * math.pi / 0.03
    weights = np.random.default_rng(2000 + seed).normal(size=NEURONS)
    grid = np.linspace(0, DURATION, 6001)

    def exact(spikes: Spikes) -> tuple[float, Array]:
        after = (np.array([DURATION]) if at_end else grid) - spikes.times[:, None]
        open_, after = after > 0, np.maximum(after, 0)
        slow, fast = np.exp(-a * after), np.exp(-b * after)
        w = weights[spikes.neurons]
        traces = open_ * a / (b - a) * (slow - fast)
        slopes = open_ * a / (b - a) * (a * slow - b * fast)
        if at_end:
            return float(w @ traces[:, 0]), w * slopes[:, 0]
        errors = w @ traces - 0.3 * np.sin(speed * grid)
        step = grid[1]
        return float((errors**2).sum() * step), 2 * step * w * (slopes @ errors)

    def on_grid(z: Tensor, dt: float) -> Tensor:
        if dropout:
            torch.manual_seed(seed)
            z = torch.nn.functional.dropout(z, dropout)
        currents = z @ torch.as_tensor(weights)[:, None]
        zero = torch.zeros(1, 1)
        li = norse.LI(norse.LIParameters(tau_syn_inv=b, tau_mem_inv=a), dt=dt)
        traces, _ = li(currents, LIState(zero, zero))
        if at_end:
            return traces[-1, :, 0]
        wanted = 0.3 * torch.sin(speed * _ends(len(z), dt))[:, None]
        return (traces[..., 0] - wanted).square().sum(0) * dt

    return Loss(exact, on_grid)


def count(seed: int) -> Loss:
    """The number of spikes, which does not change where spikes only move."""
    return Loss(
        lambda spikes: (float(len(spikes.times)), np.zeros_like(spikes.times)),
        lambda z, dt: z.sum((0, 2)),
    )


# -------------------------------------------------------------------------------- gradients


def on_grid(
    network: Network, loss: Loss, dt: float, rule: str, *, calls: int = 1
) -> tuple[Gradient, Tensor]:
    """The gradient that Norse's layer gives, and its spikes.

    Args:
        network: as it is in continuous time.
        loss: of the spikes.
        dt: the time step.
        rule: as `use_adjoint` takes it.
        calls: how many parts the sequence is given to the layer in, with the state handed on.
    """
    values = {k: torch.tensor(v, requires_grad=True) for k, v in network.values.items()}
    parameters = norse.LIFParameters(
        **{k: v for k, v in values.items() if not k.endswith("weights")}
    )
    layer = norse.LIFRecurrent(
        INPUTS,
        NEURONS,
        parameters,
        input_weights=values["input_weights"],
        recurrent_weights=values["recurrent_weights"],
        dt=dt,
    )
    use_adjoint(layer, rule=rule)
    inputs = torch.zeros(round(DURATION / dt), 1, INPUTS)
    for time, source in network.inputs:
        inputs[round(time / dt), 0, source] += 1
    zero = torch.zeros(1, NEURONS)
    state, parts = LIFState(zero, values["v_leak"][None], zero), []
    for part in inputs.chunk(calls):
        found, state = layer(part, state)
        parts.append(found)
    spikes = torch.cat(parts)
    weights = {name: getattr(layer, name) for name in PARAMETERS[:2]}
    leaves = {**values, **weights}
    gradients = torch.autograd.grad(loss.on_grid(spikes, dt).sum(), [leaves[n] for n in PARAMETERS])
    gradient = {name: g.numpy().copy() for name, g in zip(PARAMETERS, gradients, strict=True)}
    np.fill_diagonal(gradient["recurrent_weights"], 0)
    return gradient, spikes.detach()


def cosine(x: Array, y: Array) -> float:
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.vdot(x, y)) / scale if scale else math.nan


def ratio(x: Array, y: Array) -> float:
    return float(np.linalg.norm(x) / np.linalg.norm(y))


# ----------------------------------------------------------------------------------- tables


def _agreement(pairs: Sequence[tuple[Gradient, Gradient]], names: Iterable[str]) -> list[str]:
    """For each parameter: median cosine, the lowest, and the median ratio of norms."""
    cells = []
    for name in names:
        cosines = [cosine(found[name], true[name]) for found, true in pairs]
        ratios = [ratio(found[name], true[name]) for found, true in pairs]
        cells.append(f"{np.median(cosines):.2f} ({min(cosines):.2f}) x{np.median(ratios):.2g}")
    return cells


def simulator() -> str:
    """The exact gradient against finite differences of the same simulator."""
    worst = 0.0
    for seed in list(SEEDS)[:8]:
        for strength in STRENGTHS:
            network = Network.random(seed, strength)
            for loss in (smooth(seed), readout(seed)):
                worst = max(worst, network.worst_error(loss.exact, 1e-7))
    return f"worst relative error of the gradient of a parameter: {worst:.1e}"


def rules() -> Table:
    """Both rules against the exact gradient, for a smooth function of all spike times.

    Median over the networks of the cosine, (lowest cosine), x median ratio of the norms.
    """
    rows = []
    for strength, networks in STRENGTHS.items():
        exact = [Network.random(s, strength).gradient(smooth(s).exact) for s in SEEDS]
        n_exact = sum(len(Network.random(s, strength).spikes().times) for s in SEEDS)
        for rule in RULES:
            for dt in (1e-3, 1e-4, 2e-5):
                found = [on_grid(Network.random(s, strength), smooth(s), dt, rule) for s in SEEDS]
                share = sum(float(z.sum()) for _, z in found) / n_exact
                pairs = [(g, true) for (g, _), true in zip(found, exact, strict=True)]
                cells = _agreement(pairs, PARAMETERS)
                rows.append((networks, rule, f"{dt * 1e3:g}", f"{share:.2f}", *cells))
    return Table(("networks", "rule", "dt, ms", "spikes / exact", *PARAMETERS), rows)


LOSSES: dict[str, Callable[[int], Loss]] = {
    "sine of spike times": smooth,
    "LI readout, squared error over time": lambda seed: readout(seed),
    "LI readout behind dropout of 0.2": lambda seed: readout(seed, dropout=0.2),
    "LI readout, last value": lambda seed: readout(seed, at_end=True),
    "first spikes, mask": lambda seed: first_spikes(seed, look_ahead=False),
    "first spikes, mask one step longer": lambda seed: first_spikes(seed, look_ahead=True),
}


def losses() -> Table:
    """What the loss is computed from; calm networks. The numbers are those of `rules`."""
    names = ("input_weights", "recurrent_weights", "tau_mem_inv", "tau_syn_inv", "v_th")
    rows = []
    for label, make in LOSSES.items():
        exact = [Network.random(s, 0.5).gradient(make(s).exact) for s in SEEDS]
        for rule in RULES:
            for dt in (1e-3, 1e-4):
                found = [on_grid(Network.random(s, 0.5), make(s), dt, rule)[0] for s in SEEDS]
                cells = _agreement(list(zip(found, exact, strict=True)), names)
                rows.append((label, rule, f"{dt * 1e3:g}", *cells))
    for rule in RULES:
        for dt in (1e-3, 1e-4):
            found = [on_grid(Network.random(s, 0.5), count(s), dt, rule)[0] for s in SEEDS]
            largest = [f"norm <= {max(np.linalg.norm(g[n]) for g in found):.2g}" for n in names]
            rows.append(("number of spikes", rule, f"{dt * 1e3:g}", *largest))
    return Table(("loss", "rule", "dt, ms", *names), rows)


def calls() -> Table:
    """A sequence in six calls against the same in one; calm networks, the event rule."""
    names = ("input_weights", "recurrent_weights", "tau_mem_inv", "tau_syn_inv", "v_th")
    rows = []
    for dt in (1e-3, 1e-4):
        pairs = []
        for seed in SEEDS:
            network, loss = Network.random(seed, 0.5), readout(seed)
            six, one = (on_grid(network, loss, dt, "event", calls=n)[0] for n in (6, 1))
            pairs.append((six, one))
        rows.append((f"{dt * 1e3:g}", *_agreement(pairs, names)))
    return Table(("dt, ms", *names), rows)


def slopes() -> Table:
    """The slope that grazing spikes are counted with, `EventLIF.least_slope`."""
    names = ("input_weights", "tau_mem_inv", "v_th")
    rows = []
    for strength, networks in STRENGTHS.items():
        exact = [Network.random(s, strength).gradient(smooth(s).exact) for s in SEEDS]
        for dt in (1e-3, 1e-4):
            for least in (1e-4, 1e-2, 1e-1, 1.0):
                with patch.object(EventLIF, "least_slope", least):
                    found = [
                        on_grid(Network.random(s, strength), smooth(s), dt, "event")[0]
                        for s in SEEDS
                    ]
                cells = _agreement(list(zip(found, exact, strict=True)), names)
                largest = max(
                    ratio(g["v_th"], true["v_th"]) for g, true in zip(found, exact, strict=True)
                )
                rows.append((networks, f"{dt * 1e3:g}", f"{least:g}", *cells, f"x{largest:.2g}"))
    return Table(("networks", "dt, ms", "least slope", *names, "largest v_th ratio"), rows)


# ------------------------------------------------------------- the loss that a grid itself has

_SAMPLES = 20_000


def smoothed() -> Table:
    """Against the loss as the grid of 1 ms computes it, averaged over a neighbourhood.

    The loss on a grid is a step function of the parameters. Averaged over normal perturbations of
    all parameters, relative to their size, it has a gradient, which is estimated here from
    antithetic samples, twice: what the two estimates agree in bounds what a rule can reach.
    """
    names = ("input_weights", "recurrent_weights", "tau_mem_inv", "tau_syn_inv", "v_th")
    rows = []
    for strength, networks in STRENGTHS.items():
        for label, make in list(LOSSES.items())[:2]:
            for width in (0.02, 0.1):
                lines: dict[str, list[tuple[Gradient, Gradient]]] = {}
                for seed in list(SEEDS)[:8]:
                    network, loss = Network.random(seed, strength), make(seed)
                    true, again = (_estimate(network, loss, width, seed, k) for k in (0, 1))
                    mean = {name: (true[name] + again[name]) / 2 for name in true}
                    lines.setdefault("second estimate", []).append((again, true))
                    exact = network.gradient(loss.exact)
                    lines.setdefault("exact, continuous time", []).append((exact, mean))
                    for rule in RULES:
                        found, _ = on_grid(network, loss, 1e-3, rule)
                        lines.setdefault(rule, []).append((found, mean))
                for who, pairs in lines.items():
                    cells = _agreement(pairs, names)
                    rows.append((networks, label, f"{width:g}", who, *cells))
    return Table(("networks", "loss", "width", "gradient", *names), rows)


def _estimate(network: Network, loss: Loss, width: float, seed: int, half: int) -> Gradient:
    generator = torch.Generator().manual_seed(10 * seed + half)
    sizes = {n: float(np.sqrt((v**2).mean())) for n, v in network.values.items()}
    sizes["v_reset"] = sizes["v_leak"] = sizes["v_th"]
    noise, moved = {}, []
    for name, value in network.values.items():
        noise[name] = torch.randn((_SAMPLES, *value.shape), generator=generator)
    for sign in (1, -1):
        values = {
            n: torch.as_tensor(v) + sign * width * sizes[n] * noise[n]
            for n, v in network.values.items()
        }
        moved.append(_each_loss(values, network, loss))
    change = (moved[0] - moved[1]) / (2 * width)
    return {
        n: (torch.tensordot(change, e, 1) / _SAMPLES / sizes[n]).numpy() for n, e in noise.items()
    }


def _each_loss(values: dict[str, Tensor], network: Network, loss: Loss) -> Tensor:
    """Norse's steps with the parameters of each sample."""
    dt, steps = 1e-3, round(DURATION / 1e-3)
    inputs = torch.zeros(steps, INPUTS)
    for time, source in network.inputs:
        inputs[round(time / dt), source] += 1
    recurrent = values["recurrent_weights"] * (1 - torch.eye(NEURONS))
    v, i, z = values["v_leak"], torch.zeros(_SAMPLES, NEURONS), torch.zeros(_SAMPLES, NEURONS)
    spikes = []
    for x in inputs:
        j = i + values["input_weights"] @ x + (recurrent @ z[..., None])[..., 0]
        h = v + dt * values["tau_mem_inv"] * (values["v_leak"] - v + j)
        z = (h > values["v_th"]).to(h.dtype)
        v = torch.where(z > 0, values["v_reset"], h)
        i = j - dt * values["tau_syn_inv"] * j
        spikes.append(z)
    return loss.on_grid(torch.stack(spikes), dt)


SECTIONS: dict[str, Callable[[], object]] = {
    "simulator": simulator,
    "rules": rules,
    "losses": losses,
    "calls": calls,
    "slopes": slopes,
    "smoothed": smoothed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    chosen = parser.parse_args().sections or list(SECTIONS)
    torch.set_default_dtype(torch.float64)
    for name in chosen:
        print(f"\n## {name}\n\n{SECTIONS[name].__doc__}\n\n{SECTIONS[name]()}", flush=True)


if __name__ == "__main__":
    main()
