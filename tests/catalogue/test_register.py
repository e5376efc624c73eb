"""`register` and the entry points: libraries that users add to the catalogue."""

from __future__ import annotations

import copy
import importlib.metadata
import pickle
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import norse.torch as norse
import pytest
import torch
from torch import Tensor, nn

from neuroparam import (
    ExpScaledLog,
    Quantity,
    check_gradients,
    errors,
    find,
    make_fixed,
    make_trainable,
    register,
    summary,
    values,
)
from neuroparam.catalogue import (
    Adapted,
    Library,
    Refused,
    Trains,
    between_zero_and_one,
    own_step,
    plain_class,
    store,
    stored,
    threshold,
)
from neuroparam.units import Decay
from tests.support.inside import catalogue


class ToyLIF(nn.Module):
    """Stores a decay, a threshold, and a kernel that casts its decay to a float."""

    __module__ = "toysnn.neurons"

    def __init__(self) -> None:
        super().__init__()
        self.leak = 0.9
        self.level = torch.tensor(1.0)
        self.gain = 3.0
        self.kernel = Fused()

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x[0])
        for step in x:
            v = self.kernel(v, step, self.leak)
        return torch.sigmoid(v - self.level) * float(self.gain)

    def reset(self) -> str:
        return "the library's"


class Fused:
    """A kernel that takes the decay as a number, as compiled ones do."""

    def __call__(self, v: Tensor, x: Tensor, decay: Any) -> Tensor:
        return float(torch.as_tensor(decay).detach()) * v + x


class InPyTorch:
    def __call__(self, v: Tensor, x: Tensor, decay: Any) -> Tensor:
        return decay * v + x


class Members:
    """What attached toy neurons do differently."""

    @property
    def kernel(self: Any) -> Any:
        stored(self, "kernel")
        return InPyTorch()

    @kernel.setter
    def kernel(self: Any, value: Any) -> None:
        store(self, "kernel", value)

    kind = "a constant"

    def reset(self: Any) -> str:
        return f"ours, then {plain_class(self).reset(self)}"

    @staticmethod
    def twice(x: float) -> float:
        return 2 * x

    @classmethod
    def named(cls) -> str:
        return cls.__name__


TOY = Library(
    package="toysnn",
    adapted=(Adapted(modules=("ToyLIF",), members=Members),),
    rows=(
        Refused(field="gain", reason="a kernel casts it", instead="Scale the next weights."),
        Trains(
            field="leak",
            meaning="membrane decay per step",
            default=between_zero_and_one,
            quantity=Quantity.TAU_MEM,
            stored_as=Decay,
        ),
        Trains(
            field="level",
            meaning="threshold",
            unit="voltage",
            default=threshold,
            quantity=Quantity.THRESHOLD,
        ),
    ),
)

X = torch.rand(5, 2, 3)


