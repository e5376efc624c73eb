"""What could be trained, and what is: path, storage, value, and what the catalogue knows."""

from __future__ import annotations

import snntorch as snn
import torch
from torch import nn

from neuroparam import Quantity, find, make_trainable
from tests.support.modules import FromRecord, Pair


def test_a_candidate_says_what_it_is() -> None:
    beta = next(found for found in find(snn.Leaky(beta=0.9)) if found.path == "beta")
    assert (beta.storage, beta.shape, beta.quantity) == ("buffer", (), Quantity.TAU_MEM)
    assert beta.meaning == "membrane decay per step"
    torch.testing.assert_close(beta.value, torch.tensor(0.9))


def test_of_an_unknown_module_the_catalogue_says_nothing() -> None:
    tau, gain = find(nn.Sequential(nn.Linear(2, 2), FromRecord(Pair())))
    assert (tau.path, tau.storage, tau.meaning, tau.unit) == ("1.p.tau", "number", "", "")
    assert tau.quantity is None
    assert (gain.path, gain.value) == ("1.p.gain", 2.0)


def test_what_is_attached_is_listed_with_its_present_value() -> None:
    module = make_trainable(FromRecord(Pair()), "tau", init=[1.0, 2.0, 3.0])
    found = {each.path: each for each in find(module)}
    assert found["p.tau"].storage == "attached"
    assert found["p.tau"].shape == (3,)
    assert found["p.gain"].storage == "number"


def test_a_value_is_a_copy_without_gradient() -> None:
    module = make_trainable(FromRecord(Pair()), "tau")
    found = next(each for each in find(module) if each.path == "p.tau")
    assert not found.value.requires_grad
    found.value.zero_()
    torch.testing.assert_close(module.p.tau.detach(), torch.tensor(4.0))


def test_candidates_print_as_a_table() -> None:
    found = find(FromRecord(Pair()))
    assert str(found).splitlines() == [
        "name    storage  shape  value  gets                                   why",
        "p.tau   number   ()         4  ExpScaledLog(scale=1, reference=None)  "
        "named like a time constant",
        "p.gain  number   ()         2  ExpScaledLog(scale=1, reference=None)  "
        "positive, and its name says nothing",
    ]
    assert repr(found) == str(found)
