"""Checks of a parametrization of your own, and hypothesis strategies for neuron modules.

A property that holds for any raw tensor holds in training, whatever the optimizer does:

    >>> import torch
    >>> from hypothesis import given
    >>> from neuroparam import Softplus, make_trainable, neuron_parameters
    >>> from neuroparam.testing import raw_values, spike_trains
    >>> class Leaky(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.tau = 20.0
    ...     def forward(self, spikes):
    ...         v = torch.zeros(spikes.shape[1:])
    ...         for x in spikes:
    ...             v = v + (x - v) / self.tau
    ...         return v
    >>> leaky = make_trainable(Leaky(), {"tau": Softplus(lower=1.0)}, shape=(4,))
    >>> @given(raw=raw_values((4,)), spikes=spike_trains(10, 2, 4))
    ... def test_the_membrane_stays_between_rest_and_the_input(raw, spikes):
    ...     with torch.no_grad():
    ...         neuron_parameters(leaky)[0].copy_(raw)
    ...     v = leaky(spikes)
    ...     assert bool(((v >= 0) & (v <= 1)).all())
    >>> test_the_membrane_stays_between_rest_and_the_input()

It needs hypothesis: `pip install "neuroparam[testing]"`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from neuroparam._looking.contract import check_parametrization
from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.softplus import Softplus

try:
    from hypothesis import strategies as st
except ImportError as _error:
    raise ImportError(
        'neuroparam.testing needs hypothesis: pip install "neuroparam[testing]"'
    ) from _error

__all__ = [
    "check_parametrization",
    "gradients",
    "parametrizations",
    "raw_values",
    "spike_trains",
    "time_constants",
    "time_steps",
    "values_of",
]


_WIDTHS: dict[torch.dtype, Literal[16, 32, 64]] = {torch.float64: 64, torch.float16: 16}


def _floats(dtype: torch.dtype, *, finite: bool) -> st.SearchStrategy[float]:
    largest, tiny = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    ends = st.sampled_from([0.0, -0.0, largest, -largest, tiny, tiny / 4])
    drawn = st.floats(
        -largest if finite else None,
        largest if finite else None,
        allow_nan=not finite,
        allow_infinity=not finite,
        width=_WIDTHS.get(dtype, 32),
    )
    where_training_starts = st.floats(-4.0, 4.0, width=16)
    return drawn | ends | where_training_starts


def _tensors(
    entries: st.SearchStrategy[float], shape: Sequence[int], dtype: torch.dtype
) -> st.SearchStrategy[Tensor]:
    size = math.prod(shape)
    return st.lists(entries, min_size=size, max_size=size).map(
        lambda numbers: torch.tensor(numbers, dtype=dtype).reshape(tuple(shape))
    )


def raw_values(
    shape: Sequence[int] = (), dtype: torch.dtype = torch.float32
) -> st.SearchStrategy[Tensor]:
    """Raw tensors: whatever an optimizer can leave in one, from end to end of the finite floats.

    Zeros of both signs, denormal numbers and both ends are among them.

    Args:
        shape: of the raw tensor.
        dtype: its floating-point type.

    Examples:
        >>> import torch
        >>> from hypothesis import given
        >>> from neuroparam import ExpScaledLog
        >>> @given(raw_values((3,)))
        ... def test_a_rate_is_positive(raw):
        ...     assert bool((ExpScaledLog(reference=100.0)(raw) > 0).all())
        >>> test_a_rate_is_positive()
    """
    return _tensors(_floats(dtype, finite=True), shape, dtype)


def gradients(
    shape: Sequence[int] = (), dtype: torch.dtype = torch.float32
) -> st.SearchStrategy[Tensor]:
    """Gradients as a backward pass can bring them, inf and NaN included.

    Args:
        shape: of the gradient.
        dtype: its floating-point type.

    Examples:
        >>> import torch
        >>> from hypothesis import given
        >>> @given(gradients((3,)))
        ... def test_its_shape(gradient):
        ...     assert gradient.shape == (3,)
        >>> test_its_shape()
    """
    return _tensors(_floats(dtype, finite=False), shape, dtype)


def _decades(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log10(low), math.log10(high)).map(lambda exponent: 10.0**exponent)


def _bounds(spacing: str) -> st.SearchStrategy[Parametrization]:
    if spacing == "log":
        return st.builds(
            lambda lower, ratio: BoundedSigmoid(lower, lower * ratio, spacing="log"),
            _decades(1e-6, 1e6),
            _decades(1.001, 1e12),
        )
    # The width is at least a thousandth of the bounds, so that floats lie between them.
    return st.builds(
        lambda lower, width: BoundedSigmoid(lower, lower + width * max(1.0, abs(lower))),
        st.floats(-1e6, 1e6, allow_subnormal=False),
        _decades(1e-3, 1e6),
    )


def parametrizations() -> st.SearchStrategy[Parametrization]:
    """Any of the three parametrizations, with any constants within twelve orders of magnitude.

    Examples:
        >>> import torch
        >>> from hypothesis import given
        >>> @given(parametrizations(), raw_values((3,)))
        ... def test_any_raw_value_is_valid(parametrization, raw):
        ...     assert not bool(parametrization.outside(parametrization(raw)).any())
        >>> test_any_raw_value_is_valid()
    """
    positive = _decades(1e-6, 1e6)
    return st.one_of(
        st.builds(Softplus, scale=positive),
        st.builds(Softplus, lower=st.floats(-1e3, 1e3, allow_subnormal=False), scale=positive),
        st.builds(ExpScaledLog, scale=_decades(1e-2, 1e2), reference=positive),
        _bounds("linear"),
        _bounds("log"),
    )


def values_of(
    parametrization: Parametrization,
    shape: Sequence[int] = (),
    dtype: torch.dtype = torch.float32,
) -> st.SearchStrategy[Tensor]:
    """Values that a parametrization can represent, the smallest and the largest included.

    Args:
        parametrization: with its constants given, or fitted.
        shape: of the value.
        dtype: its floating-point type.

    Examples:
        >>> import torch
        >>> from hypothesis import given
        >>> from neuroparam import BoundedSigmoid
        >>> rate = BoundedSigmoid(0.0, 1000.0)
        >>> @given(values_of(rate, (3,)))
        ... def test_any_value_has_a_raw_tensor(value):
        ...     assert bool(torch.isfinite(rate.right_inverse(value)).all())
        >>> test_any_value_has_a_raw_tensor()
    """
    lowest, highest = parametrization.limits(dtype)
    entries = st.one_of(
        st.floats(lowest, highest),
        st.sampled_from([lowest, highest]),
        # Draws over all orders of magnitude seldom give typical values, so some are added.
        st.floats(-4.0, 4.0, width=16).map(
            lambda raw: parametrization(torch.tensor(raw, dtype=dtype)).item()
        ),
    )
    return _tensors(entries, shape, dtype).map(lambda value: value.clamp(lowest, highest))


def time_steps() -> st.SearchStrategy[float]:
    """Time steps of a simulation, in seconds: from 10 microseconds to 10 milliseconds.

    Examples:
        >>> from hypothesis import given
        >>> @given(time_steps())
        ... def test_their_range(dt):
        ...     assert 0.99e-5 < dt < 1.01e-2
        >>> test_their_range()
    """
    return _decades(1e-5, 1e-2)


def time_constants(
    dt: float, *, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32
) -> st.SearchStrategy[Tensor]:
    """Time constants in seconds, from twice to a thousand times a time step.

    Args:
        dt: the time step of the simulation, in seconds.
        shape: of the tensor.
        dtype: its floating-point type.

    Examples:
        >>> from hypothesis import given
        >>> @given(time_constants(1e-3, shape=(3,)))
        ... def test_their_range(tau):
        ...     assert bool(((tau > 1.9e-3) & (tau < 1.01)).all())
        >>> test_their_range()
    """
    return _tensors(_decades(2 * dt, 1e3 * dt), shape, dtype)


def spike_trains(
    steps: int, batch: int, neurons: int, dtype: torch.dtype = torch.float32
) -> st.SearchStrategy[Tensor]:
    """Spikes of any density, from silence to one in every step.

    Args:
        steps: how many time steps.
        batch: how many samples.
        neurons: how many neurons.
        dtype: of the zeros and ones.

    Returns:
        A strategy for tensors of shape (steps, batch, neurons).

    Examples:
        >>> from hypothesis import given
        >>> @given(spike_trains(10, 2, 3))
        ... def test_spikes_are_zeros_and_ones(spikes):
        ...     assert bool(((spikes == 0) | (spikes == 1)).all())
        >>> test_spikes_are_zeros_and_ones()
    """

    def drawn(density: float, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        chances = torch.rand(steps, batch, neurons, generator=generator)
        return (chances < density).to(dtype)

    return st.builds(drawn, st.floats(0.0, 1.0), st.integers(0, 2**32))
