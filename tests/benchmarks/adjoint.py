"""Measures the adjoint: time, bytes, and Norse's own adjoint beside it. Prints the guide's tables.

python -m tests.benchmarks.adjoint                    # all, about 10 minutes
python -m tests.benchmarks.adjoint norses-own bytes   # some
python -m tests.benchmarks.adjoint --write            # all, into docs/adjoint.md and docs/images
"""

from __future__ import annotations

import argparse
import logging
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import norse.torch as norse
import snntorch
import torch
from matplotlib.figure import Figure
from norse.torch.functional.adjoint.lif_adjoint import lif_adjoint_step
from norse.torch.functional.lif import (
    LIFFeedForwardState,
    LIFParameters,
    LIFState,
    lif_feed_forward_step,
    lif_step,
)
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from neuroparam import cached, make_trainable
from neuroparam.adjoint import sequence, use_adjoint
from tests.benchmarks.__main__ import machine
from tests.benchmarks.measures import Options, Table, milliseconds
from tests.benchmarks.networks import (
    LIBRARIES,
    inputs,
    snntorch_over_time,
    spikingjelly_steps,
)
from tests.benchmarks.timing import Step, Timings, interleaved

DOCS = Path(__file__).parents[2] / "docs"
TRAINED = ("tau_mem_inv", "tau_syn_inv", "v_th")


# ------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class Size:
    """How large a layer and its input are."""

    steps: int
    batch: int
    features: int
    neurons: int
    recurrent: bool = True

    def __str__(self) -> str:
        kind = f"recurrent, {self.features} ->" if self.recurrent else "feed forward,"
        return f"T {self.steps}, B {self.batch}, {kind} {self.neurons}"


def layer_of(size: Size) -> Any:
    """A layer of Norse with its time constants and thresholds attached, one for each neuron."""
    torch.manual_seed(0)
    layer = norse.LIFRecurrent(size.features, size.neurons) if size.recurrent else norse.LIF()
    return make_trainable(layer, TRAINED, shape=(size.neurons,))


def input_of(size: Size) -> Tensor:
    """Spikes for a layer with weights; for one without, currents that need a gradient."""
    generator = torch.Generator().manual_seed(0)
    if size.recurrent:
        shape = (size.steps, size.batch, size.features)
        return (torch.rand(shape, generator=generator) < 0.1).float()
    shape = (size.steps, size.batch, size.neurons)
    return torch.rand(shape, generator=generator).mul_(0.6).requires_grad_()


def unbound(layer: Any, x: Tensor) -> Tensor:
    """Norse's steps over `x.unbind(0)`, which Norse's own loop over `x[t]` could be."""
    state, spikes = layer.state_fallback(x), []
    with cached():
        for part in x.unbind(0):
            if hasattr(layer, "recurrent_weights"):
                weights = layer.input_weights, layer.recurrent_weights
                z, state = lif_step(part, state, *weights, layer.p, layer.dt)
            else:
                z, state = lif_feed_forward_step(part, state, layer.p, layer.dt)
            spikes.append(z)
    return torch.stack(spikes)


def training_step(module: nn.Module, x: Tensor, forward: Callable[[], Tensor]) -> Step:
    weights = torch.linspace(-1.0, 1.0, 7)

    def step() -> None:
        x.grad = None
        for parameter in nn.Module.parameters(module):  # Rockpool has another method of its own
            parameter.grad = None
        spikes = forward()
        (spikes[..., :7] * weights[: spikes.shape[-1]]).square().mean().backward()

    return step


def products(size: Size, x: Tensor) -> Step:
    """The matrix products of a training step alone: what no other code can leave out."""
    w = torch.randn(size.neurons, size.features)
    v = torch.randn(size.neurons, size.neurons)
    z = torch.rand(size.steps, size.batch, size.neurons)

    def step() -> None:
        if not size.recurrent:
            return
        for part, spikes in zip(x, z, strict=True):
            part @ w.t(), spikes @ v.t()
        for spikes in z:
            spikes @ v
        flat = z.reshape(-1, size.neurons)
        flat.t() @ x.reshape(-1, size.features), flat.t() @ flat

    return step


