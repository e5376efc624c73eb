"""Whatever is looked at or fixed, there is an answer, or an error that says why not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from torch import nn

from neuroparam import (
    Quantity,
    check_gradients,
    errors,
    find,
    make_fixed,
    neuron_parameters,
    param_groups,
    summary,
    values,
)
from tests.support.bad_calls import attached
from tests.support.inside import as_real
from tests.support.junk import JUNK, succeeds


@given(value=JUNK)
def test_junk_for_looking_and_fixing(value: Any) -> None:
    module = attached()
    values(module)
    for look in (values, find, summary, neuron_parameters, check_gradients):
        if not isinstance(value, nn.Module):
            with pytest.raises(errors.UnsupportedModuleError):
                look(value)
    if succeeds(lambda: values(module, value), module):
        assert value is None or isinstance(value, Quantity)
    if succeeds(lambda: values(module, dt=value), module):
        assert value is None or as_real(value) > 0
    if succeeds(lambda: param_groups(module, 1e-3, neuron_weight_decay=value), module):
        assert as_real(value) >= 0
    if succeeds(lambda: make_fixed(module, value), module):
        assert len(values(module)) < 2
