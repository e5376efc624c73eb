"""Norse's tutorial on parameter learning, in three arms.

A recurrent LIF cell of 100 neurons classifies images that are coded as spikes over 32 time
steps. Its membrane rates `tau_mem_inv` and thresholds `v_th` are

* fixed:            as drawn,
* raw:              nn.Parameters, as the tutorial has them,
* reparametrised:   attached with neuroparam.make_trainable.

All arms start from the same weights and the same neuron values, and see the same batches.

    python examples/mnist.py                                  # digits of scikit-learn, 1 minute
    python examples/mnist.py --dataset mnist --data DIR       # MNIST, 10 epochs: see --help
    torchrun --nproc-per-node 2 examples/mnist.py             # two processes share each batch
    python examples/mnist.py --draw A/results.json B/results.json     # pictures of stored results
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

import norse.torch as norse
import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from neuroparam import make_trainable, param_groups, summary, values
from neuroparam.plot import distributions

ARMS = ("fixed", "raw", "reparametrised")
TAU, THRESHOLD = "lif.p.tau_mem_inv", "lif.p.v_th"
HIDDEN, TIME_STEPS = 100, 32

# of all pictures, so that they can be compared: time constants in ms, thresholds
LIMITS = {TAU: (0.0, 30.0), THRESHOLD: (-2.0, 4.0)}
# a membrane time constant is longer than Norse's time step of 1 ms, a threshold is positive
DOMAINS = {TAU: (1.0, math.inf), THRESHOLD: (0.0, math.inf)}

# what torchrun tells each of its processes; without it there is one
PROCESSES = int(os.environ.get("WORLD_SIZE", 1))
RANK, LOCAL_RANK = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))


class Network(nn.Module):
    """Images -> spikes -> recurrent LIF cell -> leaky readout -> maximum over time."""

    def __init__(self, inputs: int, parameters: norse.LIFParameters):
        super().__init__()
        self.encoder = norse.ConstantCurrentLIFEncoder(TIME_STEPS)
        self.lif = norse.LIFRecurrentCell(inputs, HIDDEN, p=parameters)
        self.linear = nn.Linear(HIDDEN, 10, bias=False)
        self.readout = norse.LICell()

    def forward(self, images: Tensor) -> Tensor:
        lif_state = readout_state = None
        voltages = []
        for spikes in self.encoder(images):
            spikes, lif_state = self.lif(spikes, lif_state)
            voltage, readout_state = self.readout(self.linear(spikes), readout_state)
            voltages.append(voltage)
        return torch.stack(voltages).max(dim=0).values


def build(arm: str, seed: int, inputs: int, tau_mem_inv: Tensor, v_th: Tensor) -> Network:
    torch.manual_seed(seed)  # the same weights in every arm
    if arm == "raw":
        tau_mem_inv, v_th = nn.Parameter(tau_mem_inv.clone()), nn.Parameter(v_th.clone())
    network = Network(inputs, norse.LIFParameters(tau_mem_inv=tau_mem_inv, v_th=v_th))
    if arm == "raw":
        # Norse keeps its parameters in a tuple, where no optimizer finds them
        network.tau_mem_inv, network.v_th = tau_mem_inv, v_th
    elif arm == "reparametrised":
        # the defaults for Norse: (0, 1 / dt) for rates, positive for thresholds
        make_trainable(network, [TAU, THRESHOLD])
    return network


def neuron_values(network: Network) -> dict[str, Tensor]:
    """tau_mem_inv in 1/s and v_th, one value per neuron, whatever the arm."""
    p = network.lif.p
    return values(network) or {
        TAU: p.tau_mem_inv.detach().clone(),
        THRESHOLD: p.v_th.detach().clone(),
    }


def optimizer_for(network: Network, arm: str, lr: float, neuron_lr: float) -> torch.optim.Adam:
    if arm == "raw":
        raw = [network.tau_mem_inv, network.v_th]
        weights = [p for p in network.parameters() if all(p is not r for r in raw)]
        return torch.optim.Adam([{"params": weights, "lr": lr}, {"params": raw, "lr": neuron_lr}])
    return torch.optim.Adam(param_groups(network, lr=lr, neuron_lr=neuron_lr))


def accuracy(network: Network, images: Tensor, labels: Tensor, batch: int) -> float:
    with torch.no_grad():
        right = [
            (network(x).argmax(dim=1) == y).sum()
            for x, y in zip(images.split(batch), labels.split(batch), strict=True)
        ]
    return 100.0 * torch.stack(right).sum().item() / len(labels)


def invalid(present: dict[str, Tensor], dt: float) -> dict[str, Tensor]:
    """Which values are not positive, or, for a rate, above 1 / dt; NaN counts as invalid."""
    tau, threshold = present[TAU], present[THRESHOLD]
    return {TAU: ~((tau > 0) & (tau <= 1 / dt)), THRESHOLD: ~(threshold > 0)}


def run(arm: str, seed: int, data: dict[str, Tensor], args: argparse.Namespace) -> dict:
    """Trains one arm with one seed; returns what the table and the pictures need."""
    draw = torch.Generator().manual_seed(seed)
    spread = 0.2 * torch.randn(2, HIDDEN, generator=draw)
    # the tutorial's normal distributions can draw negative values; log-normal ones cannot
    tau_mem_inv, v_th = torch.tensor([[100.0], [0.5]]) * (
        1.0 + spread if args.init == "normal" else spread.exp()
    )
    images, labels = data["train images"], data["train labels"]
    # on the device from the start: `.to()` does not reach what Norse keeps in a tuple
    tau_mem_inv, v_th = tau_mem_inv.to(args.device), v_th.to(args.device)
    network = build(arm, seed, images.shape[1], tau_mem_inv, v_th).to(args.device)
    # wrapped after make_trainable, so that the raw tensors' gradients are averaged as well
    model = DistributedDataParallel(network) if PROCESSES > 1 else network
    optimizer = optimizer_for(network, arm, args.lr, args.neuron_lr)
    before = {path: value.cpu() for path, value in neuron_values(network).items()}

    accuracies: list[float] = []
    now = invalid(neuron_values(network), network.lif.dt)
    ever = dict(now)
    start = time.perf_counter()
    steps = args.epochs * -(-len(labels) // args.batch)
    with tqdm(total=steps, desc=f"{arm}, seed {seed}", unit="batch", disable=RANK > 0) as bar:
        for _ in range(args.epochs):
            order = torch.randperm(len(labels), generator=draw).to(labels.device)
            for index in order.split(args.batch):
                mine = index[RANK::PROCESSES]
                loss = nn.functional.cross_entropy(
                    model(images[mine]), labels[mine], reduction="sum"
                )
                optimizer.zero_grad()
                # the mean over the whole batch, once the gradients are averaged over processes
                (loss * PROCESSES / len(index)).backward()
                optimizer.step()
                now = invalid(neuron_values(network), network.lif.dt)
                ever = {path: ever[path] | now[path] for path in now}
                bar.update()
            accuracies.append(
                accuracy(network, data["test images"], data["test labels"], args.batch)
            )
            bar.set_postfix_str(f"test accuracy {accuracies[-1]:.2f} %")
    if arm == "reparametrised" and RANK == 0:
        print(summary(network))

    after = {path: value.cpu() for path, value in neuron_values(network).items()}
    return {
        "dataset": args.dataset,
        "arm": arm,
        "seed": seed,
        "lr": args.lr,
        "neuron lr": args.neuron_lr,
        "init": args.init,
        "accuracies": accuracies,
        "movement": {
            path: ((after[path] - before[path]).abs() / before[path]).mean().item()
            for path in before
        },
        "invalid": {path: int(mask.sum()) for path, mask in now.items()},
        "ever invalid": {path: int(mask.sum()) for path, mask in ever.items()},
        "before": {path: value.tolist() for path, value in before.items()},
        "after": {path: value.tolist() for path, value in after.items()},
        "seconds": time.perf_counter() - start,
        "torch": torch.__version__,
    }


def table(results: list[dict]) -> str:
    """One line an arm: mean and standard deviation over the seeds, invalid values seed by seed.

    "ever invalid" counts the values that were invalid after any optimizer step.
    """
    head = (
        "arm", "neuron lr", "seeds", "accuracy %", "tau_mem_inv moved %", "v_th moved %",
        "invalid tau_mem_inv", "invalid v_th", "ever invalid",
    )  # fmt: skip
    rows = [head]
    for arm, neuron_lr in dict.fromkeys((r["arm"], r["neuron lr"]) for r in results):
        group = [r for r in results if (r["arm"], r["neuron lr"]) == (arm, neuron_lr)]
        rows.append(
            (
                arm,
                f"{neuron_lr:g}",
                str(len(group)),
                _spread([r["accuracies"][-1] for r in group]),
                _spread([100 * r["movement"][TAU] for r in group]),
                _spread([100 * r["movement"][THRESHOLD] for r in group]),
                *(", ".join(str(r["invalid"][p]) for r in group) for p in (TAU, THRESHOLD)),
                ", ".join(str(sum(r["ever invalid"].values())) for r in group),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _spread(numbers: list[float]) -> str:
    mean = statistics.fmean(numbers)
    return f"{mean:.2f} +- {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else f"{mean:.2f}"


def digits() -> dict[str, Tensor]:
    """scikit-learn's 1797 handwritten digits of 8 x 8 pixels; every fifth one is a test image."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # as bright as MNIST's after its usual normalisation, and with every pixel positive
    images = torch.tensor(images, dtype=torch.float32) / 16.0 * 2.8
    labels = torch.tensor(labels)
    test = torch.arange(len(labels)) % 5 == 0
    return {
        "train images": images[~test], "train labels": labels[~test],
        "test images": images[test], "test labels": labels[test],
    }  # fmt: skip


