"""One table of all trainable values."""

from __future__ import annotations

from torch import nn

from neuroparam import summary
from tests.support.network import two_values


def test_summary_says_what_is_where() -> None:
    lines = summary(two_values()).splitlines()
    assert len(lines) == 3
    assert [lines[0].split()[n] for n in (0, -1)] == ["name", "parametrization"]
    assert lines[1].split()[:8] == ["1.p.tau", "(3,)", "2", "4", "60", "(1,", "100)", "3/3"]
    assert lines[1].endswith("BoundedSigmoid(lower=1, upper=100, spacing='log')")
    assert "Softplus(lower=0.5, scale=1.5)" in lines[2]
    assert len(summary(nn.Linear(2, 2)).splitlines()) == 1
