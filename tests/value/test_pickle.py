"""Pickles and other processes: a module arrives whole, or its library says why it cannot."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler

import pytest
import snntorch
import torch
from torch import Tensor, multiprocessing, nn
from torch.utils.data import DataLoader

from neuroparam import errors, make_fixed, make_trainable, values
from tests.support.cases import Case, spikes
from tests.support.modules import INPUT, STORAGES, FromRecord, Pair
from tests.support.other_process import Filtered, answers, shared_with_a_fork
from tests.support.subjects import (
    NORSE,
    PLAIN,
    ROCKPOOL,
    SINABS,
    SNNTORCH,
    SPIKINGJELLY,
    Network,
    network,
)

PICKLED = [PLAIN, NORSE, SPIKINGJELLY, SINABS]

# Python 3.12 warns of fork in a process with threads, which torch starts
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def by_pickle(net: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(net))


def by_torch(net: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def spike_gradient(x: Tensor) -> Tensor:
    return snntorch.surrogate.ATan.apply(x, 2.0)


@pytest.mark.parametrize("copied", [by_pickle, by_torch, copy.copy])
@pytest.mark.parametrize("name", STORAGES)
def test_every_way_of_storing_survives(name: str, copied: Callable) -> None:
    build, path = STORAGES[name]
    net = make_trainable(build(), path)
    net(INPUT)
    other = copied(net)
    assert torch.equal(other(INPUT), net(INPUT))
    for part, twin in zip(net.modules(), other.modules(), strict=True):
        assert type(twin) is type(part)
    other(INPUT).sum().backward()
    fixed = make_fixed(copy.deepcopy(other))
    assert [type(part) for part in fixed.modules()] == [type(part) for part in build().modules()]


@pytest.mark.parametrize("copied", [by_pickle, by_torch])
@pytest.mark.parametrize("after_a_forward", [False, True])
@pytest.mark.parametrize("case", PICKLED, ids=str)
def test_a_network_survives(case: Case, after_a_forward: bool, copied: Callable) -> None:
    net = network(case)
    if after_a_forward:
        net(spikes())
    other = copied(net)
    here, there = answers(net, spikes()), answers(other, spikes())
    torch.testing.assert_close(there, here, rtol=0, atol=0)
    # and it is independent
    before = values(net)
    with torch.no_grad():
        for parameter in nn.Module.parameters(other):
            parameter.add_(0.1)
    assert all(torch.equal(values(net)[path], value) for path, value in before.items())
    assert all((values(other)[path] != value).all() for path, value in before.items())
    assert type(make_fixed(other).neuron) is type(Network(case).neuron)
    assert not other._forward_pre_hooks


class Deaf(nn.Module):
    """Has a rate to which it lets no gradient through."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.5
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.as_tensor(self.rate).detach()


def test_the_guard_survives() -> None:
    copied = by_pickle(make_trainable(Deaf(), "rate"))
    optimizer = torch.optim.SGD(copied.parameters(), lr=1e-3)

    def step() -> None:
        copied(INPUT).sum().backward()
        optimizer.step()

    step()
    step()
    with pytest.raises(errors.NoGradientError, match="rate"):
        step()


@pytest.mark.parametrize("build", [Network, network])
@pytest.mark.parametrize(
    ("case", "found"),
    [(SNNTORCH, "atan.<locals>.inner"), (ROCKPOOL, "ParameterBase.__init__.<locals>.<lambda>")],
    ids=str,
)
def test_functions_in_functions_are_not_pickled_attached_or_not(
    case: Case, found: str, build: Callable
) -> None:
    with pytest.raises((AttributeError, pickle.PicklingError), match=found):
        pickle.dumps(build(case))
    state = by_pickle(build(case).state_dict())  # what to keep instead
    build(case).load_state_dict(state)


def test_snntorch_with_a_surrogate_that_has_a_name() -> None:
    leaky = make_trainable(
        snntorch.Leaky(beta=0.8, spike_grad=spike_gradient, init_hidden=True), "beta"
    )
    other = by_pickle(leaky)
    assert torch.equal(other(INPUT), leaky(INPUT))
    assert type(make_fixed(other)) is snntorch.Leaky


def test_norse_is_pickled_where_every_record_is_attached() -> None:
    # Norse's own classes of parameters are not where they say they are
    with pytest.raises(pickle.PicklingError, match="LIFParameters"):
        pickle.dumps(Network(NORSE))
    fixed = make_fixed(by_pickle(network(NORSE)))
    assert type(fixed.neuron.p) is type(Network(NORSE).neuron.p)
    with pytest.raises(pickle.PicklingError, match="LIFParameters"):
        pickle.dumps(fixed)


def test_states_with_a_history_stay_behind() -> None:
    plain = Network(SINABS)
    plain(spikes())
    # a pickle makes them leaves that require gradients, and other processes may not have them
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        by_pickle(plain)(spikes())
    with pytest.raises(RuntimeError, match="refusing to serialize non-leaf tensor"):
        ForkingPickler.dumps(plain)
    net = network(SINABS)
    net(spikes())
    ForkingPickler.dumps(net)
    assert net.neuron.v_mem.grad_fn is not None
    assert torch.equal(by_pickle(net).neuron.v_mem, net.neuron.v_mem)


# torch keeps no hooks on Parameters: Norse's, by which neurons do not excite themselves
@pytest.mark.filterwarnings("ignore:backward hook .*autapse_hook:UserWarning")
def test_spawned() -> None:
    nets = [network(case) for case in PICKLED]
    here = [answers(net, spikes()) for net in nets]  # also leaves states with a history
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.starmap(answers, [(net, spikes()) for net in nets], chunksize=len(nets))
    torch.testing.assert_close(there, here)


def test_forked_with_shared_memory() -> None:
    net = make_trainable(FromRecord(Pair()), ["tau", "gain"], shape=(3,))
    # torch refuses a backward in a fork of a process in which autograd has threads already, as
    # other tests may have started them here. A fresh process has none.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as executor:
        found = executor.submit(shared_with_a_fork, net, INPUT).result()
    torch.testing.assert_close(found["there"], found["here"], rtol=0, atol=0)
    # written there, seen here
    torch.testing.assert_close(found["after"]["values"]["p.tau"], torch.full((3,), 9.0))
    assert not torch.equal(found["after"]["output"], found["here"]["output"])


@forks
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_data_loader_with_a_model(method: str) -> None:
    net = make_trainable(FromRecord(Pair()), ["tau", "gain"], shape=(3,))
    net(INPUT).sum().backward()
    data = Filtered(net)
    loader = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context=method)
    for _ in range(2 if method == "fork" else 1):
        batches = torch.cat(list(loader))
        assert torch.equal(batches, torch.stack([data[index] for index in range(4)]))
        net.p.tau = 8.0  # the next workers start with it
