"""Why something cannot be trained: each refusal has a reason and says what to do."""

from __future__ import annotations

import norse.torch as norse
import pytest
import torch
from torch import nn

from neuroparam import errors, make_trainable
from tests.support.inside import refuse_if_present, refuse_if_unfit, survey, why_unfit
from tests.support.modules import FromRecord, Pair


class Unfit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine = 1.0
        self.mask = torch.ones(2) > 0
        self.computed = nn.Parameter(torch.ones(2)) * 2
        self.__dict__["hidden"] = 5.0
        self.nothing = None

    @property
    def hidden(self) -> float:
        return 6.0

    @property
    def broken(self) -> float:
        raise ValueError("not now")


def place_of(module: nn.Module, path: str):
    return next(place for place in survey(module) if place.path == path)


def test_what_is_fine_is_not_refused() -> None:
    place = place_of(Unfit(), "fine")
    assert why_unfit(place) is None
    refuse_if_unfit(place)


@pytest.mark.parametrize(
    ("path", "reason", "instead"),
    [
        ("mask", "torch.bool", "Parametrizations map real numbers."),
        ("computed", "computed from other tensors", "Attach to the tensor"),
        ("hidden", "a property of Unfit hides", "Name the value that the property returns."),
    ],
)
def test_a_stored_value_that_cannot_train(path: str, reason: str, instead: str) -> None:
    with pytest.raises(errors.NotTrainableError) as caught:
        refuse_if_unfit(place_of(Unfit(), path))
    assert reason in caught.value.reason
    assert caught.value.instead.startswith(instead)


def test_what_is_attached_already_is_refused_with_the_way_out() -> None:
    place = place_of(make_trainable(FromRecord(Pair()), "tau"), "p.tau")
    reason, instead = why_unfit(place)
    assert reason.startswith("it is already parametrized by ExpScaledLog(")
    assert "make_fixed(module, 'p.tau')" in instead


def test_what_the_catalogue_refuses_has_the_words_of_the_catalogue() -> None:
    place = place_of(norse.LIFBoxCell(), "dt")
    assert why_unfit(place) == (place.row.reason, place.row.instead)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "a property of Unfit"),
        ("nothing", "it is None"),
        ("forward", "it is a method"),
        ("training", "it is a bool"),
    ],
)
def test_a_name_that_means_no_stored_value(name: str, reason: str) -> None:
    module = Unfit()
    with pytest.raises(errors.NotTrainableError, match=reason) as caught:
        refuse_if_present(module, name, list(survey(module)))
    assert caught.value.path == name


def test_a_name_that_means_nothing_is_left_to_others() -> None:
    module = Unfit()
    for name in ("missing", "fine.real", "no.such.path"):
        places = list(survey(module))
        refuse_if_present(module, name, places)
        assert name not in [place.path for place in places]
        with pytest.raises(errors.UnknownNameError, match=name):
            make_trainable(module, name)
