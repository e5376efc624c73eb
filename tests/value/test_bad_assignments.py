"""Assignments to a trainable value that it cannot take."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Uniform

from neuroparam import ExpScaledLog, Quantity, errors, make_trainable
from tests.support.bad_calls import (
    DOMAIN,
    REAL,
    Bad,
    Reciprocal,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
    assign,
    attached,
    leaky,
    lif_node,
    norse_cell,
    ours,
    pair,
    rockpool_lif,
    sinabs_lif,
)
from tests.support.modules import Doubled, Pair, assert_unchanged, snapshot

bad = Tables()

ASSIGNED = errors.AssignmentError
TO, SHAPED = "assignment to '0.p.tau'", "its shape is (3,), and stays so"
A_NUMBER = "it takes a number or a tensor"


bad(
    "assignments",
    attached,
    assign,
    [
        (0.0, DOMAIN, "'0.p.tau'", "3 of 3 values", "Give values inside"),
        (-1, DOMAIN, "'0.p.tau'", "-1", "Give values inside"),
        (math.nan, DOMAIN, "'0.p.tau'", "nan to nan", "Give values inside"),
        (math.inf, DOMAIN, "'0.p.tau'", "inf to inf", "Give values inside"),
        (-(10**400), DOMAIN, "'0.p.tau'", "-inf to -inf", "Give values inside"),
        (torch.tensor([1.0, -1.0, -5.0]), DOMAIN, "'0.p.tau'", "2 of 3", "Give values inside"),
        (nn.Parameter(-torch.ones(3)), DOMAIN, "'0.p.tau'", "3 of 3", "Give values inside"),
        (torch.ones(4), ASSIGNED, TO, "shape (4,)", SHAPED),
        (torch.ones(()), ASSIGNED, TO, "shape ()", SHAPED),
        (torch.ones(1), ASSIGNED, TO, "shape (1,)", SHAPED),
        (torch.ones(1, 3), ASSIGNED, TO, "shape (1, 3)", SHAPED),
        (torch.ones(3).double(), ASSIGNED, TO, "float64", "torch.float32; convert with .to"),
        (torch.ones(3, dtype=torch.int64), ASSIGNED, TO, "int64", "convert with .to(...)"),
        (torch.ones(3).half(), ASSIGNED, TO, "float16", "convert with .to(...)"),
        (torch.ones(3) + 1j, ASSIGNED, TO, "complex64", REAL),
        (torch.ones(3) > 0, ASSIGNED, TO, "a bool tensor", REAL),
        (torch.ones(0), ASSIGNED, TO, "shape (0,)", "give it at least one value"),
        (torch.ones(3).to_sparse(), ASSIGNED, TO, "sparse_coo", "give a dense tensor"),
        (torch.ones(3, device="meta"), ASSIGNED, TO, "on the meta device", "no numbers"),
        (nn.UninitializedParameter(), ASSIGNED, TO, "a float32 tensor", "run the module once"),
        (torch.ones(3, requires_grad=True) * 2, ASSIGNED, TO, "min 2", "value.detach()"),
        ("2.0", ASSIGNED, TO, "got '2.0'", A_NUMBER),
        (None, ASSIGNED, TO, "got None", A_NUMBER),
        (True, ASSIGNED, TO, "got True", A_NUMBER),
        (1j, ASSIGNED, TO, "got 1j", A_NUMBER),
        ([1.0, 2.0, 3.0], ASSIGNED, TO, "got [1.0, 2.0, 3.0]", A_NUMBER),
        (np.ones(3), ASSIGNED, TO, "got array([1., 1., 1.])", A_NUMBER),
        (ours, ASSIGNED, TO, "got <function ours", A_NUMBER),
        (Uniform(1.0, 2.0), ASSIGNED, TO, "got Uniform(", A_NUMBER),
        (ExpScaledLog(), ASSIGNED, TO, "got ExpScaledLog(", A_NUMBER),
        (nn.Buffer(torch.ones(2)), ASSIGNED, TO, "shape (2,)", SHAPED),
    ],
)
bad(
    "assignments to a single value",
    lambda: make_trainable(pair(), "tau"),
    assign,
    [
        (torch.ones(1), ASSIGNED, TO, "shape (1,)", "its shape is (), and stays so"),
        (nn.Parameter(torch.ones(1)), ASSIGNED, TO, "shape (1,)", "its shape is (), and stays so"),
        (torch.ones(1, 1), ASSIGNED, TO, "shape (1, 1)", "its shape is (), and stays so"),
        (np.ones(1), ASSIGNED, TO, "got array([1.])", A_NUMBER),
    ],
)
for build, path, store in (
    (norse_cell, "0.p.v_th", lambda module, value: setattr(module[0].p, "v_th", value)),
    (leaky, "0.threshold", lambda module, value: setattr(module[0], "threshold", value)),
    (lif_node, "0.v_threshold", lambda module, value: setattr(module[0], "v_threshold", value)),
    (sinabs_lif, "0.spike_threshold", lambda m, value: setattr(m[0], "spike_threshold", value)),
    (rockpool_lif, "0.threshold", lambda module, value: setattr(module[0], "threshold", value)),
):
    bad(
        f"assignments to {build.__name__}",
        lambda build=build: make_trainable(build(), Quantity.THRESHOLD),
        store,
        [
            (-1.0, DOMAIN, repr(path), "-1", "Give values inside"),
            (torch.ones(7), ASSIGNED, repr(path), "shape (7,)", "and stays so"),
        ],
    )
bad(
    "assignments through a map of the user's",
    lambda: make_trainable(pair(), {"tau": Reciprocal()}),
    assign,
    [(0.0, ASSIGNED, TO, "min 0, max 0", "right_inverse is not finite there")],
)
bad(
    "assignments through a chain",
    lambda: make_trainable(pair(), {"tau": [ExpScaledLog(), Doubled()]}),
    assign,
    [(-6.0, DOMAIN, "'0.p.tau'", "-3 is outside", "Give values inside")],
)
bad(
    "records",
    attached,
    lambda module, do: do(module[0].p),
    [
        (lambda p: delattr(p, "tau"), ASSIGNED, TO, "got 'del'", "make_fixed gives the plain"),
        (lambda p: setattr(p, "tua", 3.0), ASSIGNED, "'tua'", "got 3.0", "only tau, gain, method"),
        (
            lambda p: setattr(p, "tua", torch.ones(3)),
            ASSIGNED,
            "'tua'",
            "a float32 tensor",
            "only tau, gain, method",
        ),
    ],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)


def test_a_whole_record_is_not_assigned() -> None:
    """torch itself refuses it, as it refuses to put a number in the place of any child module."""
    module = attached()
    before = snapshot(module)
    with pytest.raises(TypeError, match="cannot assign"):
        module[0].p = Pair(tau=3.0)
    assert_unchanged(module, before)
