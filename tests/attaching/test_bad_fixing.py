"""What make_fixed cannot give back."""

from __future__ import annotations

import torch
from torch import nn

from neuroparam import make_fixed
from tests.support.bad_calls import (
    AMBIGUOUS,
    INVALID,
    KINDS,
    NOT_MODULES,
    TAU,
    UNKNOWN,
    Bad,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
    attached,
    pair,
)

bad = Tables()

bad("modules for make_fixed", lambda: None, lambda _, module: make_fixed(module), NOT_MODULES)
bad(
    "make_fixed",
    attached,
    make_fixed,
    [
        ("tua", UNKNOWN, "'tua'", "no trainable value named", "named:\n  0.p.tau\n  0.p.gain"),
        (["0.p.tau", "gian"], UNKNOWN, "'gian'", "no trainable value", "  0.p.gain"),
        ("0.p", UNKNOWN, "'0.p'", "no trainable value named", "  0.p.tau"),
        ("*.rho", UNKNOWN, "'*.rho'", "no trainable value named", "  0.p.tau"),
        ("", UNKNOWN, "''", "no trainable value named", "  0.p.tau"),
        ("0.p.method", UNKNOWN, "'0.p.method'", "no trainable value named", "  0.p.tau"),
        (TAU, UNKNOWN, "Quantity.TAU_MEM", "no trainable value named", "  0.p.tau"),
        (5, INVALID, "names", "got 5", KINDS),
        ([5], INVALID, "names", "got 5", "a name is a string or a Quantity"),
        (b"tau", INVALID, "names", "got b'tau'", "a name is a string or a Quantity"),
        ([], INVALID, "names", "got []", "there is no name in it"),
        ([["tau"]], INVALID, "names", "got ['tau']", "a name is a string or a Quantity"),
        (torch.ones(()), INVALID, "names", "a float32 tensor", KINDS),
    ],
)
bad(
    "make_fixed",
    lambda: nn.Sequential(attached(), attached()),
    make_fixed,
    [("tau", AMBIGUOUS, "'tau'", "0.0.p.tau\n  1.0.p.tau", "by its full path")],
)
bad(
    "make_fixed of what is plain",
    pair,
    make_fixed,
    [("tau", UNKNOWN, "'tau'", "Sequential", "There is nothing that could be named")],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
