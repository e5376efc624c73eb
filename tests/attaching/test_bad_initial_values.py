"""Initial values of a wrong kind, shape or range, and distributions that leave the domain."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.distributions import (
    Beta,
    Categorical,
    Gamma,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
)

from neuroparam import BoundedSigmoid, ExpScaledLog, Quantity, Softplus, make_trainable
from tests.support.bad_calls import (
    DOMAIN,
    FUNCTION,
    INITIAL,
    NUMERIC,
    PATH,
    REAL,
    UNKNOWN,
    Bad,
    NoSupport,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
    no_argument,
    ours,
    pair,
    raises,
    vector,
)
from tests.support.modules import Pair

bad = Tables()

bad(
    "init",
    pair,
    lambda module, init: make_trainable(module, "0.p.tau", init),
    [
        (math.nan, INITIAL, PATH, "got nan", "must be finite"),
        (math.inf, INITIAL, PATH, "got inf", "must be finite"),
        (10**400, INITIAL, PATH, "got 1000000", "must be finite"),
        (10**5000, INITIAL, PATH, "an object of <class 'int'>", "must be finite"),
        (1e300, INITIAL, PATH, "got 1e+300", "must be finite"),
        (torch.tensor([1.0, math.nan]), INITIAL, PATH, "shape (2,)", "must be finite"),
        (-1.0, DOMAIN, "'0.p.tau'", "-1 is outside", "Give values inside"),
        (0, DOMAIN, "'0.p.tau'", "0 is outside", "Give values inside"),
        (1e-60, DOMAIN, "'0.p.tau'", "0 is outside", "Give values inside"),
        (torch.tensor([1.0, -1.0]), DOMAIN, "'0.p.tau'", "1 of 2 values", "Give values inside"),
        (np.array([-2.0, -3.0, 1.0]), DOMAIN, "'0.p.tau'", "-3 to -2", "Give values inside"),
        ("4", INITIAL, PATH, "got '4'", NUMERIC),
        (b"4", INITIAL, PATH, "got b'4'", NUMERIC),
        (bytearray(b"4"), INITIAL, PATH, "got bytearray(b'4')", NUMERIC),
        (True, INITIAL, PATH, "got True", NUMERIC),
        (object, INITIAL, PATH, "got <class 'object'>", "give an instance"),
        (["a"], INITIAL, PATH, "got ['a']", NUMERIC),
        ([None], INITIAL, PATH, "got [None]", NUMERIC),
        ([[1.0, 2.0], [3.0]], INITIAL, PATH, "[[1.0, 2.0], [3.0]]", NUMERIC),
        ({1.0}, INITIAL, PATH, "got {1.0}", NUMERIC),
        (Pair(), INITIAL, PATH, "got Pair(", NUMERIC),
        (Quantity.TAU_MEM, INITIAL, PATH, "got Quantity.TAU_MEM", NUMERIC),
        (torch.float32, INITIAL, PATH, "got torch.float32", NUMERIC),
        (np.array(["a"]), INITIAL, PATH, "got array(['a']", NUMERIC),
        (np.array([1.0, None], dtype=object), INITIAL, PATH, "dtype=object", NUMERIC),
        (np.ones(3)[::-1], INITIAL, PATH, "got array([1., 1., 1.])", NUMERIC),
        (1j, INITIAL, PATH, "got 1j", REAL),
        (np.array([1 + 1j]), INITIAL, PATH, "got array([1.+1.j])", REAL),
        ([True, False], INITIAL, PATH, "got [True, False]", REAL),
        (torch.tensor([True]), INITIAL, PATH, "a bool tensor", REAL),
        (torch.tensor(1j), INITIAL, PATH, "a complex64 tensor", REAL),
        ([], INITIAL, PATH, "got []", "give it at least one value"),
        (torch.ones(2, 0), INITIAL, PATH, "shape (2, 0)", "give it at least one value"),
        (torch.ones(2, device="meta"), INITIAL, PATH, "on the meta", "give a tensor that has"),
        (torch.eye(2).to_sparse(), INITIAL, PATH, "sparse_coo", "give a dense tensor"),
        (nn.UninitializedParameter(), INITIAL, PATH, "a float32 tensor", "run the module once"),
        (Normal, INITIAL, PATH, "distributions.normal.Normal", "give an instance"),
        (nn.Linear, INITIAL, PATH, "linear.Linear", "give an instance"),
        (ExpScaledLog(), INITIAL, PATH, "got ExpScaledLog(", "with its name"),
        (no_argument, INITIAL, PATH, "TypeError: no_argument() takes 0", FUNCTION),
        (raises, INITIAL, PATH, "KeyError: 'rates.csv'", FUNCTION),
        (lambda shape: None, INITIAL, PATH, "got <function", "returned None, not the values"),
        (lambda shape: "4", INITIAL, PATH, "got '4'", NUMERIC),
        (lambda shape: math.nan, INITIAL, PATH, "got nan", "must be finite"),
        (lambda shape: ours, INITIAL, PATH, "got <function ours", NUMERIC),
        (lambda shape: Gamma(1.0, 1.0), INITIAL, PATH, "got Gamma(", NUMERIC),
        (
            lambda shape: -torch.ones(shape),
            DOMAIN,
            "'0.p.tau'",
            "-1 is outside",
            "Give values inside",
        ),
        (NoSupport(), INITIAL, PATH, "raised NotImplementedError", FUNCTION),
        (
            MultivariateNormal(torch.zeros(2), torch.eye(2)),
            INITIAL,
            PATH,
            "MultivariateNormal(",
            "give a distribution inside it",
        ),
        (LogNormal(torch.zeros(2), 1.0), INITIAL, PATH, "LogNormal(", "give shape="),
        (Categorical(torch.tensor([1.0, 0.0])), DOMAIN, "'0.p.tau'", "0 is outside", "Give values"),
        ({"gain": 1.0}, UNKNOWN, "'gain'", "init speaks of", "can be named:\n  0.p.tau"),
        ({"0.p": 1.0}, UNKNOWN, "'0.p'", "init speaks of", "can be named:\n  0.p.tau"),
        ({5: 1.0}, UNKNOWN, "'5'", "init speaks of", "can be named:\n  0.p.tau"),
        ({None: 1.0}, UNKNOWN, "'None'", "init speaks of", "can be named:\n  0.p.tau"),
        ({"0.p.tau": {"low": 1.0}}, INITIAL, PATH, "got {'low': 1.0}", NUMERIC),
        ({"0.p.tau": "4"}, INITIAL, PATH, "got '4'", NUMERIC),
    ],
)
bad(
    "init of a vector",
    vector,
    lambda module, init: make_trainable(module, "tau", init),
    [
        (torch.ones(2), INITIAL, "'tau'", "shape (2,)", "has shape (3,); give shape="),
        ([1.0, 2.0], INITIAL, "'tau'", "got [1.0, 2.0]", "give shape="),
        (torch.ones(2, 3), INITIAL, "'tau'", "shape (2, 3)", "give shape="),
        (lambda shape: torch.ones(shape[0] + 1), INITIAL, "'tau'", "shape (4,)", "give shape="),
        (Uniform(torch.ones(2), 2 * torch.ones(2)), INITIAL, "'tau'", "Uniform(", "give shape="),
    ],
)
bad(
    "distributions",
    pair,
    lambda module, of: make_trainable(module, {"0.p.tau": of[0]}, of[1], shape=(2,)),
    [
        ((a_map, drawn), INITIAL, PATH, type(drawn).__name__, "give a distribution inside it")
        for a_map, drawn in (
            (ExpScaledLog(), Normal(100.0, 1.0)),
            (ExpScaledLog(), Uniform(-1.0, 1.0)),
            (ExpScaledLog(), Uniform(torch.tensor([1.0, -1.0]), torch.tensor([2.0, 2.0]))),
            (Softplus(lower=0.05), LogNormal(0.0, 1.0)),
            (Softplus(lower=0.05), Uniform(0.04, 1.0)),
            (BoundedSigmoid(0.0, 1000.0), LogNormal(0.0, 1.0)),
            (BoundedSigmoid(0.1, 0.9), Beta(2.0, 2.0)),
            (BoundedSigmoid(1.0, 2.0), Beta(2.0, 2.0)),
            (BoundedSigmoid(-2.0, -1.0), Uniform(-3.0, -1.5)),
        )
    ],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
