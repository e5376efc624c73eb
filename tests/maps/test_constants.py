"""How the constants of maps are written into a state dict, and what is read from one."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Parametrization,
    Rate,
    Softplus,
    Steps,
    errors,
)
from neuroparam.units import Bitshift, Leak, LogRate, SigmoidRate

MAPS = [
    Softplus(),
    Softplus(lower=-0.5, scale=1e-6),
    ExpScaledLog(reference=1e5),
    ExpScaledLog(scale=0.3),
    BoundedSigmoid(0.0, 1000.0),
    BoundedSigmoid(1e-7, 1.0, spacing="log"),
    Rate(),
    Decay(dt=1e-3),
    Steps(dt=1e-8),
    Bitshift(dt=1e-3),
    Leak(dt=1e-3, scale=4096),
    LogRate(dt=1e-3),
    SigmoidRate(dt=1e-3),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
each_map = pytest.mark.parametrize("each", MAPS, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def fitted(value: float, each: Parametrization | None = None) -> Parametrization:
    made = Softplus() if each is None else copy.deepcopy(each)
    made.right_inverse(torch.tensor([value], dtype=torch.float64))
    return made


class Named(Parametrization):
    """A user's map whose constants are of every kind that can be written."""

    domain = constraints.real
    constant_names = ("number", "count", "flag", "word", "missing")

    def __init__(self, word: str = "sharp", number: float = 2.0, missing: object = None):
        super().__init__()
        self.number, self.count, self.flag, self.word, self.missing = number, 3, True, word, missing

    def forward(self, raw: Tensor) -> Tensor:
        return self.number * raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / self.number


@each_map
def test_constants_are_a_small_vector_in_double_precision_on_the_cpu(
    each: Parametrization,
) -> None:
    with torch.device("meta"), torch.inference_mode():
        state = copy.deepcopy(each).get_extra_state()
    assert (state.dtype, state.device.type, state.ndim) == (torch.float64, "cpu", 1)
    assert not state.requires_grad
    state.mul_(1.0)  # no inference tensor: an average may be written into it
    assert len(state) == 2 + 2 * len(each.constant_names)
    numbers = [getattr(each, name) for name in each.constant_names]
    for number, shown in zip(numbers, state[2:].tolist(), strict=False):
        assert (
            shown == number or (number is None and math.isnan(shown)) or number in {"linear", "log"}
        )
    assert not [*each.buffers()]


@each_dtype
@each_map
def test_given_constants_agree_in_every_precision(
    each: Parametrization, dtype: torch.dtype
) -> None:
    if None in {getattr(each, name) for name in each.constant_names}:
        each = fitted(20.0, each)
    state = each.get_extra_state().to(dtype)
    other = copy.deepcopy(each)
    other.set_extra_state(state)
    assert repr(other) == repr(each)


@pytest.mark.parametrize(("one", "other"), [*itertools.permutations(MAPS[1:], 2)], ids=repr)
def test_another_map_or_other_given_constants_are_refused(
    one: Parametrization, other: Parametrization
) -> None:
    for dtype in DTYPES:
        with pytest.raises(errors.CheckpointError, match="attach with the checkpoint's"):
            copy.deepcopy(one).check_extra_state(other.get_extra_state().to(dtype), torch.float32)


@each_dtype
def test_fitted_constants_are_what_the_checkpoint_says(dtype: torch.dtype) -> None:
    state = fitted(23.4567).get_extra_state().to(dtype)
    fresh = Softplus()
    fresh.set_extra_state(state)
    assert fresh.scale == state[3].item()
    assert fresh.scale == pytest.approx(23.4567, rel=torch.finfo(dtype).eps)


def test_constants_that_are_fitted_change_only_with_a_raw_tensor() -> None:
    mine, other = fitted(10.0), fitted(20.0)
    with pytest.raises(errors.CheckpointError, match=r"scale=20\.0.*scale=10\.0.*raw values"):
        mine.load_state_dict(other.state_dict())
    assert mine.scale == 10.0
    mine.load_state_dict(fitted(10.0).state_dict())


def test_every_kind_of_constant_of_a_users_map_travels() -> None:
    state = pickle.loads(pickle.dumps(Named().get_extra_state()))
    Named().set_extra_state(state)
    Named().set_extra_state(state.half())
    for other in (Named("soft"), Named(number=2.1), Named(missing=1.0)):
        with pytest.raises(errors.CheckpointError, match="attach with the checkpoint's constants"):
            other.set_extra_state(state)
    with pytest.raises(errors.CheckpointError, match=r"word=another word.*word='soft'"):
        Named("soft").set_extra_state(state)


@pytest.mark.parametrize("constant", [(1.0, 2.0), torch.ones(2), {}, 1j], ids=repr)
def test_a_constant_that_cannot_be_written_is_refused(constant: object) -> None:
    with pytest.raises(errors.ParametrizationError, match=r"Named\.missing is .* words and None"):
        Named(missing=constant).get_extra_state()


