"""What is no module, or none in which anything can be attached any more."""

from __future__ import annotations

from torch import nn

from neuroparam import errors, make_trainable
from tests.support.bad_calls import (
    NOT_MODULES,
    REFUSED,
    UNSUPPORTED,
    Bad,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
    attached,
    scripted,
)

bad = Tables()

bad("modules", lambda: None, lambda _, m: make_trainable(m, "tau"), NOT_MODULES)
bad(
    "modules in TorchScript",
    scripted,
    lambda module, names: make_trainable(module, names),
    [("bias", UNSUPPORTED, "ScriptModule", "RecursiveScriptModule", "before torch.jit.script")],
)
bad(
    "modules in TorchScript",
    lambda: nn.Sequential(scripted()),
    make_trainable,
    [("0.bias", REFUSED, "'0.bias'", "in a ScriptModule", "Attach before torch.jit.script")],
)
ALREADY = errors.AlreadyTrainableError
bad(
    "modules that have it attached",
    attached,
    make_trainable,
    [
        ("0.p.tau", ALREADY, "'0.p.tau'", "ExpScaledLog(scale=1, reference=4)", "make_fixed("),
        ({"*": None}, ALREADY, "'0.p.", "already parametrized", "make_fixed("),
        ("0.p", REFUSED, "'0.p'", "it is a module", "instead: "),
        ("0.p.parametrizations", REFUSED, "parametrizations'", "a module", "Name a stored value"),
    ],
)


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