def arms(size: Size, *, without: Sequence[str] = ()) -> dict[str, Step]:
    """Training steps of equal layers."""
    makes: dict[str, Callable[[Any], Any]] = {
        "Norse": lambda layer: lambda x: layer(x)[0],
        "unbind": lambda layer: partial(unbound, layer),
        "adjoint": lambda layer: lambda x: use_adjoint(layer)(x)[0],
        "lean": lambda layer: lambda x: use_adjoint(layer, lean=True)(x)[0],
    }
    made = {}
    for name, make in makes.items():
        if name not in without:
            layer, x = layer_of(size), input_of(size)
            made[name] = training_step(layer, x, partial(make(layer), x))
    return made


# --------------------------------------------------------------------------------------- time

SIZES = (
    Size(100, 64, 100, 100),
    Size(32, 256, 784, 100),
    Size(16, 64, 500, 1000),
    Size(1000, 64, 100, 100),
    Size(100, 64, 100, 100, recurrent=False),
    Size(32, 256, 100, 100, recurrent=False),
    Size(16, 64, 1000, 1000, recurrent=False),
)


def time_table(options: Options) -> Table:
    """Training steps of one layer, with trained neuron parameters in every arm."""
    rows = []
    for size in SIZES:
        made = arms(size)
        if size.recurrent:
            made["products"] = products(size, input_of(size))
        timings = interleaved(made, options.rounds)
        floor = str(timings.ratio("products", "Norse")) if size.recurrent else ""
        rows.append(
            (
                str(size),
                milliseconds(timings.median("Norse")),
                milliseconds(timings.median("adjoint")),
                str(timings.ratio("adjoint", "Norse")),
                str(timings.ratio("adjoint", "unbind")),
                str(timings.ratio("lean", "Norse")),
                floor,
            )
        )
    return Table(
        (
            "layer",
            "Norse, ms",
            "adjoint, ms",
            "adjoint over Norse",
            "adjoint over a loop over `unbind`",
            "lean over Norse",
            "matrix products alone over Norse",
        ),
        rows,
    )


LENGTHS = (10, 30, 100, 300, 1000, 3000, 10_000)
# Norse's own loop takes minutes beyond this where its input needs a gradient.
LONGEST_QUADRATIC = 1000


def lengths(options: Options) -> str:
    """Time against the number of steps, with a picture."""
    rows = []
    curves: dict[tuple[bool, str], list[tuple[int, float]]] = {}
    for recurrent in (True, False):
        for steps in LENGTHS:
            size = Size(steps, 64, 100, 100, recurrent)
            too_long = not recurrent and steps > LONGEST_QUADRATIC
            made = arms(size, without=("Norse",) if too_long else ())
            timings = interleaved(made, 3 if steps >= 1000 else options.rounds)
            for name in made:
                point = (steps, timings.median(name))
                curves.setdefault((recurrent, name), []).append(point)
            rows.append(_lengths_row(size, timings))
    _draw_lengths(curves)
    table = str(Table(("layer", "Norse, ms", "unbind, ms", "adjoint, ms", "lean, ms"), rows))
    folded = textwrap.indent(table, "    ")
    return (
        "![Time of a training step against the number of time steps, for a recurrent layer and a "
        "feed-forward one: the adjoint is below Norse everywhere, and Norse's own loop bends "
        "upwards in the feed-forward layer](images/adjoint-time.png)\n\n"
        f'??? note "The numbers of the picture"\n\n{folded}'
    )


def _lengths_row(size: Size, timings: Timings) -> tuple[str, ...]:
    shown = ("Norse", "unbind", "adjoint", "lean")
    return (
        str(size),
        *(milliseconds(timings.median(name)) if name in timings.seconds else "" for name in shown),
    )


def _draw_lengths(curves: dict[tuple[bool, str], list[tuple[int, float]]]) -> None:
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # each font it lacks
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    styles = {"Norse": "o-", "unbind": "s--", "adjoint": "^-", "lean": "v--"}
    for recurrent, ax in zip((True, False), panels, strict=True):
        for name, style in styles.items():
            steps, seconds = zip(*curves[recurrent, name], strict=True)
            label = {"unbind": "Norse's steps over unbind"}.get(name, name)
            ax.loglog(steps, seconds, style, label=label, linewidth=1, markersize=4)
        ax.set(
            xlabel="time steps T",
            title="recurrent" if recurrent else "feed forward, input needs a gradient",
        )
        ax.title.set_fontsize("small")
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="training step, s")
    panels[0].legend(frameon=False, fontsize="x-small", loc="upper left")
    figure.savefig(DOCS / "images" / "adjoint-time.png", dpi=200)


