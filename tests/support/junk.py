"""Arguments of every kind, drawn by hypothesis, and what must hold whatever is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Gamma, Normal, Uniform

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Parametrization,
    Quantity,
    Rate,
    Softplus,
    errors,
)
from tests.support.bad_calls import (
    TAU,
    NoSupport,
    Raises,
    Reciprocal,
    around,
    leaky,
    lif_node,
    no_argument,
    norse_cell,
    ours,
    pair,
    raises,
    rockpool_lif,
    vector,
)
from tests.support.inside import attached as places
from tests.support.modules import Pair, assert_unchanged, snapshot

OBJECTS = [
    None,
    object,
    float,
    Normal,
    nn.Linear,
    ExpScaledLog,
    Quantity,
    TAU,
    ...,
    slice(2),
    ours,
    raises,
    no_argument,
    np.float32(2.0),
    np.int64(2),
    np.bool_(True),
    np.array(2.0),
    np.arange(3),
    np.zeros(0),
    np.array(["a", None], dtype=object),
    np.datetime64("2020"),
    torch.tensor(2.0),
    torch.tensor(2),
    torch.tensor(True),
    torch.tensor(1j),
    torch.tensor([3.0, 0.5, 2.0]),
    torch.tensor([math.nan, 1.0, 2.0]),
    torch.ones(2, 3, dtype=torch.float64),
    torch.ones(0),
    torch.ones(3, device="meta"),
    torch.eye(3).to_sparse(),
    torch.ones(3, requires_grad=True) * 2,
    nn.UninitializedParameter(),
    nn.Parameter(torch.ones(3)),
    nn.Buffer(torch.ones(3)),
    nn.Linear(2, 2),
    nn.ModuleList([ExpScaledLog()]),
    ExpScaledLog(),
    Softplus(lower=1.5, scale=2.0),
    BoundedSigmoid(1e-3, 10.0, spacing="log"),
    Parametrization(),
    Rate(),
    Raises(),
    Reciprocal(),
    Uniform(1.0, 2.0),
    Normal(0.0, 1.0),
    Gamma(torch.ones(2), 1.0),
    NoSupport(),
    Pair(),
]
NUMBERS = (
    st.booleans()
    | st.floats()
    | st.integers(-3, 3)
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([10**400, -(10**400), 1e-45, 3.4e38, 1e39])
    | st.complex_numbers()
)
SINGLE = NUMBERS | st.text(max_size=6) | st.binary(max_size=3) | st.sampled_from(OBJECTS)
JUNK = st.recursive(
    SINGLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 2), inner, max_size=2)
        | inner.map(lambda value: lambda shape: value)
    ),
    max_leaves=4,
)
# sizes of which a few make a tensor that is small, or that no machine could hold
SIZES = st.sampled_from([-1, 0, 1, 2, 3, True, 2.0, "3", None, 2**62, 10**30, np.int64(2)])
SHAPES = SIZES | st.lists(SIZES, max_size=3) | st.sampled_from([TAU, "", b"2", np.array([3]), {}])
SUBJECTS = {
    pair: ["tau", "0.p.gain", "*.tau"],
    vector: ["tau", "gain"],
    leaky: ["beta", "0.threshold", TAU, Quantity.THRESHOLD],
    norse_cell: ["0.p.tau_mem_inv", TAU, "*inv"],
    lif_node: ["0.tau", TAU],
    rockpool_lif: ["0.tau_mem", Quantity.TAU_SYN],
}


def seldom(usual: st.SearchStrategy[Any], junk: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Junk in one of three arguments, so that a call with one bad argument comes up."""
    return st.integers(0, 2).flatmap(lambda n: junk if n == 0 else usual)


def succeeds(call: Callable[[], object], module: nn.Module) -> bool:
    """Whether a call goes through; if it does not, it has to say so and leave everything."""
    before, outside = snapshot(module), around()
    try:
        call()
    except errors.NeuroparamError:
        done = False
        assert_unchanged(module, before)
    else:
        done = True
    assert around() == outside
    return done


def assert_valid(module: nn.Module) -> None:
    for place in places(module):
        value = place.parameter().detach()
        low, high = place.parameter.bounds
        assert value.isfinite().all()
        assert place.parameter.raw.isfinite().all()
        # the bounds are rounded to the dtype as the values are
        slack = 1e-6 * abs(value)
        assert (value >= low - slack).all()
        assert (value <= high + slack).all()
