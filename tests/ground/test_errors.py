"""Errors: they say where, they can be caught by kind, and they survive copies and pickles."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch

from neuroparam import errors
from tests.support.inside import describe, listing, placed

EACH = [
    errors.ParametrizationError("scale must be > 0."),
    errors.OutOfDomainError(torch.tensor([1.0, -2.0]), torch.tensor([False, True]), "(0, inf)"),
    errors.UnsupportedModuleError("it is a ScriptModule."),
    errors.InvalidArgumentError("lr", -1.0, "must be a finite number >= 0"),
    errors.UnknownNameError("Sequential has no value named", {"tua": ["tau"]}, ["tau", "gain"]),
    errors.AmbiguousNameError("tau", ["0.tau", "1.tau"]),
    errors.NotTrainableError("it is None", "Give it a number first.", ["0.tau", "1.tau"]),
    errors.TimeStepError("dt is needed."),
    errors.CheckpointError("a key is missing."),
    errors.AdjointError("second derivatives"),
    errors.OptimizerError("Adam"),
    errors.ShapeError({"0.tau": (4,)}, (8, 4, 6, 6), "the sizes differ"),
    errors.EvaluationError("reading it failed."),
    errors.NoGradientError(["0.tau"], "The output does not depend on it."),
    errors.NonFiniteError({"0.tau": "1 of 3"}, "after a step of SGD"),
]


def test_an_error_raised_inside_placed_gets_the_path() -> None:
    with pytest.raises(errors.TimeStepError) as caught, placed("lif.tau"):
        raise errors.TimeStepError("dt is needed.")
    assert caught.value.path == "lif.tau"
    assert str(caught.value) == "'lif.tau': dt is needed."


def test_the_first_path_is_kept() -> None:
    with pytest.raises(errors.TimeStepError) as caught, placed("outer"), placed("inner"):
        raise errors.TimeStepError("dt is needed.")
    assert caught.value.path == "inner"
    assert caught.value.at("another") is caught.value
    assert caught.value.path == "inner"


def test_errors_of_others_pass_through_placed_as_they_are() -> None:
    error = KeyError("tau")
    with pytest.raises(KeyError) as caught, placed("lif.tau"):
        raise error
    assert caught.value is error
    assert not hasattr(error, "path")


@pytest.mark.parametrize("path", [None, "lif.tau"])
@pytest.mark.parametrize("error", EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("through", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_survives_a_copy_and_a_pickle(through, error, path: str | None) -> None:
    original = copy.copy(error)
    if path is not None:
        original.at(path)
    twin = through(original)
    assert type(twin) is type(original)
    assert twin.path == path
    assert str(twin) == str(original)
    assert twin.__dict__.keys() == original.__dict__.keys()


def test_each_error_of_the_library_is_among_those_tested() -> None:
    public = {vars(errors)[name] for name in errors.__all__ if name.endswith("Error")}
    assert {type(error) for error in EACH} == public - {errors.NeuroparamError}


def test_the_names_of_earlier_releases_mean_the_same_classes() -> None:
    assert errors.InvalidNamesError is errors.InvalidArgumentError
    assert errors.InitialValueError is errors.InvalidArgumentError
    assert errors.AssignmentError is errors.InvalidArgumentError
    assert errors.AlreadyTrainableError is errors.NotTrainableError
    assert errors.TiedParameterError is errors.NotTrainableError


@pytest.mark.parametrize("kind", [TypeError, ValueError, errors.NeuroparamError])
@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidArgumentError("names", None, "must be a name"),
        errors.NotTrainableError("it is None", "Give it a number first."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_argument_can_be_of_a_wrong_type_or_value(error: Exception, kind: type) -> None:
    with pytest.raises(kind) as caught:
        raise error
    assert caught.value is error


def test_a_checkpoint_error_is_caught_as_what_torch_raises() -> None:
    assert issubclass(errors.CheckpointError, RuntimeError)
    assert issubclass(errors.NonFiniteError, ArithmeticError)


def test_an_argument_is_described_when_the_error_is_made() -> None:
    given = [1.0]
    error = errors.InvalidArgumentError("init", given, "must be finite").at("lif.tau")
    given.append(2.0)
    assert str(error) == "init of 'lif.tau' must be finite; got [1.0]."
    assigned = errors.InvalidArgumentError("assignment", "2", "it takes a number").at("lif.tau")
    assert str(assigned) == "assignment to 'lif.tau': it takes a number; got '2'."


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "0.5"),
        ("x" * 100, f"'{'x' * 56}..."),
        (NoRepr(), f"an object of {NoRepr!r}"),
        (10 ** (sys.get_int_max_str_digits() + 1), "an object of <class 'int'>"),
        (torch.tensor([1.0, 5.0]), "a float32 tensor of shape (2,), min 1, max 5"),
        (torch.ones(2, device="meta"), "a float32 tensor of shape (2,) on the meta device"),
        (torch.ones(2) > 0, "a bool tensor of shape (2,)"),
        (torch.nn.UninitializedParameter(), "a float32 tensor"),
    ],
    ids=range(8),
)
def test_any_value_is_described_in_one_short_phrase(value: object, words: str) -> None:
    assert describe(value) == words


def test_a_listing_ends_after_twenty_paths() -> None:
    lines = listing(f"lif{n}.tau" for n in range(23)).splitlines()
    assert lines[:2] == ["  lif0.tau", "  lif1.tau"]
    assert len(lines) == 21
    assert lines[-1] == "  ... and 3 more"
    assert listing(["tau"]) == "  tau"
