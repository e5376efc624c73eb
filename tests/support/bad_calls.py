"""Bad calls: tables of them, what they are about, and what must hold after each."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.parameter import is_lazy

from neuroparam import ExpScaledLog, Quantity, Softplus, errors, make_trainable
from tests.support.inside import once
from tests.support.modules import Doubled, FromRecord, Pair, Smooth, assert_unchanged, snapshot


class Bad(NamedTuple):
    """One bad call.

    Attributes:
        group: the table that it stands in.
        build: makes what the call is about.
        call: the call, given what `build` made.
        error: exactly this error.
        says: where (a path, or the argument), what was given, and what to do.
    """

    group: str
    build: Callable[[], Any]
    call: Callable[[Any], object]
    error: type[errors.NeuroparamError]
    says: tuple[str, str, str]


Row = tuple[Any, type[errors.NeuroparamError], str, str, str]


class Tables:
    """The tables of one file; each call of it adds one."""

    def __init__(self) -> None:
        self.cases: list[Bad] = []

    def __call__(
        self,
        group: str,
        build: Callable[[], Any],
        call: Callable[[Any, Any], object],
        rows: list[Row],
    ) -> None:
        """Adds a table: in each row, what is given, the error, and what its message says."""
        for wrong, error, *says in rows:
            self.cases.append(Bad(group, build, lambda m, x=wrong: call(m, x), error, tuple(says)))

    @property
    def every_call(self) -> pytest.MarkDecorator:
        """Parametrizes a test with the calls that the tables hold so far."""
        ids = [f"{n}-{case.group}" for n, case in enumerate(self.cases)]
        return pytest.mark.parametrize("case", self.cases, ids=ids)


def every_bad_call() -> list[Bad]:
    """The calls of all files: each of the name `test_bad_*.py` on a floor has its tables."""
    tests = Path(__file__).parents[1]
    found: list[Bad] = []
    for path in sorted(tests.glob("*/test_bad_*.py")):
        module = importlib.import_module(f"tests.{path.parent.name}.{path.stem}")
        found += module.bad.cases
    return found


def around() -> dict[str, object]:
    """What no call may leave behind outside the module."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "open scopes": len(once.active.scopes),
    }


def assert_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    """Makes a bad call: it raises its error, and the module and torch stay as they were."""
    subject = case.build()
    is_module = isinstance(subject, nn.Module) and not isinstance(subject, torch.jit.ScriptModule)
    if is_module:
        for parameter in nn.Module.parameters(subject):
            if not is_lazy(parameter):
                parameter.grad = torch.full_like(parameter, 7.0)
        before = snapshot(subject)
    outside = around()
    with pytest.raises(errors.NeuroparamError) as caught:
        case.call(subject)
    assert type(caught.value) is case.error
    for said in case.says:
        assert said
        assert said in str(caught.value)
    assert around() == outside
    if is_module:
        assert_unchanged(subject, before)


# ------------------------------------------------------------------------- what is called


def pair() -> nn.Module:
    return nn.Sequential(FromRecord(Pair()))


def vector() -> nn.Module:
    module = Smooth()
    module.tau, module.gain = nn.Parameter(torch.tensor([3.0, 4.0, 5.0])), 2.0
    return module


def attached() -> nn.Module:
    return make_trainable(
        pair(), {"tau": ExpScaledLog(), "gain": Softplus(lower=0.5)}, shape={"tau": 3}
    )


def two() -> nn.Module:
    net = nn.Module()
    net.lif1, net.lif2 = FromRecord(Pair()), FromRecord(Pair(gain=-1.0))
    return net


def norse_cell() -> nn.Module:
    return nn.Sequential(norse.LIFRecurrentCell(3, 3))


def leaky() -> nn.Module:
    return nn.Sequential(snn.Leaky(beta=0.9, learn_threshold=True))


def lif_node() -> nn.Module:
    return nn.Sequential(neuron.LIFNode(20.0))


def sinabs_lif() -> nn.Module:
    return nn.Sequential(sl.LIF(tau_mem=20.0))


def rockpool_lif() -> nn.Module:
    return nn.Sequential(LIFTorch(3))


def alpha() -> nn.Module:
    return nn.Sequential(snn.Alpha(alpha=0.9, beta=0.8))


def lapicque() -> nn.Module:
    return nn.Sequential(snn.Lapicque(R=5.0, C=1.0))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting itself is deprecated
        return torch.jit.script(nn.Linear(2, 2))


class Reciprocal(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        return 1 / raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return 1 / value


class NoInverse(Doubled):
    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clone()


class ReadsWhatIsNotThere(Doubled):
    def forward(self, raw: Tensor) -> Tensor:
        return self.missing * raw


class Raises(Doubled):
    def right_inverse(self, value: Tensor) -> Tensor:
        raise KeyError("table")


class Flattens(Doubled):
    def forward(self, raw: Tensor) -> Tensor:
        return raw.new_ones(7)


class ToDouble(Doubled):
    def forward(self, raw: Tensor) -> Tensor:
        return raw.double()


def no_argument() -> float:
    return 3.0


def raises(shape: torch.Size) -> float:
    raise KeyError("rates.csv")


class NoSupport(Distribution):
    """Says nothing of itself, and cannot draw."""

    arg_constraints = {}  # noqa: RUF012

    def sample(self, sample_shape: torch.Size) -> Tensor:
        raise NotImplementedError


def ours(shape: torch.Size) -> Tensor:
    return torch.full(shape, 2.0)


def assign(module: nn.Module, value: Any) -> None:
    module[0].p.tau = value


# ------------------------------------------------------------ what the messages say

UNKNOWN, INVALID = errors.UnknownNameError, errors.InvalidNamesError
REFUSED, AMBIGUOUS = errors.NotTrainableError, errors.AmbiguousNameError
KINDS = "a name, several names, or a mapping"
SENSELESS, DOMAIN = errors.ParametrizationError, errors.OutOfDomainError
INITIAL = errors.InitialValueError
NUMERIC, FUNCTION = "it must be a number, tensor or array", "give a function from a shape"
REAL, PATH = "parametrizations map real numbers", "init of '0.p.tau'"
STEP, SECONDS = errors.TimeStepError, "a positive number of seconds, such as 1e-3"
TAU = Quantity.TAU_MEM
ARGUMENT = errors.InvalidArgumentError
UNSUPPORTED, INSTANCE = errors.UnsupportedModuleError, "an instance of torch.nn.Module"
NOT_MODULES: list[Row] = [
    (Pair(), UNSUPPORTED, "module", "got Pair(", INSTANCE),
    (nn.Linear, UNSUPPORTED, "module", "linear.Linear", INSTANCE),
    (3.0, UNSUPPORTED, "module", "got 3.0", INSTANCE),
    (None, UNSUPPORTED, "module", "got None", INSTANCE),
    ([nn.Linear(1, 1)], UNSUPPORTED, "module", "got [Linear(", INSTANCE),
    (nn.Linear(1, 1).forward, UNSUPPORTED, "module", "bound method", INSTANCE),
]