@pytest.fixture(autouse=True)
def own_catalogue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins with the libraries that neuroparam brings, and leaves no other behind."""
    monkeypatch.setattr(catalogue, "registered", type(catalogue.registered)())
    yield
    assert "toysnn" not in {library.package for library in catalogue.BUILT_IN}


def test_before_it_is_registered_the_kernel_cuts_the_gradient() -> None:
    with pytest.raises(errors.NoGradientError, match="leak"):
        check_gradients(make_trainable(ToyLIF(), "leak"), X)


def test_a_registered_library_trains() -> None:
    assert register(TOY) is TOY
    plain, module = ToyLIF(), make_trainable(ToyLIF(), {Quantity.TAU_MEM: ExpScaledLog()}, dt=1e-3)
    assert values(module, Quantity.TAU_MEM)["leak"].item() == pytest.approx(9.491e-3, rel=1e-3)
    assert torch.allclose(module(X), plain(X))
    assert check_gradients(module, X)["leak"].abs() > 0
    assert module.reset() == "ours, then the library's"
    assert (module.kind, module.twice(3.0), module.named()) == (
        "a constant",
        6.0,
        "ParametrizedToyLIF",
    )
    assert type(module).__doc__ == ToyLIF.__doc__
    assert "9.491 ms" in summary(module)


def test_its_defaults_and_refusals_count() -> None:
    register(TOY)
    listed = {candidate.path: candidate for candidate in find(ToyLIF())}
    assert set(listed) == {"leak", "level"}
    assert listed["level"].unit == "voltage"
    module = make_trainable(ToyLIF(), ["leak", "level"])
    maps = {name: repr(p[0]) for name, p in module.parametrizations.items()}
    assert maps["leak"].startswith("BoundedSigmoid(lower=0, upper=1")
    assert maps["level"].startswith("Softplus(lower=0")
    with pytest.raises(errors.NotTrainableError, match="a kernel casts it"):
        make_trainable(ToyLIF(), "gain")


def test_its_modules_are_copied_pickled_and_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    home = ModuleType("toysnn.neurons")
    home.ToyLIF = ToyLIF
    monkeypatch.setitem(__import__("sys").modules, "toysnn", ModuleType("toysnn"))
    monkeypatch.setitem(__import__("sys").modules, "toysnn.neurons", home)
    register(TOY)
    module = make_trainable(ToyLIF(), ["leak", "level"])
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(other) is type(module)
        assert torch.equal(other(X), module(X))
    fixed = make_fixed(module)
    assert type(fixed) is ToyLIF
    assert isinstance(fixed.kernel, Fused)
    fixed.kernel = InPyTorch()
    assert isinstance(fixed.kernel, InPyTorch)


def test_a_property_of_its_members_is_assigned() -> None:
    register(TOY)
    module = make_trainable(ToyLIF(), "leak")
    module.kernel = Fused()
    assert isinstance(module.kernel, InPyTorch)
    assert isinstance(make_fixed(module).kernel, Fused)


def test_registering_again_replaces_it_also_beside_attached_modules() -> None:
    register(Library(package="toysnn", rows=TOY.rows))
    before = make_trainable(ToyLIF(), "leak")
    register(TOY)
    after = make_trainable(ToyLIF(), "leak")
    assert before.reset() == "the library's"
    assert after.reset() == "ours, then the library's"


def test_a_users_row_counts_before_the_one_that_neuroparam_brings() -> None:
    row = Refused(field="v_th", reason="we fix it", instead="Name a rate.")
    register(Library(package="norse", rows=(row,)))
    with pytest.raises(errors.NotTrainableError, match="we fix it"):
        make_trainable(norse.LIFCell(), "p.v_th")
    # All other rows, and the time step, are Norse's as before.
    cell = make_trainable(norse.LIFCell(), {Quantity.TAU_MEM: ExpScaledLog()}, init=0.02)
    assert values(cell, Quantity.TAU_MEM)["p.tau_mem_inv"].item() == pytest.approx(0.02)


def test_its_time_step_counts() -> None:
    class Stepped(ToyLIF):
        __module__ = "toysnn.neurons"
        dt = 2e-3

    register(Library(package="toysnn", rows=TOY.rows, time_step=own_step))
    module = make_trainable(Stepped(), Quantity.TAU_MEM, init=0.02)
    assert module.leak.item() == pytest.approx(0.904837)


WRONG: list[tuple[Any, str]] = [
    (None, "library must be"),
    ("toysnn", "library must be"),
    (Library, "library must be"),
    (Library(package=""), "package must be"),
    (Library(package="toy.snn"), "package must be"),
    (Library(package=ToyLIF), "package must be"),
    (Library(package="toysnn", rows=(TOY,)), "rows must be"),
    (Library(package="toysnn", rows=None), "rows must be"),
    (Library(package="toysnn", rows=TOY.adapted), "rows must be"),
    (Library(package="toysnn", adapted=TOY.rows), "adapted must be"),
    (Library(package="toysnn", adapted=(Adapted(members=Members()),)), "members must be"),
    (Library(package="toysnn", rows=TOY.rows[0]), "rows must be a tuple"),
    (Library(package="toysnn", rows=[*TOY.rows]), "rows must be a tuple"),
    (
        Library(
            package="toysnn",
            rows=(Refused(field="leak", reason="r", instead="i", modules="ToyLIF"),),
        ),
        "modules must be a tuple of str; got 'ToyLIF'",
    ),
]


@pytest.mark.parametrize(("given", "problem"), WRONG, ids=lambda given: str(given)[:40])
def test_what_is_no_library_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=problem):
        register(given)
    assert not [library for library in catalogue.registered.all() if library.package == "toysnn"]


@pytest.mark.parametrize("entry", [Trains, Refused, Adapted, Library])
def test_entries_take_keywords_only(entry: type) -> None:
    with pytest.raises(TypeError, match="positional"):
        entry("leak")


# ---------------------------------------------------------------------------- entry points


class EntryPoint:
    """What importlib.metadata returns for one line of a package's entry points."""

    name, value = "toy", "toysnn.neuroparam:LIBRARY"

    def __init__(self, found: Any):
        self.found = found

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def installed(monkeypatch: pytest.MonkeyPatch, *found: Any) -> list[str]:
    asked: list[str] = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint(each) for each in found]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return asked


@pytest.mark.parametrize("found", [TOY, [TOY], (TOY,)], ids=["one", "list", "tuple"])
def test_an_installed_package_declares_its_library(
    monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    asked = installed(monkeypatch, found)
    module = make_trainable(ToyLIF(), Quantity.TAU_MEM, init=0.02, dt=1e-3)
    assert check_gradients(module, X)["leak"].abs() > 0
    find(ToyLIF())
    assert asked == ["neuroparam.libraries"]


def test_a_package_that_asks_for_the_libraries_while_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Asks(EntryPoint):
        def load(self) -> Any:
            assert find(ToyLIF())
            return TOY

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Asks(None)])
    assert {candidate.path for candidate in find(ToyLIF())} == {"leak", "level"}


def test_a_registered_library_counts_before_an_installed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, TOY)
    row = Refused(field="leak", reason="not in this project", instead="Name level.")
    register(Library(package="toysnn", rows=(row,)))
    with pytest.raises(errors.NotTrainableError, match="not in this project"):
        make_trainable(ToyLIF(), "leak")
    assert "level" in [candidate.path for candidate in find(ToyLIF())]


@pytest.mark.parametrize(
    "broken",
    [ImportError("no toysnn"), "not a library", [TOY, 3], None],
    ids=["raises", "a string", "a number beside a library", "None"],
)
def test_a_broken_entry_point_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    other = Library(package="othersnn")
    installed(monkeypatch, broken, other)
    with pytest.warns(UserWarning, match=r"'toy' = 'toysnn.neuroparam:LIBRARY'.*left out"):
        find(ToyLIF())
    packages = [library.package for library in catalogue.registered.all()]
    assert "toysnn" not in packages
    assert "othersnn" in packages
