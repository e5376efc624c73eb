"""Copies share nothing: neither can be harmed by what is done to the other."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from neuroparam import ExpScaledLog, make_fixed, make_trainable, neuron_parameters, values
from tests.support.cases import Case, spikes
from tests.support.inside import is_attached
from tests.support.subjects import SIX, SNNTORCH, Network, network, paths

every_network = pytest.mark.parametrize("case", SIX, ids=str)
after_a_forward = pytest.mark.parametrize("forward", [False, True], ids=["fresh", "run"])


def trains(module: nn.Module) -> None:
    """One step moves every attached value, and the values stay readable."""
    before = values(module)
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=0.05)
    module(spikes()).square().mean().backward()
    optimizer.step()
    for path, value in values(module).items():
        assert (value != before[path]).all(), path


def assign_all(module: nn.Module) -> None:
    """Other values, by assignment; valid ones, a little off the present ones."""
    for path, value in values(module).items():
        owner, _, name = path.rpartition(".")
        setattr(module.get_submodule(owner), name, 0.9 * value)


# what is done to one of the two
DEEDS: dict[str, Callable[[nn.Module, Case], object]] = {
    "fix all": lambda module, case: make_fixed(module),
    "fix one": lambda module, case: make_fixed(module, paths(case)[0]),
    "fix and attach anew": lambda module, case: make_trainable(make_fixed(module), paths(case)),
    "attach another": lambda module, case: make_trainable(
        module, {"linear.bias": ExpScaledLog()}, init=1.0
    ),
    "train": lambda module, case: trains(module),
    "assign": lambda module, case: assign_all(module),
    "convert": lambda module, case: module.double(),
    "load": lambda module, case: module.load_state_dict(
        {k: v if k.endswith("_extra_state") else 0.5 * v for k, v in module.state_dict().items()}
    ),
}


@every_network
@after_a_forward
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("to", ["copy", "source"])
def test_nothing_done_to_one_is_felt_by_the_other(
    case: Case, forward: bool, deed: str, to: str
) -> None:
    source = network(case)
    if forward:
        source(spikes()).sum().backward()
    copied = copy.deepcopy(source)
    done_to, other = (copied, source) if to == "copy" else (source, copied)
    before, output = values(other), other(spikes()).detach()
    DEEDS[deed](done_to, case)
    assert values(other).keys() == before.keys()
    assert all(torch.equal(values(other)[path], value) for path, value in before.items())
    assert torch.equal(other(spikes()), output)
    trains(other)


@every_network
@after_a_forward
def test_a_copy_is_the_same_and_shares_no_tensor(case: Case, forward: bool) -> None:
    source = network(case)
    if forward:
        source(spikes()).sum().backward()
    copied = copy.deepcopy(source)
    assert [type(part) for part in nn.Module.modules(copied)] == [
        type(part) for part in nn.Module.modules(source)
    ]
    assert torch.equal(copied(spikes()), source(spikes()))
    mine, its = source.state_dict(), copied.state_dict()  # both alive: each has memory of its own
    pointers = [{tensor.data_ptr() for tensor in state.values()} for state in (mine, its)]
    assert not pointers[0] & pointers[1]
    # and a copy of the copy is one too
    trains(copy.deepcopy(copied))


@every_network
def test_averaging_the_weights(case: Case) -> None:
    source = network(case)
    source(spikes())  # snnTorch and Sinabs keep states in buffers, whose size torch compares
    average = AveragedModel(source, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.update_parameters(source)  # the first one copies
    raws = [raw.detach().clone() for raw in neuron_parameters(source)]
    trains(source)
    average.update_parameters(source)
    for raw, old, new in zip(
        neuron_parameters(average), raws, neuron_parameters(source), strict=True
    ):
        torch.testing.assert_close(raw.detach(), (old + new.detach()) / 2)  # raw, not the value
    average(spikes())
    kept = values(average)
    make_fixed(source)
    assert all(torch.equal(value, kept[path]) for path, value in values(average).items())
    plain = make_fixed(copy.deepcopy(average.module))
    assert isinstance(plain, Network)
    assert not is_attached(plain)
    torch.testing.assert_close(plain(spikes()), average(spikes()))


def test_averaging_with_buffers_updates_and_attaches_again() -> None:
    source = network(SNNTORCH)
    source(spikes())
    average = AveragedModel(source, use_buffers=True)
    average.update_parameters(source)
    trains(source)
    average.update_parameters(source)
    make_trainable(average, {"module.linear.bias": ExpScaledLog()}, init=1.0)
    assert "linear.bias" not in values(source)
    trains(average)
    trains(source)


@every_network
def test_two_copies_of_one_module_train_apart(case: Case) -> None:
    one = network(case)
    two = copy.deepcopy(one)
    both = nn.ModuleList([one, two])
    optimizer = torch.optim.SGD(neuron_parameters(both), lr=0.1)
    (one(spikes()).sum() - two(spikes()).sum()).backward()
    for mine, its in zip(neuron_parameters(one), neuron_parameters(two), strict=True):
        torch.testing.assert_close(mine.grad, -its.grad)
    optimizer.step()
    assert all((values(one)[path] != values(two)[path]).any() for path in values(one))
