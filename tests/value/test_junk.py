"""Whatever is assigned, the value stays valid, or the assignment raises."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuroparam import values
from tests.support.bad_calls import assign, attached
from tests.support.inside import as_real
from tests.support.junk import JUNK, assert_valid, succeeds


@given(value=JUNK | st.lists(st.floats(width=32), min_size=3, max_size=3).map(torch.tensor))
def test_junk_for_an_assignment(value: Any) -> None:
    module = attached()
    values(module)
    if not succeeds(lambda: assign(module, value), module):
        return
    assert_valid(module)
    wanted = value if isinstance(value, Tensor) else torch.tensor(as_real(value))
    torch.testing.assert_close(
        module[0].p.tau.detach().double(),
        wanted.detach().double().expand(3),
        rtol=1e-5,
        atol=1e-37,
    )
