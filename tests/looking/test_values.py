"""The present values of a module, as copies."""

from __future__ import annotations

import torch
from torch import nn

from neuroparam import values
from tests.support.network import two_values


def test_values_are_copies() -> None:
    network = two_values()
    present = values(network)
    assert list(present) == ["1.p.tau", "1.p.gain"]
    assert not present["1.p.tau"].requires_grad
    present["1.p.tau"].zero_()
    torch.testing.assert_close(network[1].p.tau.detach(), torch.tensor([2.0, 4.0, 60.0]))
    assert values(nn.Linear(2, 2)) == {}
