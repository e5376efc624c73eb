"""Values that are stored where nothing can take their place: the message says where that is."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from neuroparam import find, make_fixed, make_trainable
from tests.support.bad_calls import (
    REFUSED,
    UNKNOWN,
    Bad,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
)
from tests.support.modules import Pair

bad = Tables()


class Holder(nn.Module):
    """Stores whatever it is given."""

    def __init__(self, **stored: Any) -> None:
        super().__init__()
        for name, value in stored.items():
            setattr(self, name, value)


class Slotted(nn.Module):
    __slots__ = ("tau",)

    def __init__(self) -> None:
        super().__init__()
        self.tau = 20.0


class Compact:
    """An object of a user's own, without a dictionary."""

    __slots__ = ("tau", "unset")

    def __init__(self) -> None:
        self.tau = torch.tensor(20.0)


def everything() -> nn.Module:
    return nn.Sequential(
        Holder(
            nested={"mem": {"leak": torch.tensor(20.0)}},
            config=SimpleNamespace(rate=20.0),
            options=argparse.Namespace(inner={"floor": 20.0}),
            own=Compact(),
            several=(20.0, 10.0),
            records=[Pair(), {"record": Pair()}],
            layers=[Holder(beta=0.9), nn.Linear(2, 2)],
            array=numpy.array([1.0, 2.0]),
        )
    )


bad(
    "what is stored where nothing can take its place",
    everything,
    make_trainable,
    [
        ("0.nested.mem.leak", REFUSED, "'0.nested.mem.leak'", "in '0.nested.mem'", "is a dict"),
        ("leak", REFUSED, "'0.nested.mem.leak'", "a dict", "Store it on the module itself"),
        ("*.rate", REFUSED, "'0.config.rate'", "in '0.config', which is a SimpleNamespace"),
        ("0.options.inner.floor", REFUSED, "in '0.options.inner', which is a dict"),
        ("own.tau", REFUSED, "'0.own.tau'", "which is a Compact"),
        ("0.several.1", REFUSED, "'0.several.1'", "in '0.several', which is a tuple"),
        ("layers.0.beta", REFUSED, "'0.layers.0.beta'", "a list", "Make that an nn.ModuleList"),
        ("0.layers.1.weight", REFUSED, "'0.layers.1.weight'", "torch finds no modules"),
        ("0.array", REFUSED, "'0.array'", "it is a ndarray", "torch.as_tensor(module.array)"),
        ("0.nested.mem.leek", UNKNOWN, "'0.nested.mem.leek'"),
    ],
)
bad(
    "what is in a slot",
    lambda: nn.Sequential(Slotted()),
    make_trainable,
    [
        ("0.tau", REFUSED, "'0.tau'", "in a slot of Slotted", "out of `__slots__`"),
        ("*tau", REFUSED, "'0.tau'", "in a slot of Slotted", "out of `__slots__`"),
    ],
)
bad(
    "modules that are not built yet",
    lambda: Holder(layers=None),
    make_trainable,
    [("*.tau", UNKNOWN, "Holder stores no number", "first forward, run it once before", "'*.tau'")],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)


@pytest.mark.parametrize("kind", [numpy.float32, numpy.float64, numpy.float16, numpy.int64])
def test_a_number_of_numpy_is_a_number(kind: type) -> None:
    module = Holder(tau=kind(20))
    assert [found.path for found in find(module)] == ["tau"]
    make_trainable(module, "tau")
    assert module.tau.item() == 20.0
    assert module.tau.requires_grad
    assert make_fixed(module).tau == pytest.approx(20.0)


def test_values_of_torchs_own_lists_and_dictionaries_train() -> None:
    module = Holder(
        taus=nn.ParameterList([torch.tensor(20.0)]), by=nn.ParameterDict({"name": torch.ones(2)})
    )
    make_trainable(module, ["taus.0", "by.name"])
    (module.taus[0] * module.by["name"]).sum().backward()
    assert module.taus.parametrizations["0"].original.grad != 0
    assert module.by.parametrizations["name"].original.grad.abs().sum() > 0
    make_fixed(module)
    assert [name for name, _ in module.named_parameters()] == ["taus.0", "by.name"]