# -------------------------------------------------------------------------------------- bytes


def units_saved(forward: Callable[[Tensor], Any], x: Tensor, size: Size) -> float:
    """What the graph of a layer keeps beside its input, in tensors of shape (T, B, H)."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # An output that its own node keeps would never be freed.

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward(x)  # alive until all is counted
    found.pop(x.untyped_storage().data_ptr(), None)
    del output
    return sum(found.values()) / (4 * size.steps * size.batch * size.neurons)


def bytes_table(options: Options) -> Table:
    """Saved tensors of a layer."""
    del options  # counted, not timed
    rows = []
    for recurrent in (True, False):
        for steps in (100, 1000):
            size = Size(steps, 64, 100, 100, recurrent)
            x = input_of(size)
            layer = layer_of(size)
            own = units_saved(layer, x, size)
            full = units_saved(use_adjoint(layer), x, size)
            lean = units_saved(use_adjoint(layer, lean=True), x, size)
            rows.append((str(size), f"{own:.2f}", f"{full:.2f}", f"{lean:.2f}"))
    return Table(("layer", "Norse", "adjoint", "lean"), rows)


# ----------------------------------------------------------------------- Norse's own adjoint

_PARAMETERS = ("tau_mem_inv", "tau_syn_inv", "v_leak")


def norses_own(options: Options) -> str:
    """Norse's `lif_adjoint_step` beside autograd and this adjoint, against finite differences."""
    del options
    rows = []
    for tau_mem_inv, tau_syn_inv in ((100.0, 200.0), (100.0, 100.0), (50.0, 500.0)):
        given = _given(tau_mem_inv, tau_syn_inv)
        expected = _differences(given)
        for name, run in _RUNS.items():
            leaves = {key: each.clone().requires_grad_() for key, each in given.items()}
            found = torch.autograd.grad(
                run(leaves), list(leaves.values()), allow_unused=True, materialize_grads=False
            )
            cells = [
                "None" if gradient is None else f"{_relative(gradient, expected[key]):.1e}"
                for key, gradient in zip(leaves, found, strict=True)
            ]
            rows.append((f"{tau_mem_inv:g}, {tau_syn_inv:g}", name, *cells))
    head = ("`tau_mem_inv`, `tau_syn_inv` (1/s)", "gradients by", "input", "input weights")
    return str(Table((*head, "recurrent weights", *(f"`{p}`" for p in _PARAMETERS)), rows))


def _given(tau_mem_inv: float, tau_syn_inv: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": (normal(20, 2, 5) > 0.5).double(),
        "input_weights": normal(6, 5),
        "recurrent_weights": 0.3 * normal(6, 6),
        "tau_mem_inv": torch.full((6,), tau_mem_inv, dtype=torch.float64),
        "tau_syn_inv": torch.full((6,), tau_syn_inv, dtype=torch.float64),
        "v_leak": 0.1 * normal(6),
    }


def _record(given: dict[str, Tensor]) -> LIFParameters:
    # a threshold that nothing reaches, so that the dynamics are smooth
    numbers = {"v_th": torch.tensor(1e9), "v_reset": torch.tensor(0.0)}
    return LIFParameters(**{name: given[name] for name in _PARAMETERS}, **numbers)


def _start(given: dict[str, Tensor]) -> LIFState:
    # spikes before the first step, which reach the neurons through the recurrent weights
    zeros = torch.zeros(2, 6, dtype=torch.float64)
    return LIFState(torch.ones_like(zeros), zeros.requires_grad_(), zeros.clone())


def _by_steps(step: Callable[..., Any], given: dict[str, Tensor]) -> Tensor:
    state, p = _start(given), _record(given)
    for part in given["x"]:
        _, state = step(part, state, given["input_weights"], given["recurrent_weights"], p)
    return _loss(state)


def _by_adjoint(given: dict[str, Tensor]) -> Tensor:
    layer: Any = norse.LIFRecurrent(5, 6, autapses=True)
    del layer.input_weights, layer.recurrent_weights
    layer.input_weights, layer.recurrent_weights = (
        given["input_weights"],
        given["recurrent_weights"],
    )
    layer.p = _record(given)
    return _loss(use_adjoint(layer)(given["x"], _start(given))[1])


