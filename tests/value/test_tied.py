"""One thing in two places, the same thing time after time, and nothing left when it is gone."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor, nn

from neuroparam import (
    ExpScaledLog,
    Softplus,
    cached,
    check_gradients,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.support.cases import Case, spikes
from tests.support.counting import Counting, evaluations
from tests.support.inside import all_modules, attached, evidence, injected, optimizers, processes
from tests.support.modules import INPUT, FromRecord, Pair, assert_unchanged, snapshot
from tests.support.subjects import NORSE, PLAIN, SINABS, SIX, SNNTORCH, Network, network, paths

every_network = pytest.mark.parametrize("case", SIX, ids=str)


@pytest.fixture(autouse=True)
def no_garbage_of_other_tests() -> None:
    """What other tests have left, such as exported programs, goes only by several collections."""
    while gc.collect():
        pass


# ----------------------------------------------------------- one Parameter, registered twice


def two_cells() -> nn.Sequential:
    """Two modules that hold one Parameter."""
    tied = nn.Parameter(torch.tensor(4.0))
    return nn.Sequential(FromRecord(Pair(tied)), FromRecord(Pair(tied, 3.0)))


@pytest.mark.parametrize("names", ["0.p.tau", "1.p.tau", "*.tau", ["0.p.tau", "1.p.tau"]])
def test_a_tied_parameter_is_refused_naming_both(names) -> None:
    cells = two_cells()
    before = snapshot(cells)
    with pytest.raises(errors.TiedParameterError, match=r"0\.p\.tau, 1\.p\.tau") as caught:
        make_trainable(cells, names)
    assert caught.value.paths == ["0.p.tau", "1.p.tau"]
    assert_unchanged(cells, before)
    make_trainable(cells, "*.gain")  # what is not tied is free


def test_what_the_refusal_advises_works() -> None:
    one = two_cells()
    one[1] = one[0]
    assert list(values(make_trainable(one, "p.tau"))) == ["0.p.tau"]

    own = two_cells()
    own[1].p = own[1].p._replace(tau=nn.Parameter(own[1].p.tau.detach().clone()))
    assert list(values(make_trainable(own, "*.tau"))) == ["0.p.tau", "1.p.tau"]

    without = two_cells()
    del without[1].p
    assert list(values(make_trainable(without, "tau"))) == ["0.p.tau"]


# -------------------------------------------------------------- one neuron module, used twice


class Twice(Network):
    """One neuron module before and behind a linear layer."""

    def __init__(self, case: Case):
        super().__init__(case)
        self.again = self.neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.again, self.linear(super().forward(x)))


def both(case: Case) -> list[str]:
    return [*paths(case), *(f"again.{name}" for name in case.trains)]


def twice(case: Case) -> Twice:
    return make_trainable(Twice(case), paths(case))


@every_network
def test_one_module_in_two_places_gets_the_sum_of_both_gradients(case: Case) -> None:
    one = twice(case)
    apart = Twice(case)
    apart.again = copy.deepcopy(apart.neuron)
    make_trainable(apart, both(case))
    assert torch.equal(one(spikes()), apart(spikes()))
    if case is SINABS:  # its reset detaches in place what the first run needs for its gradient
        for module in (Twice(case), one):
            with pytest.raises(RuntimeError, match="detached in-place"):
                module(spikes()).sum().backward()
        return
    mine, its = check_gradients(one, spikes()), check_gradients(apart, spikes())
    assert len(neuron_parameters(one)) == len(case.trains)
    assert list(mine) == paths(case)
    for name in case.trains:
        torch.testing.assert_close(
            mine[f"neuron.{name}"], its[f"neuron.{name}"] + its[f"again.{name}"]
        )


def test_it_is_evaluated_once_per_forward() -> None:
    module = make_trainable(Twice(NORSE), {"neuron.p.v_th": Counting()})
    assert evaluations(lambda: module(spikes())) == 1


@every_network
def test_it_is_attached_and_fixed_by_either_path(case: Case) -> None:
    plain, x = Twice(case), spikes()
    output = plain(x).detach()
    for path in both(case):
        (value,) = values(make_trainable(Twice(case), path)).values()
        for other in (path, path.partition(".")[2], f"*.{path.partition('.')[2]}"):
            module = make_trainable(Twice(case), path)
            assert module.again is module.neuron
            torch.testing.assert_close(module(x).detach(), output)
            with pytest.raises(errors.AlreadyTrainableError):
                make_trainable(module, other)
            assert values(make_fixed(module, other)) == {}
            assert [*map(type, all_modules(module))] == [*map(type, all_modules(plain))]
        assert value.isfinite().all()
    by_pattern = make_trainable(Twice(case), [f"*.{name}" for name in case.trains])
    assert list(values(by_pattern)) == paths(case)


@every_network
@pytest.mark.parametrize("assign", [False, True])
def test_its_checkpoint_has_both_key_sets_and_loads(case: Case, assign: bool) -> None:
    source, target = twice(case), twice(case)
    change(source)
    source(spikes()), target(spikes())  # so that states have one shape
    state = source.state_dict()
    raws = [key for key in state if key.endswith(".original")]
    assert len(raws) == 2 * len(case.trains)
    target.load_state_dict(state, assign=assign)
    assert len({*neuron_parameters(target)}) == len(case.trains)
    for path, value in values(source).items():
        assert torch.equal(values(target)[path], value)
    assert torch.equal(target(spikes()), source(spikes()))


@every_network
def test_copies_keep_it_one(case: Case) -> None:
    source = twice(case)
    output = source(spikes())
    copies = [copy.deepcopy(source)]
    try:
        pickle.dumps(Twice(case))
    except (AttributeError, pickle.PicklingError):
        pass  # nor does the library's own
    else:
        copies.append(pickle.loads(pickle.dumps(source)))
    for copied in copies:
        assert copied.neuron is copied.again
        assert len(neuron_parameters(copied)) == len(case.trains)
        assert torch.equal(copied(spikes()), output)
        before = values(copied)
        change(source)
        assert all(torch.equal(values(copied)[path], value) for path, value in before.items())
        make_fixed(copied)
        assert copied.neuron is copied.again


def change(module: nn.Module) -> None:
    """Other values, which are valid and still spike."""
    for a in attached(module):
        setattr(a.owner, a.attribute, 0.9 * values(module)[a.path])


# ------------------------------------------------------------------------ time after time


def ours() -> Counter[str]:
    """How many objects of our own classes, made classes among them, and tensors are alive."""
    gc.collect()
    counted: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, Tensor) or str(kind.__module__).startswith("neuroparam"):
            counted[kind.__name__] += 1
    for registry in (injected.classes, evidence.accumulated, processes.shared):
        counted[str(type(registry))] += len(registry)
    counted["replaced"] = len(optimizers.replaced)
    return counted


def live(module: nn.Module, case: Case) -> None:
    """Attached, trained, read, refused, fixed."""
    init = {path: lambda shape, v=v: 1.001 * v for path, v in stored(module, case)}
    make_trainable(module, paths(case), init)
    optimizer = torch.optim.SGD(neuron_parameters(module), lr=1e-6)
    module(spikes()).sum().backward()
    optimizer.step()
    module(spikes())  # whose graph no backward pass uses up
    with pytest.raises(errors.AlreadyTrainableError):
        make_trainable(module, paths(case))
    make_fixed(module)


@every_network
def test_attach_and_fix_a_hundred_times_leaves_nothing_behind(case: Case) -> None:
    module = Network(case)
    module(spikes()).sum().backward()
    live(module, case)
    before, kinds, hooks = ours(), [*map(type, all_modules(module))], all_hooks(module)
    everything = len(gc.get_objects())
    for _ in range(100):
        live(module, case)
    assert ours() == before
    assert len(gc.get_objects()) - everything < 50
    assert [*map(type, all_modules(module))] == kinds
    assert all_hooks(module) == hooks
    for path, value in stored(module, case):
        assert value.isfinite().all(), path


def test_memory_stays_what_it_is() -> None:
    module = Network(PLAIN)
    memory = []
    tracemalloc.start()
    try:
        for _ in range(7):
            for _ in range(80):
                live(module, PLAIN)
            gc.collect()
            memory.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # in bytes; each life makes hundreds of objects, and what stays of tables goes up and down.
    # Python's own tables fill in the first rounds.
    assert memory[6] - memory[3] < 3 * 80 * 100


def all_hooks(module: nn.Module) -> list[tuple[str, int]]:
    stores = (item for part in all_modules(module) for item in part.__dict__.items())
    return [(name, len(store)) for name, store in stores if name.endswith("_hooks")]


def stored(module: nn.Module, case: Case) -> Iterator[tuple[str, Tensor]]:
    for path in paths(case):
        value: Any = module
        for part in path.split("."):
            value = getattr(value, part)
        yield path, torch.as_tensor(value).detach()


@pytest.mark.parametrize("parametrization", [ExpScaledLog(), Softplus()], ids=repr)
def test_reads_and_forwards_without_a_backward_pass_keep_no_graph(parametrization) -> None:
    module = make_trainable(FromRecord(Pair()), {"tau": parametrization})
    for _ in range(3):  # What serves later forwards is kept by now.
        module(INPUT), module.p.tau
    before = ours()
    for _ in range(10):
        module(INPUT), module.p.tau
    assert ours() == before


# ------------------------------------------------------------------------------ when it is gone


def fails(module: Network) -> None:
    with pytest.raises(RuntimeError):
        module(torch.ones(2, 2, 7))


def in_a_block(module: Network) -> None:
    with cached():
        module(spikes()).sum().backward()
        module(spikes())


def is_refused(module: Network) -> None:
    def write(_: nn.Module, x: Tensor) -> Tensor:
        place = next(attached(module))
        getattr(place.owner, place.attribute).data.mul_(2.0)
        return x

    module.run = write
    with pytest.raises(errors.AssignmentError, match="written in place"):
        module(spikes())


LAST_DEEDS: dict[str, Callable[[Network], object]] = {
    "nothing": lambda module: None,
    "a forward": lambda module: module(spikes()),
    "a forward under no_grad": lambda module: torch.no_grad()(module)(spikes()),
    "a backward pass": lambda module: module(spikes()).sum().backward(),
    "a failed forward": fails,
    "a refused forward": is_refused,
    "cached()": in_a_block,
    "check_gradients": lambda module: check_gradients(module, spikes()),
    "a copy": lambda module: copy.deepcopy(module)(spikes()),
    "a step": lambda module: (
        module(spikes()).sum().backward(),
        torch.optim.Adam(neuron_parameters(module)).step(),
    ),
    "a checkpoint": lambda module: module.load_state_dict(module.state_dict()),
    "fixing": make_fixed,
}


@every_network
@pytest.mark.parametrize("deed", LAST_DEEDS)
def test_nothing_of_a_deleted_network_is_alive(case: Case, deed: str) -> None:
    classes = {*map(id, injected.classes.values())}  # which other tests may still need
    module = network(case)
    own = {*all_modules(module)} - {*all_modules(Network(case))}  # surrogate functions are shared
    made = {kind for kind in injected.classes.values() if id(kind) not in classes}
    left = [weakref.ref(thing) for thing in (*own, *neuron_parameters(module), *made)]
    LAST_DEEDS[deed](module)
    del module, own, made
    if case is SNNTORCH:
        snntorch.SpikingNeuron.init()  # it keeps every neuron that was ever built
    gc.collect()
    assert [ref() for ref in left if ref() is not None] == []