def mnist(folder: Path, download: bool) -> dict[str, Tensor]:
    """MNIST through torchvision, normalised with its usual mean and standard deviation."""
    from torchvision.datasets import MNIST

    data = {}
    for part in ("train", "test"):
        try:
            dataset = MNIST(folder, train=part == "train", download=download)
        except RuntimeError as error:
            sys.exit(
                f"no MNIST below {folder}: torchvision expects {folder}/MNIST/raw with the four "
                f"idx files, unpacked. Give the folder with --data, or add --download, which "
                f"unpacks .gz files that are there and fetches the others.\n({error})"
            )
        images = (dataset.data.float() / 255.0 - 0.1307) / 0.3081
        data |= {f"{part} images": images.flatten(1), f"{part} labels": dataset.targets}
    return data


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data", type=Path, help="folder that holds MNIST/raw")
    parser.add_argument("--download", action="store_true", help="fetch MNIST into --data")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, help="default: 20 for digits, 10 for mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--lr", type=float, default=0.002, help="of the weights (Adam)")
    parser.add_argument("--neuron-lr", type=float, help="of tau_mem_inv and v_th; default: --lr")
    parser.add_argument(
        "--init",
        choices=("normal", "lognormal"),
        default="normal",
        help="tau_mem_inv and v_th at start: N(100, 20) and N(0.5, 0.1) as in the tutorial, or "
        "log-normal with the same spread of 20 %%",
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("mnist-results"))
    parser.add_argument(
        "--draw",
        type=Path,
        nargs="+",
        metavar="RESULTS.json",
        help="draw the pictures of stored results, all with the same axes, and train nothing",
    )
    args = parser.parse_args()
    if args.dataset == "mnist" and args.data is None and args.draw is None:
        parser.error("--dataset mnist needs --data FOLDER (and --download if it is empty)")
    if args.epochs is None:
        args.epochs = 10 if args.dataset == "mnist" else 20
    if args.neuron_lr is None:
        args.neuron_lr = args.lr
    return args


