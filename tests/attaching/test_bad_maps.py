"""What is no parametrization, or one that cannot hold the value."""

from __future__ import annotations

import torch
from torch import nn

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Parametrization,
    Rate,
    Softplus,
    errors,
    make_trainable,
)
from neuroparam.units import Above, Bitshift
from tests.support.bad_calls import (
    DOMAIN,
    SENSELESS,
    Bad,
    Flattens,
    NoInverse,
    Raises,
    ReadsWhatIsNotThere,
    Reciprocal,
    Tables,
    ToDouble,
    assert_says_what_to_do_and_changes_nothing,
    pair,
)
from tests.support.modules import Doubled

bad = Tables()

A_MAP = "a torch.nn.Module with forward and right_inverse, such as ExpScaledLog()"

bad(
    "parametrizations",
    pair,
    lambda module, chain: make_trainable(module, {"0.p.tau": chain}),
    [
        (ExpScaledLog, SENSELESS, "'0.p.tau'", "ExpScaledLog is a class", "give an instance"),
        (3.0, SENSELESS, "'0.p.tau'", "got 3.0", A_MAP),
        (True, SENSELESS, "'0.p.tau'", "got True", A_MAP),
        ("Softplus", SENSELESS, "'0.p.tau'", "got 'Softplus'", A_MAP),
        (torch.exp, SENSELESS, "'0.p.tau'", "got <built-in method exp", A_MAP),
        (nn.Identity(), SENSELESS, "'0.p.tau'", "got Identity()", A_MAP),
        (nn.Sequential(ExpScaledLog()), SENSELESS, "'0.p.tau'", "got Sequential(", A_MAP),
        ({ExpScaledLog()}, SENSELESS, "'0.p.tau'", "got {ExpScaledLog(", A_MAP),
        ({"tau": ExpScaledLog()}, SENSELESS, "'0.p.tau'", "got {'tau': ", A_MAP),
        ([], SENSELESS, "'0.p.tau'", "an empty list", "None for the default"),
        ([None], SENSELESS, "'0.p.tau'", "got None", A_MAP),
        ([ExpScaledLog(), 5], SENSELESS, "'0.p.tau'", "got 5", A_MAP),
        ([ExpScaledLog(), Softplus], SENSELESS, "'0.p.tau'", "Softplus is a class", "Softplus()"),
        ([[ExpScaledLog()]], SENSELESS, "'0.p.tau'", "got [ExpScaledLog(", A_MAP),
        (Parametrization(), SENSELESS, "'0.p.tau'", "Parametrization()", "such as ExpScaledLog"),
        (NoInverse(), SENSELESS, "'0.p.tau'", "min 4, max 4", "See to right_inverse in NoInverse"),
        (Raises(), SENSELESS, "'0.p.tau'", "KeyError: 'table'", "See to forward and right_inv"),
        (Flattens(), SENSELESS, "'0.p.tau'", "Flattens()", "See to forward and right_inverse"),
        (ToDouble(), SENSELESS, "'0.p.tau'", "ToDouble()", "See to forward and right_inverse"),
        (ReadsWhatIsNotThere(), errors.EvaluationError, "'0.p.tau'", "'missing'", "reading"),
        (Decay(1e-3), SENSELESS, "'0.p.tau'", "no map before it", "lower bound of at least 0"),
        (
            [Decay(1e-3), ExpScaledLog()],
            SENSELESS,
            "'0.p.tau'",
            "what Decay(dt=0.001) takes must stay above 0",
            "such as ExpScaledLog()",
        ),
        ([Softplus(-1.0), Rate()], SENSELESS, "'0.p.tau'", "down to -1", "at least 0"),
        ([Softplus(-1e-9), Rate()], SENSELESS, "'0.p.tau'", "down to -1e-09", "at least 0"),
        ([Doubled(), Softplus(-1e-9), Rate()], SENSELESS, "'0.p.tau'", "to -1e-09", "at least 0"),
        ([BoundedSigmoid(-2, 0), Rate()], SENSELESS, "'0.p.tau'", "down to -2", "at least 0"),
        ([Softplus(-1.0), Bitshift(1.0)], SENSELESS, "'0.p.tau'", "Bitshift(dt=1)", "at least 0"),
        ([BoundedSigmoid(-1, -1e-9), Decay(1)], SENSELESS, "'0.p.tau'", "Decay", "at least 0"),
        (Above(1.0), SENSELESS, "'0.p.tau'", "no map before it", "such as ExpScaledLog()"),
        ([ExpScaledLog(), Decay(1e-3)], DOMAIN, "'0.p.tau'", "4 is outside", "Give values inside"),
        ([ExpScaledLog(), Above(5.0)], DOMAIN, "'0.p.tau'", "(5, inf)", "Give values inside"),
        (BoundedSigmoid(0.0, 4.0), DOMAIN, "'0.p.tau'", "(0, 4)", "Give values inside"),
        (BoundedSigmoid(5.0, 6.0), DOMAIN, "'0.p.tau'", "(5, 6)", "Give values inside"),
        (Softplus(lower=4.0), DOMAIN, "'0.p.tau'", "(4, inf)", "Give values inside"),
        (ExpScaledLog(reference=1e-60), SENSELESS, "'0.p.tau'", "1e-60", "double precision"),
        (ExpScaledLog(scale=1e-60), SENSELESS, "'0.p.tau'", "1e-60", "double precision"),
        (Softplus(scale=1e-60), SENSELESS, "'0.p.tau'", "1e-60", "double precision"),
        (Softplus(lower=-1e39), SENSELESS, "'0.p.tau'", "-1e+39", "double precision"),
    ],
)
bad(
    "a map of the user's",
    pair,
    lambda module, init: make_trainable(module, {"tau": Reciprocal()}, init),
    [(0.0, SENSELESS, "'0.p.tau'", "min 0, max 0", "See to right_inverse in Reciprocal()")],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
