"""One trainable value: its raw tensor, its bounds, its physical unit, and what it takes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from neuroparam import BoundedSigmoid, Decay, ExpScaledLog, Softplus, Steps, errors
from tests.support.inside import Kind, NeuronParameter, Storage, in_words
from tests.support.modules import Doubled


def test_the_value_is_that_of_the_maps_in_their_order() -> None:
    parameter = NeuronParameter([ExpScaledLog(), Doubled()], torch.tensor([6.0, 8.0]), "tau")
    torch.testing.assert_close(parameter().detach(), torch.tensor([6.0, 8.0]))
    torch.testing.assert_close(parameter[0](parameter.raw).detach(), torch.tensor([3.0, 4.0]))
    assert in_words(parameter).endswith(" -> Doubled()")
    assert parameter.last_map is parameter[1]


def test_the_bounds_are_those_of_the_whole_chain() -> None:
    decay = NeuronParameter(
        [BoundedSigmoid(1e-3, 1e-2), Decay(1e-3)], torch.tensor(0.8, dtype=torch.float64), "beta"
    )
    assert decay.bounds == pytest.approx((math.exp(-1), math.exp(-0.1)))
    assert NeuronParameter([Softplus(lower=0.5)], torch.ones(2), "v").bounds == (0.5, math.inf)


def test_a_value_behind_a_unit_map_is_known_in_seconds() -> None:
    steps = NeuronParameter([ExpScaledLog(), Steps(1e-3)], torch.tensor(20.0), "tau")
    assert steps.unit is steps.last_map
    assert steps.physical().item() == pytest.approx(0.02)
    plain = NeuronParameter([ExpScaledLog()], torch.tensor(20.0), "tau")
    assert plain.unit is None
    assert plain.physical().item() == plain().item()


def test_assigning_keeps_the_raw_parameter() -> None:
    parameter = NeuronParameter([ExpScaledLog(reference=1.0)], torch.ones(3), "tau")
    raw = parameter.raw
    parameter.assign(math.e)
    assert parameter.raw is raw
    torch.testing.assert_close(raw.detach(), torch.ones(3))
    torch.testing.assert_close(parameter.raw_of(torch.ones(3)), torch.zeros(3))


def test_a_raw_tensor_that_changes_between_forward_and_backward_is_refused_as_by_torch() -> None:
    """The gradient would be the one of another value."""
    plain = torch.ones(3, requires_grad=True)
    parameter = NeuronParameter([Softplus()], torch.ones(3), "tau")
    for raw, value in (
        (plain, torch.nn.functional.softplus(plain)),
        (parameter.raw, parameter()),
    ):
        with torch.no_grad():
            raw.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.sum().backward()
        assert raw.grad is None
    parameter().sum().backward()
    assert parameter.raw.grad is not None


def test_a_checkpoint_may_have_another_precision() -> None:
    parameter = NeuronParameter([ExpScaledLog(reference=1.0)], torch.ones(3), "tau")
    entry = torch.full((3,), math.e, dtype=torch.float64)
    torch.testing.assert_close(parameter.raw_of_entry(entry), torch.ones(3))
    with pytest.raises(errors.AssignmentError, match=r"'tau'.*float32; convert"):
        parameter.raw_of(entry)


def test_a_gradient_that_came_once_is_remembered() -> None:
    parameter = NeuronParameter([ExpScaledLog()], torch.ones(3), "tau")
    seen = parameter.evidence
    assert (seen.proven, seen.none_came) == (False, False)
    seen.gradient_came(None)
    assert (seen.proven, seen.none_came) == (False, True)
    seen.gradient_came(torch.ones(3))
    seen.gradient_came(None)
    assert (seen.proven, seen.none_came) == (True, False)


@pytest.mark.parametrize(
    ("storage", "held"),
    [
        (Storage(Kind.PARAMETER, 0), True),
        (Storage(Kind.BUFFER, 0), True),
        (Storage(Kind.BUFFER, 0, persistent=False), False),
        (Storage(Kind.TENSOR, 0), False),
        (Storage(Kind.NUMBER, 0), False),
    ],
    ids=lambda part: str(part),
)
def test_which_values_a_plain_state_dict_holds(storage: Storage, held: bool) -> None:
    assert storage.in_state_dict is held


def test_an_adopted_parameter_becomes_the_raw_one() -> None:
    parameter = NeuronParameter([ExpScaledLog(reference=1.0)], torch.ones(3), "tau")
    adopted = nn.Parameter(torch.ones(3), requires_grad=False)
    parameter.adopt(adopted)
    assert parameter.raw is adopted
    assert adopted.requires_grad
    torch.testing.assert_close(parameter().detach(), torch.full((3,), math.e))
