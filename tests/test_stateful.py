"""Anything in any order: attach, train, assign, save, load, copy, pickle, move, run and fix."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import reduce
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Softplus,
    cached,
    errors,
    find,
    make_fixed,
    make_trainable,
    neuron_parameters,
    summary,
    values,
)
from tests.support.cases import Case, N, spikes
from tests.support.inside import Place, all_modules, attached, is_attached
from tests.support.subjects import SIX, Network, paths

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-3, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02),
    "fused AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, fused=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=5e-3),
}

# a present value -> a map that has it in its domain
MAPS: dict[str, Callable[[Tensor], nn.Module | None]] = {
    "default": lambda present: None,
    "exp": lambda present: ExpScaledLog(),
    "softplus": lambda present: Softplus(),
    "bounded": lambda present: BoundedSigmoid(0.4 * present.min().item(), 2 * present.max().item()),
}

UNFIT = {
    "text": lambda present: "2.0",
    "another shape": lambda present: present.new_ones(7),
    "another dtype": lambda present: present.half(),
    "a history": lambda present: present * torch.ones((), requires_grad=True),
}


def in_thread(run: Callable[[], Tensor]) -> Tensor:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def in_block(manager: Callable[[], Any]) -> Callable[[Callable[[], Tensor]], Tensor]:
    def run_within(run: Callable[[], Tensor]) -> Tensor:
        with manager():
            return run()

    return run_within


WAYS: dict[str, Callable[[Callable[[], Tensor]], Tensor]] = {
    "as it is": lambda run: run(),
    "no_grad": in_block(torch.no_grad),
    "inference": in_block(torch.inference_mode),
    "cached": in_block(cached),
    "thread": in_thread,
}


def outcome(network: nn.Module) -> Tensor | str:
    """The output, or what the library itself has against the dtype of its module."""
    x = spikes().to(network.linear.weight.dtype)
    try:
        return network(x).detach()
    except (RuntimeError, TypeError) as error:
        return str(error)


def same(one: Tensor | str, other: Tensor | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return torch.equal(one, other)


def stored(network: nn.Module, path: str) -> Tensor:
    """What the module holds at a path, attached or not, as a tensor."""
    value = reduce(getattr, path.split("."), network)
    return torch.as_tensor(value).detach().clone()


def hooks(network: nn.Module) -> list[int]:
    return [
        len(store)
        for part in all_modules(network)
        for name, store in sorted(part.__dict__.items())
        if name.endswith("_hooks")
    ]


def pickles(network: nn.Module) -> bool:
    """Whether the library's own module does."""
    try:
        pickle.dumps(network)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


# What is drawn may reach beyond the range to which a library clamps a value, which is said.
pytestmark = pytest.mark.filterwarnings("ignore::neuroparam.errors.MisuseWarning")


