"""The class of a module with attached values is shared, reads them, and lets the rest through."""

from __future__ import annotations

import abc
import copy
import gc
import pickle
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuroparam import ExpScaledLog, errors, make_fixed, make_trainable
from tests.support.inside import injected, reads_replaced
from tests.support.modules import Doubled, Smooth, Stored, assert_unchanged, snapshot


class Leaky(Smooth):
    def __init__(self) -> None:
        super().__init__()
        self.tau, self.gain = 4.0, 2.0


def test_modules_with_the_same_names_attached_share_one_class() -> None:
    one, two = (make_trainable(Leaky(), "tau") for _ in range(2))
    other = make_trainable(Leaky(), "gain")
    assert type(one) is type(two) is not type(other)
    assert type(one).__name__ == "ParametrizedLeaky"
    assert isinstance(one, Leaky)
    assert type(one).__module__ == Leaky.__module__
    assert type(make_fixed(one)) is Leaky


def test_an_injected_class_lives_as_long_as_a_module_of_it() -> None:
    class Local(Leaky):
        pass

    module = make_trainable(Local(), "tau")
    gc.collect()
    assert type(module) in list(injected.classes.values())
    make_fixed(module)
    gc.collect()
    assert not [made for made in injected.classes.values() if issubclass(made, Local)]


def test_a_property_lets_the_plain_attribute_of_another_module_through() -> None:
    module, other = (make_trainable(Leaky(), ["tau", "gain"]) for _ in range(2))
    make_fixed(other, "gain")
    other.__class__ = type(module)  # as it is between the taking of a value and the new class
    assert other.gain == pytest.approx(2.0)
    other.gain = 3.0
    assert other.__dict__["gain"] == 3.0
    del other.__dict__["gain"]
    with pytest.raises(AttributeError, match="'gain'"):
        other.gain  # noqa: B018


def test_a_trainable_value_is_not_deleted() -> None:
    module = make_trainable(Leaky(), "tau")
    with pytest.raises(errors.AssignmentError, match="make_fixed gives the plain one back"):
        del module.tau
    torch.testing.assert_close(module.tau.detach(), torch.tensor(4.0))


def test_a_parameter_is_assigned_to_the_value_and_not_registered_beside_it() -> None:
    module = make_trainable(Leaky(), {"tau": ExpScaledLog()})
    module.tau = nn.Parameter(torch.tensor(8.0))
    assert [name for name, _ in module.named_parameters()] == ["parametrizations.tau.original"]
    torch.testing.assert_close(module.tau.detach(), torch.tensor(8.0))


def test_a_plain_checkpoint_is_loaded_as_raw_values() -> None:
    def store(module: nn.Module) -> None:
        module.tau = nn.Parameter(torch.tensor(4.0))

    plain, module = Stored(store), make_trainable(Stored(store), "tau")
    with torch.no_grad():
        plain.tau.fill_(7.0)
    module.load_state_dict(plain.state_dict())
    torch.testing.assert_close(module.tau.detach(), torch.tensor(7.0))


def test_every_read_goes_through_one_function() -> None:
    module = make_trainable(Leaky(), "tau")
    seen = []
    with reads_replaced(lambda parameter, raw: seen.append(parameter.path) or raw):
        module.tau, module.tau  # noqa: B018
    assert seen == ["tau", "tau"]


# ---------------------------------------------------------------- registries of classes

Registry = dict[str, type]