def start_processes(args: argparse.Namespace) -> None:
    """Joins the processes of torchrun: on the CPU, or each with a GPU of its own."""
    if args.device == "cuda":
        args.device = f"cuda:{LOCAL_RANK}"
        torch.cuda.set_device(LOCAL_RANK)
    dist.init_process_group("nccl" if args.device.startswith("cuda") else "gloo")


def load(args: argparse.Namespace) -> dict[str, Tensor]:
    data = digits() if args.dataset == "digits" else mnist(args.data, args.download)
    return {name: tensor.to(args.device) for name, tensor in data.items()}


def main() -> None:
    args = arguments()
    if args.draw:
        draw([result for file in args.draw for result in json.loads(file.read_text())], args.out)
        return
    if PROCESSES > 1:
        start_processes(args)
    if LOCAL_RANK > 0:
        dist.barrier()  # until the first process here has the data, which it may have to download
    data = load(args)
    if LOCAL_RANK == 0 and PROCESSES > 1:
        dist.barrier()
    if RANK == 0:
        print(
            f"{args.dataset}: {len(data['train labels'])} training and {len(data['test labels'])} "
            f"test images, {TIME_STEPS} time steps, {HIDDEN} recurrent LIF neurons, "
            f"{args.epochs} epochs"
        )
    results = [run(arm, seed, data, args) for seed in args.seeds for arm in args.arms]
    if RANK == 0:
        report(results, args)
    if PROCESSES > 1:
        dist.destroy_process_group()


def report(results: list[dict], args: argparse.Namespace) -> None:
    """Prints the table, and writes all numbers and the pictures."""
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results))
    print(f"\n{table(results)}\n")
    draw(results, args.out)
    print(f"all numbers: {args.out / 'results.json'}")


def draw(results: list[dict], folder: Path) -> None:
    """Writes a picture for each arm and learning rate, of its last seed, all with equal axes."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {picture_name(result): picture(result) for result in results}
    for panels in zip(*(figure.axes for figure in figures.values()), strict=True):
        top = max(axes.get_ylim()[1] for axes in panels)
        for axes in panels:
            axes.set_ylim(0, top)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=200)
        print(f"before and after: {folder / name}")


def picture_name(result: dict) -> str:
    """The learning rate of the neurons is part of the name where it is one of their own."""
    rate = "" if result["neuron lr"] == result["lr"] else f"-{result['neuron lr']:g}"
    return f"{result['dataset']}-{result['arm']}{rate}.png"


def picture(result: dict) -> Figure:
    """Time constants and thresholds before and after training."""
    before, after = (
        {path: torch.tensor(value) for path, value in result[side].items()}
        for side in ("before", "after")
    )
    return distributions(
        before,
        after,
        rates_in_ms=[TAU],
        labels={TAU: "membrane time constant (ms)", THRESHOLD: "threshold (membrane unit)"},
        limits=LIMITS,
        forbidden=DOMAINS,
        bins=60,
    )


if __name__ == "__main__":
    main()
