"""Bad calls of what looks at a module, groups its parameters, or draws its values."""

from __future__ import annotations

import math

import torch

from neuroparam import find, make_trainable, neuron_parameters, param_groups, summary, values
from neuroparam.plot import distributions
from tests.support.bad_calls import (
    ARGUMENT,
    NOT_MODULES,
    SECONDS,
    STEP,
    TAU,
    Bad,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
    attached,
    leaky,
)

bad = Tables()

for look in (values, find, summary, neuron_parameters):
    bad(
        f"modules for {look.__name__}",
        lambda: None,
        lambda _, module, look=look: look(module),
        NOT_MODULES,
    )
bad(
    "values",
    lambda: make_trainable(leaky(), "beta"),
    lambda module, given: values(module, given[0], dt=given[1]),
    [
        (("tau", 1e-3), ARGUMENT, "quantity", "got 'tau'", "such as Quantity.TAU_MEM"),
        ((["beta"], None), ARGUMENT, "quantity", "got ['beta']", "such as Quantity.TAU_MEM"),
        ((TAU, None), STEP, "'0.beta'", "no time step of its own", "such as dt=1e-3"),
        ((TAU, 0.0), STEP, "'0.beta'", "got 0.0", SECONDS),
        ((TAU, "1e-3"), STEP, "'0.beta'", "got '1e-3'", SECONDS),
        ((None, -1e-3), STEP, "'0.beta'", "got -0.001", SECONDS),
    ],
)
bad(
    "values of another time step",
    lambda: make_trainable(leaky(), TAU, dt=1e-3),
    lambda module, dt: values(module, TAU, dt=dt),
    [(2e-3, STEP, "'0.beta'", "dt=0.002", "attached with Decay(dt=0.001)")],
)
RATE = "a finite number >= 0"
bad(
    "param_groups",
    attached,
    lambda module, given: param_groups(module, **{"lr": 1e-3, **given}),
    [
        ({"lr": -1e-3}, ARGUMENT, "lr must be", "got -0.001", RATE),
        ({"lr": "1e-3"}, ARGUMENT, "lr must be", "got '1e-3'", RATE),
        ({"lr": None}, ARGUMENT, "lr must be", "got None", RATE),
        ({"neuron_lr": math.nan}, ARGUMENT, "neuron_lr must be", "got nan", RATE),
        ({"neuron_lr": True}, ARGUMENT, "neuron_lr must be", "got True", RATE),
        ({"weight_decay": -1}, ARGUMENT, "weight_decay must be", "got -1", RATE),
        ({"neuron_weight_decay": 1j}, ARGUMENT, "neuron_weight_decay must", "got 1j", RATE),
    ],
)
ONE = {"tau": torch.ones(2)}
SAME = "the same paths as before"
bad(
    "plot",
    lambda: None,
    lambda _, given: distributions(*given[0], **given[1]),
    [
        ((({}, {}), {}), ARGUMENT, "before must be", "got {}", "what neuroparam.values gives"),
        (((3, ONE), {}), ARGUMENT, "before must be", "got 3", "what neuroparam.values gives"),
        (((ONE, {"v": ONE["tau"]}), {}), ARGUMENT, "after must be", "got {'v'", SAME),
        ((({"a": ONE, "b": {}},), {}), ARGUMENT, "before['b'] must be", "got {}", "not empty"),
        (
            (({"a": ONE, "b": {"v": ONE["tau"]}},), {}),
            ARGUMENT,
            "before['b'] must be",
            "got {'v'",
            "same paths as before['a']",
        ),
        (((ONE, {"tau": 3.0}), {}), ARGUMENT, "'tau' must be", "got 3.0", "a tensor of finite"),
        (
            ((ONE, {"tau": torch.tensor([math.nan])}), {}),
            ARGUMENT,
            "'tau' must be",
            "min nan",
            "a tensor of finite",
        ),
        (((ONE, {"tau": torch.ones(0)}), {}), ARGUMENT, "'tau'", "shape (0,)", "a tensor of"),
        (
            (({"tau": torch.zeros(1)}, ONE), {"rates_in_ms": ["tau"]}),
            ARGUMENT,
            "'tau' must be",
            "min 0, max 0",
            "a rate not 0",
        ),
        (((ONE, ONE), {"rates_in_ms": "tau"}), ARGUMENT, "rates_in_ms", "got 'tau'", "['tau']"),
        (((ONE, ONE), {"rates_in_ms": ["v"]}), ARGUMENT, "rates_in_ms", "got ['v']", "['tau']"),
        (((ONE, ONE), {"labels": {"v": "V"}}), ARGUMENT, "labels", "got {'v': 'V'}", "['tau']"),
        (((ONE, ONE), {"bins": 0}), ARGUMENT, "bins must be", "got 0", "a positive integer"),
        (((ONE, ONE), {"bins": 2.5}), ARGUMENT, "bins must be", "got 2.5", "positive integer"),
    ],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
