"""check_gradients proves at once that a gradient reaches every value, or raises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuroparam import ExpScaledLog, check_gradients, errors, make_trainable
from tests.support.modules import FromRecord, Pair
from tests.support.unreached import DropsGradient, Reads

INPUT = torch.ones(3)


def test_check_gradients_returns_the_gradient_of_each() -> None:
    module = make_trainable(FromRecord(Pair(), steps=1), ["tau", "gain"])
    gradients = check_gradients(module, INPUT)
    assert list(gradients) == ["p.tau", "p.gain"]
    # v = x * gain / tau; d/draw = value * d/dvalue = -+ x * gain / tau, summed over x
    torch.testing.assert_close(gradients["p.tau"], torch.tensor(-1.5))
    torch.testing.assert_close(gradients["p.gain"], torch.tensor(1.5))
    assert all(p.grad is None for p in module.parameters())
    with torch.no_grad():
        assert check_gradients(module, INPUT).keys() == gradients.keys()
    assert check_gradients(nn.Linear(3, 1), INPUT) == {}


@pytest.mark.parametrize(
    "use",
    [
        lambda module, x: x,
        lambda module, x: x.detach(),
        lambda module, x: DropsGradient.apply(x, module.rate),
        lambda module, x: (x * module.rate).int(),
    ],
)
def test_check_gradients_raises(use) -> None:
    module = make_trainable(Reads(use), {"rate": ExpScaledLog()})
    with pytest.raises(errors.NoGradientError, match="rate"):
        check_gradients(module, INPUT)
