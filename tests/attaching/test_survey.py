"""A survey finds every stored number and tensor, and which of them are worth training."""

from __future__ import annotations

import pytest
import snntorch as snn
import torch
from torch import nn

from neuroparam import errors, make_trainable
from tests.support.inside import Kind, candidates, each_once, is_candidate, survey
from tests.support.modules import FromRecord, Nest, Pair


class Stores(nn.Module):
    """One value of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.register_buffer("rate", torch.ones(2))
        self.register_buffer("absent", None)
        self.tau, self.size, self.flag = 4.0, 3, True
        self.mask, self.word = torch.ones(2) > 0, "super"
        self._private = 5.0


def test_every_number_and_tensor_is_found_with_how_it_is_stored() -> None:
    found = {place.path: place.kind for place in survey(nn.Sequential(Stores()))}
    assert found == {
        "0.weight": Kind.PARAMETER,
        "0.rate": Kind.BUFFER,
        "0.tau": Kind.NUMBER,
        "0.size": Kind.NUMBER,
        "0.mask": Kind.TENSOR,
        "0._private": Kind.NUMBER,
    }


def test_the_fields_of_nested_records_are_found() -> None:
    paths = [place.path for place in survey(FromRecord(Nest(Pair())))]
    assert paths == ["steps", "p.inner.tau", "p.inner.gain", "p.rho"]


def test_what_is_attached_is_found_once_and_not_its_raw_tensor() -> None:
    module = make_trainable(Stores(), "tau")
    found = {place.path: place.kind for place in survey(module)}
    assert found["tau"] is Kind.ATTACHED
    assert not [path for path in found if path.startswith("parametrizations")]


def test_floating_point_numbers_and_vectors_are_worth_training() -> None:
    assert [place.path for place in candidates(Stores())] == ["tau", "rate"]
    assert [place.path for place in candidates(nn.Sequential(nn.Linear(2, 2)))] == []


def test_of_a_library_only_what_the_catalogue_lists() -> None:
    leaky = snn.Leaky(beta=0.9)
    found = sorted(place.path for place in candidates(leaky))
    assert found == ["beta", "graded_spikes_factor", "threshold"]
    (other,) = (place for place in survey(leaky) if place.path == "reset_mechanism_val")
    assert not is_candidate(other)


def test_a_shared_module_counts_under_its_first_path() -> None:
    one = FromRecord(Pair())
    net = nn.Sequential(one, one)
    assert [place.path for place in survey(net)][:2] == ["0.steps", "0.p.tau"]
    assert len(list(survey(net))) == 6
    assert [place.path for place in each_once(survey(net))] == ["0.steps", "0.p.tau", "0.p.gain"]


def test_a_class_is_no_module() -> None:
    with pytest.raises(errors.UnsupportedModuleError, match="an instance"):
        list(survey(nn.Linear))
