"""Whatever constants a map is given, it is valid, or says why not."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroparam import BoundedSigmoid, Decay, ExpScaledLog, Parametrization, Softplus, errors
from neuroparam.units import Above
from tests.support.junk import JUNK, seldom


@given(data=st.data(), of=st.sampled_from([Softplus, ExpScaledLog, BoundedSigmoid, Decay, Above]))
def test_junk_for_a_constructor(data: st.DataObject, of: type[Parametrization]) -> None:
    constants = st.floats() | st.floats(1e-3, 1e3) | st.floats(-10.0, 10.0)
    arguments = data.draw(st.lists(seldom(constants, JUNK), min_size=1, max_size=2))
    try:
        a_map = of(*arguments[: 1 if of in (Decay, Above) else 2])
    except errors.ParametrizationError:
        return
    except TypeError:
        assert of is BoundedSigmoid  # python's own: `upper` is not given
        assert len(arguments) == 1
        return
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raw = torch.tensor([-math.inf, -30.0, -1.0, 0.0, 1.0, 30.0, math.inf], dtype=dtype)
        raw = raw.nan_to_num().requires_grad_()
        try:
            if of is not Decay and of is not Above:
                a_map.right_inverse(torch.tensor([2.5], dtype=dtype))  # fits what is to be fitted
            value = a_map(raw)
        except (errors.ParametrizationError, errors.OutOfDomainError):
            continue
        assert not a_map.outside(value.detach()).any()
        (gradient,) = torch.autograd.grad(value.sum(), raw)
        assert gradient.isfinite().all()
        if of not in (Decay, Above):  # whose inverse is a value of the map before them
            assert a_map.right_inverse(value.detach()).isfinite().all()
