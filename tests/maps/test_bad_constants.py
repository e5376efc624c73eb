"""Constants with which a map makes no sense."""

from __future__ import annotations

import math

import numpy as np
import torch

from neuroparam import BoundedSigmoid, Decay, ExpScaledLog, Softplus, Steps
from neuroparam.units import Above, Bitshift
from tests.support.bad_calls import (
    SENSELESS,
    Bad,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
)

bad = Tables()

NUMBER = "must be one finite number"

bad(
    "constants",
    lambda: None,
    lambda _, build: build(),
    [
        (lambda: Softplus(lower=math.nan), SENSELESS, "Softplus(lower=", "got nan", NUMBER),
        (lambda: Softplus(lower="1.0"), SENSELESS, "Softplus(lower=", "got '1.0'", NUMBER),
        (lambda: Softplus(lower=None), SENSELESS, "Softplus(lower=", "got None", NUMBER),
        (lambda: Softplus(scale=math.inf), SENSELESS, "Softplus(scale=", "got inf", NUMBER),
        (lambda: Softplus(scale=1j), SENSELESS, "Softplus(scale=", "got 1j", NUMBER),
        (lambda: Softplus(scale=[1.0]), SENSELESS, "Softplus(scale=", "got [1.0]", NUMBER),
        (lambda: Softplus(scale=0.0), SENSELESS, "Softplus(scale=", "got 0.0", "must be > 0"),
        (lambda: ExpScaledLog(True), SENSELESS, "ExpScaledLog(scale=", "got True", NUMBER),
        (lambda: ExpScaledLog(b"1"), SENSELESS, "ExpScaledLog(scale=", "got b'1'", NUMBER),
        (lambda: ExpScaledLog(float), SENSELESS, "ExpScaledLog(scale=", "class 'float'", NUMBER),
        (lambda: ExpScaledLog(-1.0), SENSELESS, "ExpScaledLog(scale=", "got -1.0", "must be > 0"),
        (
            lambda: ExpScaledLog(reference=torch.ones(2)),
            SENSELESS,
            "ExpScaledLog(reference=",
            "a float32 tensor of shape (2,)",
            NUMBER,
        ),
        (
            lambda: ExpScaledLog(reference=10**400),
            SENSELESS,
            "ExpScaledLog(reference=",
            "got 1000000",
            NUMBER,
        ),
        (
            lambda: ExpScaledLog(reference=0),
            SENSELESS,
            "ExpScaledLog(reference=",
            "got 0",
            "must be > 0",
        ),
        (lambda: BoundedSigmoid(None, 1.0), SENSELESS, "Sigmoid(lower=", "got None", NUMBER),
        (lambda: BoundedSigmoid(-math.inf, 1.0), SENSELESS, "Sigmoid(lower=", "-inf", NUMBER),
        (
            lambda: BoundedSigmoid(np.array([np.nan, 0.5]), 1.0),
            SENSELESS,
            "Sigmoid(lower=",
            "array([",
            "must be finite numbers",
        ),
        (
            lambda: BoundedSigmoid(np.array(["a", "b"]), 1.0),
            SENSELESS,
            "Sigmoid(lower=",
            "array([",
            "must be finite numbers",
        ),
        (lambda: BoundedSigmoid(0.0, np.bool_(True)), SENSELESS, "(upper=", "True", NUMBER),
        (lambda: BoundedSigmoid(0.0, np.complex64(1)), SENSELESS, "(upper=", "1+0j", NUMBER),
        (lambda: BoundedSigmoid(1.0, 1.0), SENSELESS, "lower < upper", "upper=1.0", "needs"),
        (lambda: BoundedSigmoid(2.0, 1.0), SENSELESS, "lower < upper", "upper=1.0", "needs"),
        (lambda: BoundedSigmoid(1, 2, "LOG"), SENSELESS, "(spacing=", "'LOG'", '"log"'),
        (lambda: BoundedSigmoid(1, 2, None), SENSELESS, "(spacing=", "got None", '"linear"'),
        (lambda: BoundedSigmoid(1, 2, np.ones(2)), SENSELESS, "(spacing=", "array(", '"log"'),
        (lambda: BoundedSigmoid(0, 1, "log"), SENSELESS, '"log"', "lower=0", '"linear"'),
        (lambda: BoundedSigmoid(-1, 1, "log"), SENSELESS, '"log"', "lower=-1", '"linear"'),
        (lambda: Steps(torch.tensor(True)), SENSELESS, "Steps(dt=", "a bool tensor", NUMBER),
        (lambda: Decay(np.str_("1")), SENSELESS, "Decay(dt=", "np.str_('1')", NUMBER),
        (lambda: Above(torch.ones(1, device="meta")), SENSELESS, "Above(lower=", "meta", NUMBER),
        (lambda: Above(-1.0), SENSELESS, "Above(lower=", "got -1.0", "must be >= 0"),
        (lambda: Bitshift({}), SENSELESS, "Bitshift(dt=", "got {}", NUMBER),
        (lambda: Softplus()(torch.zeros(1)), SENSELESS, "scale=None", "scale is", "attach it"),
        (
            lambda: Softplus(scale=1.0)(torch.zeros(1, dtype=torch.int64)),
            SENSELESS,
            "Softplus(lower=0, scale=1)",
            "got torch.int64",
            "raw must be floating point",
        ),
        (
            lambda: BoundedSigmoid(1.0, 1.0 + 1e-12)(torch.zeros(1)),
            SENSELESS,
            "BoundedSigmoid(lower=1, upper=1",
            "no room in torch.float32",
            "double precision",
        ),
        (
            lambda: BoundedSigmoid(-3e38, 3e38)(torch.zeros(1)),
            SENSELESS,
            "upper=3e+38",
            "no room in torch.float32",
            "double precision",
        ),
        (
            lambda: Steps(1e-30)(torch.ones(1)),
            SENSELESS,
            "Steps(dt=1e-30)",
            "no room in torch.float32",
            "double precision",
        ),
        (
            lambda: Decay(1e30)(torch.ones(1)),
            SENSELESS,
            "Decay(dt=1e+30)",
            "no room in torch.float32",
            "double precision",
        ),
        (
            lambda: BoundedSigmoid(1e30, 3e38, "log")(torch.zeros(1)),
            SENSELESS,
            "upper=3e+38",
            "no room in torch.float32",
            "double precision",
        ),
        (
            lambda: Softplus(lower=3.33e38, scale=1.0)(torch.zeros(1)),
            SENSELESS,
            "Softplus(lower=3.33e+38",
            "no room in torch.float32",
            "double precision",
        ),
    ],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