class Life(RuleBasedStateMachine):
    """A network, and beside it the numbers that it must have."""

    @initialize(case=st.sampled_from(SIX))
    def build(self, case: Case) -> None:
        self.network: nn.Module = Network(case)
        self.plain = Network(case)  # to compare with; never touched
        self.pickles = pickles(self.plain)
        self.expected = {path: stored(self.network, path) for path in paths(case)}
        self.trainable: set[str] = set()
        self.optimizer: torch.optim.Optimizer | None = None
        self.saved: tuple[bytes, dict[str, Tensor], list[object]] | None = None
        self.witness: tuple[nn.Module, dict[str, Tensor], Tensor | str] | None = None

    def forget_history(self) -> None:
        """A library's own module is not copied with a history in its states; ours is."""
        if not self.trainable:
            with torch.no_grad():
                outcome(self.network)

    def twin(self) -> nn.Module:
        """A plain network with the same values."""
        self.forget_history()
        return make_fixed(copy.deepcopy(self.network))

    def refresh(self) -> None:
        self.expected = {path: stored(self.network, path) for path in self.expected}

    def assign(self, path: str, value: object) -> None:
        owner, _, name = path.rpartition(".")
        setattr(self.network.get_submodule(owner), name, value)

    def disturb(self) -> None:
        """Other values than before, as between saving and loading."""
        bounds = self.bounds()
        for path, value in values(self.network).items():
            self.assign(path, value * (0.95 if (0.95 * value > bounds[path][0]).all() else 1.05))

    def bounds(self) -> dict[str, tuple[float, float]]:
        return {a.path: a.parameter.bounds for a in attached(self.network)}

    # ------------------------------------------------------------------------------- the deeds

    @precondition(lambda self: len(self.trainable) < len(self.expected))
    @rule(data=st.data(), pattern=st.booleans(), per_neuron=st.booleans())
    def attach(self, data: st.DataObject, pattern: bool, per_neuron: bool) -> None:
        free = sorted(self.expected.keys() - self.trainable)
        chosen = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        names: dict[str, nn.Module | None] = {}
        inits: dict[str, Any] = {}
        shapes: dict[str, Any] = {}
        for path in chosen:
            name = f"n*.{path.partition('.')[2]}" if pattern else path
            present = self.expected[path]
            names[name] = MAPS[data.draw(st.sampled_from(sorted(MAPS)))](present)
            if per_neuron and present.ndim == 0:
                shapes[name] = (N,)
                present = present.expand(N)
            init = data.draw(st.sampled_from(["present", "number", "tensor", "function"]))
            wanted = present if init == "present" else 0.9 * present
            inits[name] = {
                "present": None,
                "number": wanted.mean().item(),
                "tensor": wanted,
                "function": lambda shape, wanted=wanted: wanted.expand(shape),
            }[init]
            if init == "number":
                wanted = torch.full_like(present, wanted.mean().item())
            self.expected[path] = wanted.clone()
        make_trainable(self.network, names, inits, shape=shapes)
        self.trainable |= {*chosen}

    @precondition(lambda self: self.quantities())
    @rule(data=st.data(), map_=st.sampled_from([None, ExpScaledLog(), Softplus()]))
    def attach_quantity(self, data: st.DataObject, map_: nn.Module | None) -> None:
        free = self.quantities()
        chosen = data.draw(st.sampled_from(sorted(free, key=str)))
        make_trainable(self.network, {chosen: map_}, dt=1e-3)
        self.trainable |= free[chosen]

    def quantities(self) -> dict[Any, set[str]]:
        """Of which nothing is attached yet -> where they are."""
        found: dict[Any, set[str]] = {}
        for candidate in find(self.network):
            if candidate.quantity is not None:
                found.setdefault(candidate.quantity, set()).add(candidate.path)
        return {q: places for q, places in found.items() if not places & self.trainable}

    @precondition(lambda self: self.trainable)
    @rule(data=st.data())
    def attach_twice(self, data: st.DataObject) -> None:
        with pytest.raises(errors.AlreadyTrainableError):
            make_trainable(self.network, data.draw(st.sampled_from(sorted(self.trainable))))

    @rule(
        name=st.sampled_from(sorted(OPTIMIZERS)),
        anew=st.booleans(),
        steps=st.integers(1, 3),
        block=st.booleans(),
    )
    def train(self, name: str, anew: bool, steps: int, block: bool) -> None:
        if isinstance(outcome(self.network), str):
            return  # in this dtype the library does not run, see `outcome`
        if self.optimizer is None or anew:
            # not what is plain, which an optimizer may drive anywhere
            weights = self.network.linear.parameters()
            self.optimizer = OPTIMIZERS[name]([*weights, *neuron_parameters(self.network)])
        x = spikes().to(self.network.linear.weight.dtype)
        with warnings.catch_warnings(), cached() if block else nullcontext():
            # one built before attaching lacks what is new, of which it warns
            warnings.filterwarnings("ignore", message="(?s).*Build the optimizer after")
            for _ in range(steps):
                self.optimizer.zero_grad()
                self.network(x).square().mean().backward()
                assert all(raw.grad is not None for raw in neuron_parameters(self.network))
                self.optimizer.step()
        self.expected |= values(self.network)

    @precondition(lambda self: self.trainable)
    @rule(
        data=st.data(),
        factor=st.sampled_from([0.9, 1.1, 1e6, 0.0, -1.0, float("nan"), float("inf")]),
        single=st.booleans(),
    )
    def assign_some_value(self, data: st.DataObject, factor: float, single: bool) -> None:
        path = data.draw(st.sampled_from(sorted(self.trainable)))
        value = factor * stored(self.network, path)
        if single:
            value = torch.full_like(value, value.flatten()[0].item())
        low, high = self.bounds()[path]
        given = value.flatten()[0].item() if single else value
        if ((low < value) & (value < high) & value.isfinite()).all():
            self.assign(path, given)
            self.expected[path] = value
        else:
            with pytest.raises(errors.OutOfDomainError, match=path):
                self.assign(path, given)

    @precondition(lambda self: self.trainable)
    @rule(data=st.data(), what=st.sampled_from(sorted(UNFIT)))
    def assign_what_is_unfit(self, data: st.DataObject, what: str) -> None:
        path = data.draw(st.sampled_from(sorted(self.trainable)))
        with pytest.raises(errors.AssignmentError, match=path):
            self.assign(path, UNFIT[what](stored(self.network, path)))

    @rule()
    def save(self) -> None:
        file = io.BytesIO()
        torch.save(self.network.state_dict(), file)
        self.saved = file.getvalue(), dict(self.expected), self.described()

    def described(self) -> list[object]:
        """What a checkpoint must agree with: keys, shapes and constants."""
        shapes = [(k, getattr(v, "shape", None)) for k, v in self.network.state_dict().items()]
        return [*sorted(shapes), *(repr(a.parameter) for a in attached(self.network))]

    @precondition(lambda self: self.saved is not None)
    @rule(assign=st.booleans())
    def load(self, assign: bool) -> None:
        assert self.saved is not None
        checkpoint, expected, described = self.saved
        self.optimizer = None  # as in move, and `assign` replaces the Parameters
        state = torch.load(io.BytesIO(checkpoint), weights_only=True)
        fits = described == self.described()
        try:
            self.network.load_state_dict(state, assign=assign)
        except (errors.CheckpointError, errors.OutOfDomainError):
            assert not fits  # from another time of its life; nothing of it may have come in
        except RuntimeError:
            assert not self.trainable
            self.refresh()  # torch itself has loaded what fits
        else:
            held = {path for path in expected if path in self.trainable or path in state}
            self.expected |= {path: expected[path] for path in held}

    @rule(assign=st.booleans())
    def save_and_load(self, assign: bool) -> None:
        self.save()
        self.disturb()
        self.load(assign)

    @precondition(lambda self: self.trainable)
    @rule()
    def load_a_plain_checkpoint(self) -> None:
        plain = self.twin().state_dict()
        self.disturb()
        held = {a.path: a.parameter.storage.in_state_dict for a in attached(self.network)}
        if all(held.values()):
            self.network.load_state_dict(plain)
            return
        self.refresh()
        with pytest.raises(errors.CheckpointError):
            self.network.load_state_dict(plain)

    @rule(go_on_with_copy=st.booleans())
    def deepcopy(self, go_on_with_copy: bool) -> None:
        self.forget_history()
        other = copy.deepcopy(self.network)
        if go_on_with_copy:
            self.network, other = other, self.network
            self.optimizer = None
        self.witness = other, values(other), outcome(other)

    @precondition(lambda self: self.pickles)
    @rule()
    def pickle(self) -> None:
        self.network = pickle.loads(pickle.dumps(self.network))
        self.optimizer = None

    @rule(dtype=st.sampled_from([torch.float32, torch.float64]))
    def move(self, dtype: torch.dtype) -> None:
        self.network.to(dtype)
        self.optimizer = None  # whose moments have the old dtype

    @rule(way=st.sampled_from(sorted(WAYS)), times=st.integers(1, 2))
    def run(self, way: str, times: int) -> None:
        reference = outcome(self.network)
        self.forget_history()
        # Sinabs, attached or not, cannot reset a state that was made in inference mode
        network = copy.deepcopy(self.network) if way == "inference" else self.network
        for _ in range(times):
            assert same(WAYS[way](lambda: outcome(network)), reference)

    @precondition(lambda self: self.trainable)
    @rule(data=st.data())
    def fix(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(sorted(self.trainable)), unique=True))
        make_fixed(self.network, some or None)
        self.trainable -= {*some} or self.trainable.copy()
        self.optimizer = None  # which would go on with the Parameters, plain now

    # ------------------------------------------------------------------------ what always holds

    @invariant()
    def the_values_are_the_expected_ones(self) -> None:
        present = values(self.network)
        assert present.keys() == self.trainable
        bounds = self.bounds()
        for path, value in self.expected.items():
            mine = stored(self.network, path)
            torch.testing.assert_close(mine, value, rtol=1e-5, atol=0, check_dtype=False)
            if path in self.trainable:
                assert torch.equal(mine, present[path])
                assert mine.isfinite().all()
                low, high = bounds[path]
                assert ((low < mine) & (mine < high)).all()

    @invariant()
    def tables_show_them(self) -> None:
        table = summary(self.network)
        assert all(path in table for path in self.trainable)
        shown = {c.path: c for c in find(self.network)}
        assert self.expected.keys() <= shown.keys()
        assert {p for p, c in shown.items() if c.storage == "attached"} == self.trainable

    @invariant()
    def it_is_the_plain_one_and_a_raw_tensor_for_each_value(self) -> None:
        fixed = self.twin()
        self.check_names(fixed)
        self.check_plain(fixed)
        if not self.trainable:
            self.check_plain(self.network)
        output = outcome(fixed)
        if "sj_lif::forward() Expected a value of type 'float'" not in str(output):
            assert same(output, outcome(self.network))
        else:  # SpikingJelly's operators take one number for all neurons
            assert any(value.ndim for value in self.expected.values())

    def check_names(self, fixed: nn.Module) -> None:
        prefixes = {self.raw_prefix(a): a for a in attached(self.network)}
        raws = {f"{prefix}original" for prefix in prefixes}
        names = [name for name, _ in nn.Module.named_parameters(self.network)]
        plain = {name for name, _ in nn.Module.named_parameters(self.plain)}
        assert {*names} == (plain - self.trainable) | raws
        assert len(names) == len({*names})
        constants = {
            f"{prefix}{index}._extra_state"
            for prefix, a in prefixes.items()
            for index in range(len(a.parameter))
        }
        # not those of self.plain: forwards add states
        keys = {*fixed.state_dict()}
        assert {*self.network.state_dict()} == (keys - self.trainable) | raws | constants

    def raw_prefix(self, found: Place) -> str:
        return f"{found.path.removesuffix(found.attribute)}parametrizations.{found.attribute}."

    def check_plain(self, network: nn.Module) -> None:
        """Nothing is left of us."""
        assert not is_attached(network)
        assert [*map(type, all_modules(network))] == [*map(type, all_modules(self.plain))]
        assert hooks(network) == hooks(self.plain)
        assert network.__dict__.keys() == self.plain.__dict__.keys()
        for path in self.expected:
            mine, its = (self.holder(n, path) for n in (network, self.plain))
            assert type(mine) is type(its)

    def holder(self, network: nn.Module, path: str) -> object:
        """The module or record that holds a value."""
        return reduce(getattr, path.split(".")[:-1], network)

    @invariant()
    def the_other_copy_is_what_it_was(self) -> None:
        if self.witness is not None:
            other, then, output = self.witness
            now = values(other)
            assert now.keys() == then.keys()
            assert all(torch.equal(now[path], value) for path, value in then.items())
            assert same(outcome(other), output)


class TestLife(Life.TestCase):  # type: ignore[name-defined]
    settings = settings(stateful_step_count=15)
