"""One recipe, five libraries: time constants in seconds, whatever the library stores.

The same small network classifies scikit-learn's digits with the LIF layer of Norse, snnTorch,
SpikingJelly, Sinabs and Rockpool. One call of neuroparam.make_trainable, the same for all of
them, trains the membrane time constants and thresholds, one of each per neuron. For comparison
the same network is trained with these values fixed.

    python examples/any_library.py                             # all five, below a minute
    python examples/any_library.py --libraries norse sinabs    # those that are installed
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from neuroparam import ExpScaledLog, Quantity, Softplus, make_trainable, param_groups, values

PIXELS, HIDDEN, CLASSES = 64, 64, 10
TRAINING_IMAGES, TIME_STEPS, BATCH = 1400, 25, 64
DT, TAU_MEM = 1e-3, 20e-3  # seconds
DECAY = math.exp(-DT / TAU_MEM)  # of the membrane, in each step


class Network(nn.Module):
    """Spikes of (time, batch, pixels) -> linear -> LIF layer -> linear -> sum over time.

    Each library has a subclass, which builds the library's LIF layer with its defaults for all
    but the time constant, and runs it over a sequence. Resets and surrogate gradients differ, so
    that accuracies do not compare the libraries.
    """

    # How much an input of 1 in one step adds to the membrane in all. The currents are divided by
    # it: neurons of every library then start with about the same firing rate, from the same
    # weights, and a step of Adam means the same.
    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.lif = self.layer()
        # Sinabs and Rockpool train time constants, thresholds or biases of their own accord;
        # asked of the network, for Rockpool's own requires_grad_ fails
        self.requires_grad_(False)
        self.linear = nn.Linear(PIXELS, HIDDEN, bias=False)
        self.readout = nn.Linear(HIDDEN, CLASSES, bias=False)

    def layer(self) -> nn.Module:
        """The LIF layer of the library."""
        raise NotImplementedError

    def fire(self, currents: Tensor) -> Tensor:
        """Runs the layer from rest; currents and spikes are (time, batch, hidden)."""
        raise NotImplementedError

    def hidden(self, spikes: Tensor) -> Tensor:
        return self.fire(self.linear(spikes) / self.gain)

    def forward(self, spikes: Tensor) -> Tensor:
        return self.readout(self.hidden(spikes)).sum(dim=0)


class NorseNetwork(Network):
    """norse.LIF, `v += dt * tau_mem_inv * (i - v)`; an input stays in i for tau_syn = 5 ms."""

    gain = (DT / TAU_MEM) * (5e-3 / DT)

    def layer(self) -> nn.Module:
        import norse.torch as norse

        return norse.LIF(norse.LIFParameters(tau_mem_inv=torch.tensor(1 / TAU_MEM)), dt=DT)

    def fire(self, currents: Tensor) -> Tensor:
        spikes, _ = self.lif(currents)  # no state given: from rest
        return spikes


class SnnTorchNetwork(Network):
    """snntorch.Leaky, `mem = beta * mem + input`."""

    def layer(self) -> nn.Module:
        import snntorch

        return snntorch.Leaky(beta=DECAY)

    def fire(self, currents: Tensor) -> Tensor:
        mem = self.lif.reset_mem()
        spikes = []
        for current in currents:
            spike, mem = self.lif(current, mem)
            spikes.append(spike)
        return torch.stack(spikes)


class SpikingJellyNetwork(Network):
    """SpikingJelly's LIFNode, `v += (input - v) / tau` with tau in steps."""

    gain = DT / TAU_MEM

    def layer(self) -> nn.Module:
        from spikingjelly.activation_based import neuron

        return neuron.LIFNode(tau=TAU_MEM / DT, step_mode="m")

    def fire(self, currents: Tensor) -> Tensor:
        self.lif.reset()
        return self.lif(currents)


