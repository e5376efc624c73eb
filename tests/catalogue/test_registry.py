"""Look-ups in the catalogue, for the libraries that it brings and for classes derived from them."""

from __future__ import annotations

import pytest
import snntorch as snn
from sinabs.layers import LIF
from torch import nn

from neuroparam import BoundedSigmoid, ExpScaledLog, Quantity, Softplus, find
from tests.support.inside import (
    BUILT_IN,
    Refused,
    Trains,
    is_catalogued,
    row_of,
)


class Derived(snn.Leaky):
    """A user's class."""


@pytest.mark.parametrize("kind", [snn.Leaky, Derived])
def test_a_derived_class_has_the_rows_of_its_base(kind: type) -> None:
    row = row_of(kind(beta=0.9), "beta")
    assert isinstance(row, Trains)
    assert row.quantity is Quantity.TAU_MEM
    assert isinstance(row_of(kind(beta=0.9), "mem"), Refused)


def test_nothing_is_known_of_other_fields_and_other_modules() -> None:
    leaky, other = snn.Leaky(beta=0.9), nn.Linear(2, 2)
    assert row_of(leaky, "no_such_field") is None
    assert row_of(other, "beta") is None
    assert is_catalogued(leaky)
    assert not is_catalogued(other)


def test_defaults_keep_a_module_valid() -> None:
    leaky = {found.path: found.parametrization for found in find(snn.Leaky(beta=0.9))}
    assert repr(leaky["beta"]) == repr(BoundedSigmoid(0.0, 1.0))
    assert isinstance(leaky["threshold"], Softplus)
    (tau_mem,) = (each for each in find(LIF(tau_mem=20.0)) if each.path == "tau_mem")
    assert isinstance(tau_mem.parametrization, ExpScaledLog)


def test_each_library_says_of_each_row_what_it_is() -> None:
    assert len({library.package for library in BUILT_IN}) == len(BUILT_IN) == 9
    for library in BUILT_IN:
        for row in library.rows:
            said = (row.meaning,) if isinstance(row, Trains) else (row.reason, row.instead)
            assert row.field
            assert all(said), row