class ByArgument(Smooth):
    """A registry that asks each subclass for its name."""

    known: ClassVar[Registry] = {}

    def __init_subclass__(cls, *, key: str, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        cls.known[key] = cls


class _Meta(type):
    known: ClassVar[Registry] = {}

    def __new__(mcls, name, bases, body, **keywords):
        made = super().__new__(mcls, name, bases, body, **keywords)
        mcls.known[f"new {name}"] = made
        return made

    def __init__(cls, name, bases, body):
        super().__init__(name, bases, body)
        cls.known[f"init {name}"] = cls


class ByMetaclass(Smooth, metaclass=_Meta):
    known = _Meta.known


class Abstract(abc.ABC):
    known: ClassVar[Registry] = {}

    def __init_subclass__(cls) -> None:
        cls.known[cls.__name__] = cls

    @abc.abstractmethod
    def step(self, x: Tensor, v: Tensor) -> Tensor: ...


class ByAbstractBase(Abstract, Smooth):
    def step(self, x: Tensor, v: Tensor) -> Tensor:
        return Smooth.step(self, x, v)


class Sealed(Smooth):
    known: ClassVar[Registry] = {}

    def __init_subclass__(cls) -> None:
        if cls.__module__ != __name__ or not cls.__name__.startswith("Sealed"):
            raise TypeError("no subclasses")


class InArgument(ByArgument, key="layer"):
    pass


class SealedLayer(Sealed):
    pass


REGISTERED = [InArgument, ByMetaclass, ByAbstractBase, SealedLayer]
each_registered = pytest.mark.parametrize("kind", REGISTERED)


def _with_values(kind: type) -> nn.Module:
    module = kind()
    module.tau, module.gain = 4.0, 2.0
    return module


@each_registered
def test_no_registry_of_classes_hears_of_the_injected_one(kind) -> None:
    before = dict(kind.known)
    module = make_trainable(_with_values(kind), "tau")
    assert kind.known == before
    assert isinstance(module, kind)
    module(torch.ones(3)).sum().backward()
    assert module.parametrizations.tau.original.grad.abs() > 0
    copied = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    assert type(copied) is type(module)
    assert type(make_fixed(module)) is kind
    assert kind.known == before


class Slotted(Smooth):
    """Instances that are laid out differently, in a class that allows no subclass."""

    __slots__ = ("memory",)

    def __init_subclass__(cls) -> None:
        raise TypeError("no subclasses")


def test_a_class_that_allows_no_subclass_is_refused_and_nothing_is_changed() -> None:
    net = nn.Sequential(_with_values(Leaky), _with_values(Slotted))
    before = snapshot(net)
    with pytest.raises(
        errors.UnsupportedModuleError, match=r"Slotted allows no subclass.*Error: no"
    ):
        make_trainable(net, "*.tau")
    assert_unchanged(net, before)


# ------------------------------------------------------- what the library's code makes


class Widening(Leaky):
    """Makes others of its kind, as layers do that grow or clone themselves."""

    def other(self) -> Widening:
        return type(self)()

    @classmethod
    def fresh(cls) -> Widening:
        return cls()


def test_a_module_that_makes_another_of_its_own_class_makes_a_plain_one() -> None:
    module = make_trainable(Widening(), "tau", init=8.0)
    for made in (module.other(), module.fresh(), type(module)()):
        assert type(made) is Widening
        assert isinstance(made, type(module))
        assert made.tau == 4.0
        assert make_trainable(made, "tau").tau == 4.0
    assert not isinstance(Leaky(), type(module))


# ---------------------------------------------------------- the list of parametrizations


def test_of_all_modules_only_the_owner_answers_to_the_name_of_a_value() -> None:
    net = make_trainable(nn.Sequential(Leaky(), Leaky()), ["*.tau", "*.gain"])
    found = [module for module in net.modules() if hasattr(module, "tau")]
    assert found == [net[0], net[1]]
    assert [module.tau.item() for module in found] == [4.0, 4.0]
    lists = dict(net.named_modules())["0.parametrizations"]
    assert list(lists) == ["tau", "gain"]
    with pytest.raises(AttributeError, match=r"parametrizations\['tau'\]"):
        lists.tau  # noqa: B018


def test_torch_finds_a_value_by_its_path_and_users_by_attribute_and_item() -> None:
    net = make_trainable(nn.Sequential(Leaky()), "0.tau")
    parameter = net[0].parametrizations.tau
    assert parameter is net[0].parametrizations["tau"]
    assert parameter is net.get_submodule("0.parametrizations.tau")
    assert net.get_parameter("0.parametrizations.tau.original") is parameter.original
    assert parametrize.is_parametrized(net[0], "tau")
    assert not parametrize.is_parametrized(net[0], "gain")
    assert not net.eval()[0].parametrizations.training
    (raw,) = net.parameters()
    other = torch.func.functional_call(
        net, {"0.parametrizations.tau.original": raw.detach() + 1.0}, (torch.ones(3),)
    )
    assert not torch.equal(other, net(torch.ones(3)))


def test_another_parametrization_of_torch_on_the_same_module_is_answered_for() -> None:
    module = nn.Linear(3, 3)
    module.tau = 4.0
    parametrize.register_parametrization(module, "weight", Doubled())
    lists = module.parametrizations
    make_trainable(module, "tau")
    registered = dict(module.named_modules())["parametrizations"]
    assert hasattr(registered, "weight")
    assert not hasattr(registered, "tau")
    make_fixed(module)
    assert module.parametrizations is lists
    assert type(lists) is nn.ModuleDict
    parametrize.remove_parametrizations(module, "weight")
    assert type(module) is nn.Linear


def test_a_module_of_the_same_class_without_a_list_says_so() -> None:
    module = make_trainable(Leaky(), "tau")
    del module._modules["parametrizations"]
    with pytest.raises(AttributeError, match="parametrizations"):
        module.parametrizations  # noqa: B018
