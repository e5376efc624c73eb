"""Time steps and quantities that a network lacks, contradicts or cannot hold."""

from __future__ import annotations

import math

import norse.torch as norse
import torch
from torch.distributions import Uniform

from neuroparam import BoundedSigmoid, ExpScaledLog, Quantity, Softplus, make_trainable
from tests.support.bad_calls import (
    DOMAIN,
    FUNCTION,
    INITIAL,
    REFUSED,
    SECONDS,
    SENSELESS,
    STEP,
    TAU,
    UNKNOWN,
    Bad,
    Tables,
    alpha,
    assert_says_what_to_do_and_changes_nothing,
    lapicque,
    leaky,
    lif_node,
    norse_cell,
    pair,
    raises,
    rockpool_lif,
)
from tests.support.modules import Doubled

bad = Tables()

bad(
    "dt",
    leaky,
    lambda module, dt: make_trainable(module, TAU, dt=dt),
    [
        (None, STEP, "'0.beta'", "no time step of its own", "such as dt=1e-3"),
        (0, STEP, "'0.beta'", "got 0", SECONDS),
        (-1e-3, STEP, "'0.beta'", "got -0.001", SECONDS),
        (math.nan, STEP, "'0.beta'", "got nan", SECONDS),
        (math.inf, STEP, "'0.beta'", "got inf", SECONDS),
        (10**400, STEP, "'0.beta'", "got 1000000", SECONDS),
        ("1e-3", STEP, "'0.beta'", "got '1e-3'", SECONDS),
        (b"1", STEP, "'0.beta'", "got b'1'", SECONDS),
        (True, STEP, "'0.beta'", "got True", SECONDS),
        (1j, STEP, "'0.beta'", "got 1j", SECONDS),
        (torch.ones(2), STEP, "'0.beta'", "a float32 tensor of shape (2,)", SECONDS),
        (torch.ones(1, device="meta"), STEP, "'0.beta'", "meta", SECONDS),
        ([1e-3], STEP, "'0.beta'", "got [0.001]", SECONDS),
        ({TAU: 1e-3}, STEP, "'0.beta'", "got {Quantity.TAU_MEM: 0.001}", SECONDS),
    ],
)
OWN, LEAVE = "in steps of 0.001 s, and dt=0.002 was given", "Leave dt out"
for build, path in ((norse_cell, "0.p.tau_mem_inv"), (rockpool_lif, "0.tau_mem")):
    bad(
        f"dt of {build.__name__}",
        build,
        lambda module, names: make_trainable(module, names, dt=2e-3),
        [(TAU, STEP, repr(path), OWN, LEAVE), (path, STEP, repr(path), OWN, LEAVE)],
    )
bad(
    "dt where none is needed",
    pair,
    lambda module, dt: make_trainable(module, "tau", dt=dt),
    [(-1.0, STEP, "'0.p.tau'", "got -1.0", SECONDS), ("x", STEP, "'0.p.tau'", "'x'", SECONDS)],
)
bad(
    "quantities that a network lacks",
    lambda: norse.LIFBoxCell(),
    make_trainable,
    [(Quantity.TAU_SYN, UNKNOWN, "Quantity.TAU_SYN", "LIFBoxCell", "named:\n  p.tau_mem_inv")],
)
EULER = "integrates by forward Euler"
bad(
    "quantities of an Euler cell",
    norse_cell,
    lambda module, given: make_trainable(module, {TAU: given[0]}, given[1]),
    [
        ((None, 1e-4), DOMAIN, "'0.p.tau_mem_inv'", "0.0001 is outside", "(0.001, inf)"),
        ((None, 1e-3), DOMAIN, "'0.p.tau_mem_inv'", "0.001 is outside", "(0.001, inf)"),
        ((None, -1e-2), DOMAIN, "'0.p.tau_mem_inv'", "-0.01 is outside", "Give values inside"),
        ((BoundedSigmoid(1e-4, 1), None), SENSELESS, "tau_mem_inv'", EULER, "at least 0.001"),
        ((Softplus(-1.0), None), SENSELESS, "tau_mem_inv'", "down to -1", "at least 0"),
        ((Doubled(), None), SENSELESS, "'0.p.tau_mem_inv'", "Doubled()", "at least 0.001"),
        ((BoundedSigmoid(0.5, 1), None), DOMAIN, "tau_mem_inv'", "(0.5, 1)", "Give values"),
        ((ExpScaledLog, None), SENSELESS, "Quantity.TAU_MEM", "is a class", "give an instance"),
        ((None, Uniform(5e-4, 1.0)), INITIAL, "tau_mem_inv'", "Uniform(", "inside it"),
    ],
)
bad(
    "quantities of a decay",
    leaky,
    lambda module, given: make_trainable(module, {TAU: given[0]}, given[1], dt=1e-3),
    [
        ((None, 0.0), DOMAIN, "'0.beta'", "0 is outside", "Give values inside"),
        ((None, 1e30), DOMAIN, "'0.beta'", "that Decay(dt=0.001) can store", "Give values"),
        ((None, math.nan), INITIAL, "'0.beta'", "got nan", "must be finite"),
        ((Softplus(-1.0), None), SENSELESS, "'0.beta'", "down to -1", "at least 0"),
        ((Softplus(-1e-9), None), SENSELESS, "'0.beta'", "down to -1e-09", "at least 0"),
        ((BoundedSigmoid(-2.0, -1.0), -1.5), SENSELESS, "'0.beta'", "down to -2", "at least 0"),
    ],
)
bad(
    "quantities in seconds",
    rockpool_lif,
    lambda module, chain: make_trainable(module, {TAU: chain}),
    [(Softplus(-1.0), SENSELESS, "'0.tau_mem'", "reaches down to -1", "such as ExpScaledLog()")],
)
bad(
    "quantities of an Euler node",
    lif_node,
    lambda module, init: make_trainable(module, TAU, init, dt=1e-3),
    [
        (5e-4, DOMAIN, "'0.tau'", "0.0005 is outside", "(0.001, inf)"),
        (raises, INITIAL, "'0.tau'", "KeyError: 'rates.csv'", FUNCTION),
    ],
)
ABOVE = "alpha must stay above beta"
bad(
    "coupled parameters",
    alpha,
    lambda module, given: make_trainable(module, given[0], given[1], dt=1e-3),
    [
        ((Quantity.TAU_SYN, None), REFUSED, "'0.", ABOVE, "Name it by its path"),
        (({"alpha": Softplus()}, None), SENSELESS, "'0.alpha'", "can leave", "or None for the"),
        (({"beta": BoundedSigmoid(0, 1)}, None), SENSELESS, "'0.beta'", ABOVE, "or None for"),
        (("alpha", 0.5), DOMAIN, "'0.alpha'", "0.5 is outside", "Give values inside"),
    ],
)
bad(
    "coupled parameters",
    lapicque,
    lambda module, given: make_trainable(module, given[0], given[1], dt=1e-3),
    [
        ((TAU, None), REFUSED, "'0.beta'", "computes with R, C", "Name R or C"),
        (({"R": ExpScaledLog()}, None), SENSELESS, "'0.R'", "above the time step", "or None for"),
        (("C", 1e-9), DOMAIN, "'0.C'", "1e-09 is outside", "Give values inside"),
    ],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
