"""The class of a module with attached values is shared, reads them, and lets the rest through."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from neuroparam import ExpScaledLog, errors, make_fixed, make_trainable
from tests.support.inside import injected, reads_replaced
from tests.support.modules import Smooth, Stored


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
