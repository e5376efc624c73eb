"""What `test_processes.py` runs in two processes of torchrun; each writes down what it saw."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from neuroparam import (
    ExpScaledLog,
    check_gradients,
    make_fixed,
    make_trainable,
    param_groups,
    summary,
    values,
)
from tests.support.cases import Case, N, spikes
from tests.support.inside import attached, whole
from tests.support.subjects import NORSE, PLAIN, ROCKPOOL, SIX, THREE, Network, network, paths

# fully_shard of torch 2.6 trains on GPUs alone
SHARDS = hasattr(torch.cpu.Stream, "record_event")
# in DDP, sharded as a whole, and sharded layer by layer
WAYS = ("ddp", "fsdp", "fsdp by layers") if SHARDS else ("ddp",)
GAIN = "neuron.p.gain"


def built(case: Case, **arguments: Any) -> Network:
    """With one value per neuron, because fully_shard refuses scalars; Rockpool's have a shape."""
    return network(case, shape=None if case is ROCKPOOL else (N,), **arguments)


def wrapped(net: nn.Module, way: str) -> nn.Module:
    if way == "ddp":
        return DistributedDataParallel(net)
    if way == "fsdp by layers":
        fully_shard(net.neuron)
    return fully_shard(net)


def joint_batch() -> Tensor:
    """Of shape (T, 4, N)."""
    return torch.cat([spikes(0), spikes(1)], dim=1)


def train(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """Three steps; what came of them, by the names that an unwrapped network has."""
    evaluations: Counter[str] = Counter()
    for a in attached(net):
        a.parameter.register_forward_hook(lambda *_, path=a.path: evaluations.update([path]))
    # not Adam, which makes whole steps out of the rounding of a gradient that is zero
    optimizer = torch.optim.SGD(param_groups(net, lr=1e-2))
    gradients = {}
    for _ in range(3):
        optimizer.zero_grad()
        net(x).clone().square().mean().backward()
        gradients = gradients or _plainly((n, p.grad) for n, p in nn.Module.named_parameters(net))
        optimizer.step()
    return {
        "evaluations": dict(evaluations),
        "gradients": gradients,
        "raw": _plainly(nn.Module.named_parameters(net)),
        "values": _plainly(values(net).items()),
    }


def _plainly(tensors: Any) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): whole(tensor).detach().clone() for name, tensor in tensors
    }


def message(act: Callable[[], object]) -> str:
    """What the error says that must come."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


class Deaf(nn.Module):
    """Has a gain to which it lets no gradient through."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(N, N)
        self.gain = torch.ones(N)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.gain.detach()


def assigned(way: str) -> dict[str, Any]:
    net = wrapped(built(PLAIN), way)
    record = (net.module if way == "ddp" else net).neuron.p
    record.tau = 7.0
    record.gain = torch.arange(1.0, N + 1)
    negative = message(lambda: setattr(record, "tau", -1.0))
    seen = {
        "values": _plainly(values(net).items()),
        "summary": str(summary(net)),
        "negative": negative,
    }
    net(joint_batch()).clone().sum().backward()
    return seen


def fixed(way: str) -> dict[str, Any]:
    net = built(PLAIN)
    around = wrapped(net, way)
    net.neuron.p.tau = 7.0
    if way == "ddp":
        plain = make_fixed(copy.deepcopy(net))
        around(joint_batch()).sum().backward()
        return {"tau": plain.neuron.p.tau, "type": type(plain.neuron.p).__name__}
    state = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    other = built(PLAIN)
    other.load_state_dict(state)
    return {
        "refused": message(lambda: make_fixed(net)),
        "copy refused": message(lambda: copy.deepcopy(net)),
        "tau": make_fixed(other).neuron.p.tau,
    }


