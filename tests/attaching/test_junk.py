"""Whatever make_trainable is given, it attaches valid values, or says why not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuroparam import Quantity, make_trainable, values
from tests.support.inside import as_real, matches
from tests.support.inside import attached as places
from tests.support.junk import JUNK, SHAPES, SINGLE, SUBJECTS, assert_valid, seldom, succeeds


@pytest.mark.filterwarnings("ignore::neuroparam.errors.UnitWarning")
@settings(max_examples=3 * settings().max_examples)
@given(data=st.data(), build=st.sampled_from(list(SUBJECTS)))
def test_junk_for_make_trainable(data: st.DataObject, build: Callable[[], nn.Module]) -> None:
    module = build()
    good = st.sampled_from(SUBJECTS[build])
    names = data.draw(
        seldom(good | st.lists(good, max_size=2), JUNK)
        | st.dictionaries(good, seldom(st.none(), JUNK), min_size=1, max_size=2),
        label="names",
    )
    init = data.draw(seldom(st.none() | st.floats(1e-3, 100.0), JUNK), label="init")
    shape = data.draw(seldom(st.none() | st.just((3,)), SHAPES), label="shape")
    dt = data.draw(seldom(st.sampled_from([None, 1e-3]), SINGLE), label="dt")
    if not succeeds(lambda: make_trainable(module, names, init, shape=shape, dt=dt), module):
        return
    assert_valid(module)
    for place in places(module):
        listed = [names] if isinstance(names, (str, Quantity)) else list(names)
        by_path = any(isinstance(name, str) and matches(place.path, name) for name in listed)
        quantity = None if by_path else place.quantity
        value = values(module, quantity, dt=dt)[place.path]
        asked = as_real(init)
        if asked is not None:
            torch.testing.assert_close(
                value.double(), torch.full_like(value, asked).double(), rtol=1e-3, atol=1e-6
            )
        if shape is not None and shape != {}:
            sizes = shape if np.iterable(shape) else [shape]
            assert tuple(value.shape) == tuple(map(int, sizes))