def _loss(state: LIFState | LIFFeedForwardState) -> Tensor:
    weights = torch.linspace(0.5, 1.5, state.v.numel(), dtype=torch.float64)
    return (weights * state.v.reshape(-1)).sum() + state.v.square().sum()


_RUNS: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "autograd through Norse": partial(_by_steps, lif_step),
    "Norse's `lif_adjoint_step`": partial(_by_steps, lif_adjoint_step),
    "`use_adjoint`": _by_adjoint,
}


def _differences(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Central differences of the loss, for each number of each tensor."""
    found = {}
    for name, tensor in given.items():
        step = 1e-6 * max(1.0, tensor.abs().max().item())
        gradient = torch.zeros_like(tensor)
        for index in range(tensor.numel()):
            losses = []
            for sign in (1, -1):
                changed = tensor.clone()
                changed.view(-1)[index] += sign * step
                with torch.no_grad():
                    losses.append(_by_steps(lif_step, {**given, name: changed}))
            gradient.view(-1)[index] = (losses[0] - losses[1]) / (2 * step)
        found[name] = gradient
    return found


def _relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


# --------------------------------------------------------------------------- other libraries


def other_libraries(options: Options) -> Table:
    """Loops over single steps beside what runs a whole sequence, T 100, B 64, H 100."""
    x = inputs(100, 64, options.device)
    rows = []
    leaky = make_trainable(snntorch.Leaky(beta=0.9), ["beta", "threshold"], shape=(100,))
    rows.append(
        _sequence_row(
            "snnTorch `Leaky`",
            leaky,
            x,
            lambda y: _in_cached(snntorch_over_time, leaky, y),
            "`neuroparam.adjoint.sequence`",
            lambda y: sequence(leaky, y)[0],
            options,
        )
    )
    steps, whole = (
        LIBRARIES[name].build(True) for name in ("SpikingJelly, single steps", "SpikingJelly")
    )
    rows.append(
        _sequence_row(
            "SpikingJelly `ParametricLIFNode`",
            steps,
            x,
            lambda y: spikingjelly_steps(steps, y),
            'its own, `step_mode="m"`',
            lambda y: _reset(whole)(y),
            options,
        )
    )
    rockpool = LIBRARIES["Rockpool"]
    module = rockpool.build(True)
    rows.append(
        _sequence_row(
            "Rockpool `LIFTorch`",
            module,
            x,
            None,
            "its own",
            lambda y: rockpool.over_time(module, y),
            options,
        )
    )
    return Table(("neuron", "single steps, ms", "whole sequence by", "ms", "ratio"), rows)


def _in_cached(run: Callable[[nn.Module, Tensor], Tensor], leaky: nn.Module, x: Tensor) -> Tensor:
    with cached():
        return run(leaky, x)


def _reset(node: nn.Module) -> nn.Module:
    functional.reset_net(node)
    return node


def _sequence_row(
    name: str,
    module: nn.Module,
    x: Tensor,
    single: Callable[[Tensor], Tensor] | None,
    way: str,
    whole: Callable[[Tensor], Tensor],
    options: Options,
) -> tuple[str, ...]:
    x = (0.4 * x).requires_grad_()
    made = {"whole": training_step(module, x, partial(whole, x))}
    if single is not None:
        made["single"] = training_step(module, x, partial(single, x))
    timings = interleaved(made, options.rounds)
    ratio = "" if single is None else str(timings.ratio("whole", "single"))
    alone = "" if single is None else milliseconds(timings.median("single"))
    return (name, alone, way, milliseconds(timings.median("whole")), ratio)


# --------------------------------------------------------------------------------------- page

SECTIONS: dict[str, Callable[[Options], object]] = {
    "norses-own": norses_own,
    "bytes": bytes_table,
    "time": time_table,
    "lengths": lengths,
    "libraries": other_libraries,
}


def write(name: str, text: str) -> None:
    """Writes a table between its marks in the guide's page."""
    page = DOCS / "adjoint.md"
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{rest.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="write the guide's page")
    args = parser.parse_args()
    if unknown := [name for name in args.sections if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    options = Options(args.rounds, "cpu")
    print(machine(options))
    if args.write:
        write("machine", machine(options))
    for name in args.sections or SECTIONS:
        table = str(SECTIONS[name](options))
        print(f"\n## {name}\n\n{table}", flush=True)
        if args.write:
            write(name, table)


if __name__ == "__main__":
    main()