def late() -> dict[str, Any]:
    x = joint_batch()
    net = Network(PLAIN)
    ddp = DistributedDataParallel(net)
    seen = {"ddp": message(lambda: make_trainable(ddp, paths(PLAIN)))}
    make_trainable(net, paths(PLAIN))
    seen["module of ddp"] = message(lambda: ddp(x))
    seen["module of ddp, again"] = message(lambda: ddp(x))
    seen["wrapped anew"] = message(lambda: DistributedDataParallel(net)(x).sum().backward())
    # attached again in a DDP that has been trained
    ddp = DistributedDataParallel(net)
    ddp(x).sum().backward()
    make_trainable(make_fixed(net, GAIN), GAIN)
    seen["attached again"] = message(lambda: ddp(x))
    net = fully_shard(Network(PLAIN))
    seen["fsdp"] = message(lambda: make_trainable(net, paths(PLAIN)))
    seen["part of fsdp"] = message(lambda: make_trainable(net.neuron, "gain"))
    if SHARDS:
        seen["fsdp trains on"] = message(lambda: net(x).clone().sum().backward())
    return seen


def drawn_apart() -> dict[str, Any]:
    """An initial value that differs between the processes, to which a constant is fitted."""
    x, rank = joint_batch(), dist.get_rank()
    net = built(PLAIN, init=2.0 + rank)
    ddp = DistributedDataParallel(net)
    ddp(x).sum().backward()
    seen: dict[str, Any] = {"ddp": _plainly(values(ddp).items())}
    given = make_trainable(Network(PLAIN), {GAIN: ExpScaledLog(reference=1.0 + rank)})
    seen["ddp, constants of the user"] = message(lambda: DistributedDataParallel(given)(x))
    if SHARDS:
        net = fully_shard(built(PLAIN, init=2.0 + rank))
        seen["fsdp"] = message(lambda: net(x))
    return seen


def guarded(way: str) -> str:
    net = make_trainable(Deaf(), "gain")
    net.neuron = nn.Linear(N, N)  # a layer to shard
    if way == "ddp":
        around: nn.Module = DistributedDataParallel(net, find_unused_parameters=True)
    else:
        around = wrapped(net, way)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def train() -> None:
        for _ in range(5):
            around(joint_batch()).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    return message(train)


def checked() -> dict[str, Any]:
    x = joint_batch()
    ddp = wrapped(built(PLAIN), "ddp")
    seen = {"ddp": message(lambda: check_gradients(ddp, x))}
    seen["module of ddp"] = message(lambda: check_gradients(ddp.module, x))
    seen["ddp trains on"] = message(lambda: [ddp(x).sum().backward() for _ in range(2)])
    net = wrapped(built(PLAIN), "fsdp")
    seen["fsdp"] = message(lambda: check_gradients(net, x))
    return seen


def autapses() -> Tensor:
    """The gradients by which neurons of Norse come to excite themselves, with nothing attached."""
    net = fully_shard(Network(NORSE))
    net(joint_batch()).clone().square().mean().backward()
    return whole(net.neuron.recurrent_weights.grad).diagonal().clone()


def saved(case: Case, way: str, folder: Path) -> dict[str, Any]:
    """Trains, saves a distributed checkpoint, and loads the full state dict into another."""
    net = wrapped(built(case), way)
    train(net, joint_batch()[:, dist.get_rank() :: 2])
    dcp.save(get_model_state_dict(net), checkpoint_id=folder / f"{case} {way}")
    full = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    other = wrapped(built(case, init=0.7), way)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(other, full if dist.get_rank() == 0 else {}, options=options)
    return {
        "saved": _plainly(values(net).items()),
        "loaded": _plainly(values(other).items()),
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    results: dict[str, Any] = {}
    for case in SIX:
        # fully_shard cannot give a layer of Rockpool a class of its own, attached or not
        for way in WAYS[:2] if case is ROCKPOOL else WAYS:
            net = wrapped(built(case), way)
            results[f"train {case} {way}"] = train(net, joint_batch()[:, rank::2])
    for way in WAYS:
        results[f"assigned {way}"] = assigned(way)
        results[f"fixed {way}"] = fixed(way)
        results[f"guarded {way}"] = guarded(way)
    results["late"] = late()
    results["drawn apart"] = drawn_apart()
    results["checked"] = checked()
    if SHARDS:
        results["autapses of plain Norse"] = autapses()
    results["scalar"] = message(lambda: fully_shard(network(PLAIN)))
    results["layer of Rockpool"] = [
        message(lambda make=make: fully_shard(make(ROCKPOOL).neuron)) for make in (Network, network)
    ]
    for case in THREE:
        for way in WAYS:
            results[f"saved {case} {way}"] = saved(case, way, folder)
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
