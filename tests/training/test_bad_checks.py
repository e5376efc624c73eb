"""Bad calls of check_gradients."""

from __future__ import annotations

import torch

from neuroparam import check_gradients, errors, make_trainable
from tests.support.bad_calls import (
    NOT_MODULES,
    Bad,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
)
from tests.support.modules import FromRecord, Pair

bad = Tables()

bad(
    "modules for check_gradients",
    lambda: None,
    lambda _, module: check_gradients(module),
    NOT_MODULES,
)
bad(
    "check_gradients",
    lambda: make_trainable(FromRecord(Pair(), steps=0), ["p.tau"]),
    check_gradients,
    [(torch.ones(3), errors.NoGradientError, "p.tau", "does not depend on it", "make_fixed(")],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