def test_a_class_that_was_renamed_or_whose_constants_were_is_refused() -> None:
    renamed = type("Renamed", (Named,), {})
    reordered = type("Named", (Named,), {"constant_names": ("count", *Named.constant_names[2:])})
    swapped = type("Named", (Named,), {"constant_names": Named.constant_names[::-1]})
    for other in (renamed, reordered, swapped):
        with pytest.raises(errors.CheckpointError, match="attach with the checkpoint's param"):
            Named().set_extra_state(other().get_extra_state())


JUNK = {
    "None": None,
    "a list": [1.0, 2.0],
    "a word": "abc",
    "an empty tensor": torch.ones(0),
    "another tensor": torch.ones(3),
    "a matrix": torch.ones(2, 3),
    "integers": torch.ones(6, dtype=torch.long),
    "on the meta device": torch.ones(6, device="meta"),
    "NaN": torch.full((6,), math.nan),
    "weights scaled": 0.5 * fitted(10.0).get_extra_state(),
    "a negative scale": fitted(10.0).get_extra_state() * torch.tensor([1, 1, 1, -1, 1, 1]),
    "an infinite scale": fitted(1e5).get_extra_state().half(),
    "a scale beyond float32": fitted(1.0).get_extra_state().double()
    + torch.tensor([0, 0, 0, 1e300, 0, math.log(1e300)], dtype=torch.float64),
    "a dict of nothing": {},
    "a dict of a tensor": {"parametrization": "Softplus", "lower": torch.zeros(3), "scale": 1.0},
    "a dict of a word": {"parametrization": "Softplus", "lower": 0.0, "scale": "10"},
    "a dict with more": {"parametrization": "Softplus", "lower": 0.0, "scale": 1.0, "more": 1.0},
    "a dict of another map": {"parametrization": "Squareplus", "lower": 0.0, "scale": 1.0},
    "a dict of a tuple": {"parametrization": ("Softplus",), "lower": 0.0, "scale": 1.0},
}


@pytest.mark.parametrize("name", JUNK)
def test_constants_that_make_no_sense_are_refused(name: str) -> None:
    for fresh in (Softplus(), fitted(3.0)):
        before = fresh.scale
        with pytest.raises(errors.CheckpointError):
            fresh.check_extra_state(JUNK[name], torch.float32)
        assert fresh.scale == before


def test_a_later_format_is_refused_by_name() -> None:
    state = torch.cat([torch.tensor([2.0]), torch.rand(9)])
    with pytest.raises(errors.CheckpointError, match=r"later release .* format 2, .* reads 1"):
        Softplus().set_extra_state(state)


def test_what_earlier_versions_wrote_is_read() -> None:
    fresh = Softplus(lower=0.5)
    fresh.set_extra_state({"parametrization": "Softplus", "lower": 0.5, "scale": 7.25})
    assert fresh.scale == 7.25
    log = {"parametrization": "BoundedSigmoid", "lower": 1.0, "upper": 9.0, "spacing": "log"}
    BoundedSigmoid(1.0, 9.0, spacing="log").set_extra_state(log)
    with pytest.raises(errors.CheckpointError, match=r"spacing=another word.*'linear'"):
        BoundedSigmoid(1.0, 9.0).set_extra_state(log)
    Rate().set_extra_state({"parametrization": "Rate"})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("decay", [0.9, 0.999, 0.9999])
def test_a_running_average_of_equal_constants_is_accepted(dtype: torch.dtype, decay: float) -> None:
    for value in (1e-3, 23.4567, 1234.5):
        state = fitted(value).get_extra_state().to(dtype)
        average = state.clone()
        for _ in range(20_000):
            average.mul_(decay).add_(state, alpha=1 - decay)
        fresh = Softplus()
        fresh.set_extra_state(average)
        assert fresh.scale == pytest.approx(value, rel=1e-3 if dtype == torch.float32 else 1e-12)


# the coarser the dtype, the greater the difference that its rounding hides
UNLIKE = [
    *itertools.product([torch.float64], [0.5, 0.9, 0.99], [5.0, 21.0, 80.0]),
    *itertools.product([torch.float32], [0.5, 0.9, 0.99], [5.0, 80.0]),
    *itertools.product([torch.bfloat16, torch.float16], [0.5], [5.0, 80.0]),
]


@pytest.mark.parametrize(("dtype", "weight", "other"), UNLIKE, ids=str)
def test_an_average_of_unlike_constants_is_refused(
    dtype: torch.dtype, weight: float, other: float
) -> None:
    one, two = (fitted(value).get_extra_state() for value in (20.0, other))
    average = (weight * one + (1 - weight) * two).to(dtype)
    with pytest.raises(errors.CheckpointError, match="average of networks in which scale differed"):
        Softplus().check_extra_state(average, torch.float32)