class SinabsNetwork(Network):
    """sinabs.layers.LIF, `v = alpha * v + (1 - alpha) * input`, alpha = exp(-1 / tau) in steps."""

    gain = 1 - DECAY

    def layer(self) -> nn.Module:
        import sinabs.layers

        return sinabs.layers.LIF(tau_mem=TAU_MEM / DT)

    def fire(self, currents: Tensor) -> Tensor:
        self.lif.reset_states()
        return self.lif(currents.transpose(0, 1)).transpose(0, 1)  # batch first


class RockpoolNetwork(Network):
    """Rockpool's LIFNeuronTorch, `v = exp(-dt / tau) * v + input` with tau in seconds."""

    def layer(self) -> nn.Module:
        # Rockpool tries to import samna, for hardware that nothing here needs, and the samna of
        # PyPI runs pip on import to fetch the real one from elsewhere: keep pip from the network.
        # What pip then prints as an ERROR is harmless.
        os.environ.setdefault("PIP_NO_INDEX", "1")
        from rockpool.nn.modules import LIFNeuronTorch

        return LIFNeuronTorch((HIDDEN,), tau_mem=TAU_MEM, dt=DT)

    def fire(self, currents: Tensor) -> Tensor:
        self.lif.reset_state()
        spikes, _, _ = self.lif(currents.transpose(0, 1))  # batch first
        return spikes.transpose(0, 1)


LIBRARIES: dict[str, type[Network]] = {
    "norse": NorseNetwork,
    "snntorch": SnnTorchNetwork,
    "spikingjelly": SpikingJellyNetwork,
    "sinabs": SinabsNetwork,
    "rockpool": RockpoolNetwork,
}


def build(library: str, seed: int) -> Network:
    torch.manual_seed(seed)  # the same weights in every library and arm
    return LIBRARIES[library]()


def attach(network: Network) -> Network:
    """What this example is about: the same call, in the same units, for every library."""
    return make_trainable(
        network,
        {Quantity.TAU_MEM: ExpScaledLog(), Quantity.THRESHOLD: Softplus(lower=0.05)},
        init={Quantity.TAU_MEM: TAU_MEM},
        shape=(HIDDEN,),
        dt=DT,
    )


