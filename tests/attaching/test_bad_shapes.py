"""Shapes that are none, or that no initial value fits."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.distributions import Gamma, LogNormal

from neuroparam import Quantity, make_trainable
from tests.support.bad_calls import (
    INITIAL,
    PATH,
    UNKNOWN,
    Bad,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
    ours,
    pair,
    vector,
)

bad = Tables()

POSITIVE, ITS_PATH = "must be positive integers", "shape of '0.p.tau'"

bad(
    "shape",
    pair,
    lambda module, shape: make_trainable(module, "0.p.tau", shape=shape),
    [
        (0, INITIAL, ITS_PATH, "got 0", POSITIVE),
        (-1, INITIAL, ITS_PATH, "got -1", POSITIVE),
        ((3, 0), INITIAL, ITS_PATH, "got (3, 0)", POSITIVE),
        (2.5, INITIAL, ITS_PATH, "got 2.5", POSITIVE),
        ((3.0,), INITIAL, ITS_PATH, "got (3.0,)", POSITIVE),
        (math.nan, INITIAL, ITS_PATH, "got nan", POSITIVE),
        (True, INITIAL, ITS_PATH, "got True", POSITIVE),
        ((2, True), INITIAL, ITS_PATH, "got (2, True)", POSITIVE),
        ("3", INITIAL, "'layer'", "got '3'", f"shape {POSITIVE}"),
        ("", INITIAL, "'layer'", "got ''", f"shape {POSITIVE}"),
        (b"3", INITIAL, ITS_PATH, "got b'3'", POSITIVE),
        ((None,), INITIAL, ITS_PATH, "got (None,)", POSITIVE),
        ([[3]], INITIAL, ITS_PATH, "got [[3]]", POSITIVE),
        (torch.tensor(3.0), INITIAL, ITS_PATH, "a float32 tensor", POSITIVE),
        (ours, INITIAL, ITS_PATH, "got <function ours", POSITIVE),
        (10**30, INITIAL, PATH, "got (1000000", "torch can make no tensor of this shape"),
        ((2**40, 2**40), INITIAL, PATH, "got (1099", "torch can make no tensor of this shape"),
        ((1,) * 70, INITIAL, PATH, "got (1, 1, ", "torch can make no tensor of this shape"),
        ({"tua": 3}, UNKNOWN, "'tua'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({"0.p.gain": 3}, UNKNOWN, "'0.p.gain'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({"lif*": 3}, UNKNOWN, "'lif*'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({5: 3}, UNKNOWN, "'5'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({Quantity.TAU_MEM: 3}, UNKNOWN, "Quantity.TAU_MEM", "shape speaks", "\n  0.p.tau"),
        ({"tau": -3}, INITIAL, ITS_PATH, "got -3", POSITIVE),
    ],
)
bad(
    "shape and init",
    pair,
    lambda module, given: make_trainable(module, "0.p.tau", given[0], shape=given[1]),
    [
        ((torch.ones(2), 3), INITIAL, PATH, "shape (2,)", "does not broadcast to shape (3,)"),
        ((torch.ones(3, 1), 3), INITIAL, PATH, "shape (3, 1)", "not broadcast to shape (3,)"),
        (([1.0, 2.0], (2, 3)), INITIAL, PATH, "got [1.0, 2.0]", "not broadcast to shape (2, 3)"),
        ((lambda shape: np.ones(5), 3), INITIAL, PATH, "array([1.", "not broadcast"),
        ((LogNormal(torch.zeros(2), 1.0), 3), INITIAL, PATH, "(*, 2)", "cannot fill shape (3,)"),
        ((Gamma(torch.ones(3, 1), 1.0), (3,)), INITIAL, PATH, "(*, 3, 1)", "cannot fill"),
    ],
)
bad(
    "shape of a vector",
    vector,
    lambda module, shape: make_trainable(module, "tau", shape=shape),
    [
        ((2,), INITIAL, "'tau'", "a float32 tensor of shape (3,)", "broadcast to shape (2,)"),
        ((), INITIAL, "'tau'", "a float32 tensor of shape (3,)", "broadcast to shape ()"),
    ],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