def digits() -> dict[str, Tensor]:
    """scikit-learn's 1797 digits of 8 x 8 pixels as spikes of (time, image, pixel).

    A pixel fires in each step with a probability that is its brightness. The spikes and the
    split are the same for every seed.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16.0, torch.tensor(labels)
    draw = torch.Generator().manual_seed(0)
    spikes = (torch.rand(TIME_STEPS, *images.shape, generator=draw) < images).float()
    training, test = torch.randperm(len(labels), generator=draw).split(
        [TRAINING_IMAGES, len(labels) - TRAINING_IMAGES]
    )
    return {
        "train spikes": spikes[:, training], "train labels": labels[training],
        "test spikes": spikes[:, test], "test labels": labels[test],
    }  # fmt: skip


def train(
    network: Network,
    spikes: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    lr: float,
    neuron_lr: float,
    seed: int,
    title: str = "",
) -> list[float]:
    """Trains whatever is trainable in the network; returns the loss of each batch."""
    optimizer = torch.optim.Adam(param_groups(network, lr=lr, neuron_lr=neuron_lr))
    draw = torch.Generator().manual_seed(seed)  # the same batches in every library and arm
    losses: list[float] = []
    with tqdm(total=epochs * -(-len(labels) // BATCH), desc=title, unit="batch") as bar:
        for _ in range(epochs):
            for index in torch.randperm(len(labels), generator=draw).split(BATCH):
                loss = nn.functional.cross_entropy(network(spikes[:, index]), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                bar.update()
            bar.set_postfix_str(f"loss {losses[-1]:.3f}")
    return losses


@torch.no_grad()
def accuracy(network: Network, spikes: Tensor, labels: Tensor) -> float:
    return 100.0 * (network(spikes).argmax(dim=1) == labels).float().mean().item()


@torch.no_grad()
def firing_rate(network: Network, spikes: Tensor) -> float:
    """Spikes of a hidden neuron in a step, on average."""
    return network.hidden(spikes).mean().item()


def neuron_values(network: Network) -> dict[str, list[float]]:
    """Membrane time constants in seconds, and thresholds."""
    return {
        quantity.name: torch.cat(list(values(network, quantity).values())).tolist()
        for quantity in (Quantity.TAU_MEM, Quantity.THRESHOLD)
    }


def run(library: str, data: dict[str, Tensor], args: argparse.Namespace) -> dict:
    """Trains one library with its values fixed and trained; returns a row of the table."""
    start = time.perf_counter()
    training = (data["train spikes"], data["train labels"])
    test = (data["test spikes"], data["test labels"])
    recipe = {"epochs": args.epochs, "lr": args.lr, "neuron_lr": args.neuron_lr, "seed": args.seed}

    fixed = build(library, args.seed)
    train(fixed, *training, **recipe, title=f"{library}, fixed")

    trained = attach(build(library, args.seed))
    before, rate = neuron_values(trained), firing_rate(trained, data["test spikes"])
    accuracy_before = accuracy(trained, *test)
    losses = train(trained, *training, **recipe, title=f"{library}, trained")
    return {
        "library": library,
        **recipe,
        "trained": {path: value.numel() for path, value in values(trained).items()},
        "before": before,
        "after": neuron_values(trained),
        "rate before": rate,
        "accuracy before": accuracy_before,
        "accuracy fixed": accuracy(fixed, *test),
        "accuracy trained": accuracy(trained, *test),
        "losses": losses,
        "seconds": time.perf_counter() - start,
        "torch": torch.__version__,
    }


def table(results: list[dict]) -> str:
    """One line a library; values as median [min, max] over the neurons."""
    head = (
        "library", "parameters", "values", "tau_mem before (ms)", "after", "threshold before",
        "after", "rate before", "accuracy before (%)", "fixed", "trained",
    )  # fmt: skip
    rows = [head]
    for result in results:
        before, after = result["before"], result["after"]
        rows.append(
            (
                result["library"],
                ", ".join(result["trained"]),
                str(sum(result["trained"].values())),
                *(_spread(v["TAU_MEM"], 1e3, 1) for v in (before, after)),
                *(_spread(v["THRESHOLD"], 1.0, 2) for v in (before, after)),
                f"{result['rate before']:.3f}",
                *(f"{result['accuracy ' + arm]:.1f}" for arm in ("before", "fixed", "trained")),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _spread(numbers: list[float], factor: float, digits: int) -> str:
    low, median, high = torch.tensor(numbers).quantile(torch.tensor([0.0, 0.5, 1.0])) * factor
    if high - low < 0.5 * 10**-digits:  # all alike, as before training
        return f"{median:.{digits}f}"
    return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--lr", type=float, default=0.002, help="of the weights (Adam)")
    parser.add_argument("--neuron-lr", type=float, default=0.02, help="of the neuron values")
    parser.add_argument("--out", type=Path, default=Path("any-library-results"))
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)  # for tensors this small, threads wait longer than they work
    data = digits()
    print(
        f"digits: {len(data['train labels'])} training and {len(data['test labels'])} test images, "
        f"{TIME_STEPS} time steps of {DT * 1e3:g} ms, {HIDDEN} LIF neurons, {args.epochs} epochs"
    )
    results = [run(library, data, args) for library in args.libraries]

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results))
    print(
        f"\n{table(results)}\n\n"
        "Values are the median [min, max] of the neurons, rate is spikes per hidden neuron and "
        "step, accuracy is that of\nthe test images: before training, and after it with the "
        "neuron values fixed and trained.\n"
        "One seed of one small task says nothing about the significance of differences.\n"
    )
    print(f"all numbers: {args.out / 'results.json'}")


if __name__ == "__main__":
    main()
