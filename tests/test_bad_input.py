"""Bad calls: each raises an error that says what to do, and leaves the module as it was."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import norse.torch as norse
import numpy as np
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rockpool.nn.modules import LIFTorch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.distributions import (
    Beta,
    Categorical,
    Distribution,
    Gamma,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
)
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Parametrization,
    Quantity,
    Rate,
    Softplus,
    Steps,
    check_gradients,
    errors,
    find,
    make_fixed,
    make_trainable,
    neuron_parameters,
    param_groups,
    summary,
    values,
)
from neuroparam.plot import distributions
from neuroparam.units import Above, Bitshift
from tests.support.inside import as_real, matches, once
from tests.support.inside import attached as places
from tests.support.modules import Doubled, FromRecord, Pair, Smooth, assert_unchanged, snapshot

# ------------------------------------------------------------------------------- what is called


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


CASES: list[Bad] = []
Row = tuple[Any, type[errors.NeuroparamError], str, str, str]


def bad(
    group: str, build: Callable[[], Any], call: Callable[[Any, Any], object], rows: list[Row]
) -> None:
    """Adds a table: in each row, what is given, the error, and what its message says."""
    for wrong, error, *says in rows:
        CASES.append(Bad(group, build, lambda m, x=wrong: call(m, x), error, tuple(says)))


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


class Awkward(Smooth):
    """One of everything that cannot be trained."""

    shared_by_the_class = 3.0

    def __init__(self) -> None:
        super().__init__()
        self._tau = 4.0
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.nothing = None
        self.word = "super"
        self.flag = True
        self.imaginary = 1j
        self.numbers = [1.0, 2.0]
        self.nan = math.nan
        self.enormous = 10**400
        self.pair = Pair()
        self.child = nn.Linear(2, 2)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.child.weight
        self.empty = torch.zeros(0)
        self.complex = torch.zeros(2, dtype=torch.complex64)
        self.mask = torch.zeros(2, dtype=torch.bool)
        self.sparse = torch.eye(2).to_sparse()
        self.meta = torch.ones(2, device="meta")
        self.computed = self.gain * 2
        self.register_buffer("absent", None)
        self.lazy = nn.LazyLinear(3)
        self.doubled = nn.Linear(2, 2)
        parametrize.register_parametrization(self.doubled, "bias", Doubled())
        self.__dict__["hidden"] = 5.0

    @property
    def tau(self) -> float:
        return self._tau

    @property
    def broken(self) -> float:
        raise ValueError("not now")

    @property
    def hidden(self) -> float:
        return 6.0

    def __getattr__(self, name: str):
        return 0.9 if name == "virtual" else super().__getattr__(name)

    def method(self) -> None: ...


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


# --------------------------------------------------------------------------------------- names

UNKNOWN, INVALID = errors.UnknownNameError, errors.InvalidNamesError
REFUSED, AMBIGUOUS = errors.NotTrainableError, errors.AmbiguousNameError
KINDS = "a name, several names, or a mapping"

bad(
    "names",
    pair,
    make_trainable,
    [
        ("tua", UNKNOWN, "'tua'", "Sequential", "did you mean '0.p.tau'"),
        ("0.p.tua", UNKNOWN, "'0.p.tua'", "no value named", "did you mean '0.p.tau'"),
        ("0.q.tau", UNKNOWN, "'0.q.tau'", "no value named", "did you mean '0.p.tau'"),
        ("1.p.tau", UNKNOWN, "'1.p.tau'", "no value named", "did you mean '0.p.tau'"),
        ("TAU", UNKNOWN, "'TAU'", "no value named", "These can be named:\n  0.p.tau"),
        (" tau", UNKNOWN, "' tau'", "no value named", "did you mean '0.p.tau'"),
        ("0.p.tau.real", UNKNOWN, "'0.p.tau.real'", "no value named", "did you mean '0.p.tau'"),
        ("", UNKNOWN, "''", "no value named", "These can be named:\n  0.p.tau"),
        (".", UNKNOWN, "'.'", "no value named", "These can be named:\n  0.p.tau"),
        ("nope.*", UNKNOWN, "'nope.*'", "no value named", "These can be named:\n  0.p.tau"),
        ("*.method", UNKNOWN, "'*.method'", "no value named", "These can be named"),
        ("[", UNKNOWN, "'['", "no value named", "These can be named"),
        (["tau", "gian"], UNKNOWN, "'gian'", "no value named", "did you mean '0.p.gain'"),
        ("membrane time constant", UNKNOWN, "'membrane time", "no value named", "can be named"),
        (Quantity.TAU_MEM, UNKNOWN, "Quantity.TAU_MEM", "no value named", "can be named:\n  0.p.t"),
        (None, INVALID, "names", "got None", KINDS),
        (5, INVALID, "names", "got 5", KINDS),
        (1.5, INVALID, "names", "got 1.5", KINDS),
        (True, INVALID, "names", "got True", KINDS),
        (b"tau", INVALID, "names", "got b'tau'", "a name is a string or a Quantity"),
        ([], INVALID, "names", "got []", "there is no name in it"),
        ({}, INVALID, "names", "got {}", "there is no name in it"),
        ("tau gain".split, INVALID, "names", "built-in method split", KINDS),
        (["tau", 5], INVALID, "names", "got 5", "a name is a string or a Quantity"),
        (["tau", None], INVALID, "names", "got None", "a name is a string or a Quantity"),
        ([["tau"]], INVALID, "names", "got ['tau']", "a name is a string or a Quantity"),
        ([b"tau"], INVALID, "names", "got b'tau'", "a name is a string or a Quantity"),
        ({0: ExpScaledLog()}, INVALID, "names", "got 0", "a name is a string or a Quantity"),
        (torch.tensor(1.0), INVALID, "names", "a float32 tensor", KINDS),
        (torch.ones(2), INVALID, "names", "a float32 tensor", "a name is a string or a Quantity"),
        (nn.Linear(1, 1), INVALID, "names", "got Linear(", KINDS),
        ("0", REFUSED, "'0'", "it is a module", "Name a stored value instead: 0.steps, 0.p.tau"),
        ("0.p", REFUSED, "'0.p'", "a whole record", "instead: 0.p.tau, 0.p.gain"),
        ("0.step", REFUSED, "'0.step'", "it is a method", "instead: 0.steps"),
        ("0.p.method", REFUSED, "'0.p.method'", "it is a str", "instead: 0.p.tau"),
        ("0.training", REFUSED, "'0.training'", "it is a bool", "instead: 0.steps"),
        ("0._buffers", REFUSED, "'0._buffers'", "it is a dict", "instead: 0.steps"),
        (["tau", "p.tau"], AMBIGUOUS, "'0.p.tau'", "  tau\n  p.tau", "name it by one of"),
        (["0.*.tau", "?.p.tau"], AMBIGUOUS, "'0.p.tau'", "0.*.tau\n  ?.p.tau", "name it by one"),
    ],
)
bad(
    "names that fit several places",
    two,
    make_trainable,
    [
        ("tau", AMBIGUOUS, "'tau'", "lif1.p.tau\n  lif2.p.tau", "by its full path"),
        (["lif1.p.tau", "p.gain"], AMBIGUOUS, "'p.gain'", "lif1.p.gain", "by its full path"),
        (["*.tau", "*.tua"], UNKNOWN, "'*.tua'", "no value named", "These can be named"),
        ("*.gain", errors.OutOfDomainError, "'lif2.p.gain'", "-1 to -1", "Give values inside"),
    ],
)
NAMES_OF_AWKWARD: list[Row] = [
    ("tau", REFUSED, "'tau'", "a property of Awkward", "_tau, nan"),
    ("broken", REFUSED, "'broken'", "a property of Awkward", "Name a stored value"),
    ("hidden", REFUSED, "'hidden'", "a property of Awkward hides", "Name the value that"),
    ("virtual", REFUSED, "'virtual'", "virtual attribute", "Name a stored value"),
    ("shared_by_the_class", REFUSED, "'shared_by", "the class Awkward", "_by_the_class = 3.0"),
    ("nothing", REFUSED, "'nothing'", "it is None", "Give it a number first"),
    ("absent", REFUSED, "'absent'", "it is None", "Give it a number first"),
    ("word", REFUSED, "'word'", "it is a str", "Name a stored value"),
    ("flag", REFUSED, "'flag'", "it is a bool", "Name a stored value"),
    ("imaginary", REFUSED, "'imaginary'", "it is a complex", "Name a stored value"),
    ("numbers", REFUSED, "'numbers'", "it is a list", "Name a stored value"),
    ("method", REFUSED, "'method'", "it is a method", "Name a stored value"),
    ("child", REFUSED, "'child'", "it is a module", "child.weight"),
    ("empty", REFUSED, "'empty'", "it is empty", "at least one value"),
    ("complex", REFUSED, "'complex'", "complex64", "real numbers"),
    ("mask", REFUSED, "'mask'", "torch.bool", "real numbers"),
    ("sparse", REFUSED, "'sparse'", "sparse_coo", "to_dense()"),
    ("meta", REFUSED, "'meta'", "meta device", "materialise the module first"),
    ("computed", REFUSED, "'computed'", "from other tensors", "Attach to the tensor"),
    ("lazy.weight", REFUSED, "'lazy.weight'", "not initialised", "Run the module once"),
    ("doubled.bias", errors.AlreadyTrainableError, "'doubled.bias'", "Doubled", "remove_param"),
    ("child.weight", errors.TiedParameterError, "child.weight, tied.weight", "2 places", "its own"),
    ("nan", errors.InitialValueError, "'nan'", "got", "must be finite"),
    ("enormous", errors.InitialValueError, "'enormous'", "inf", "must be finite"),
]
bad(
    "names of what cannot be trained",
    Awkward,
    # one good name beside the bad one, and a map that would take nearly anything
    lambda m, name: make_trainable(m, {"pair.gain": Softplus(), name: Softplus(lower=-100.0)}),
    NAMES_OF_AWKWARD,
)
COMPUTED = "computed when read"
IN_LIBRARIES: dict[Callable[[], nn.Module], list[Row]] = {
    norse_cell: [
        ("0.dt", REFUSED, "'0.dt'", "the time step", "Name a rate"),
        ("tau_mem", UNKNOWN, "'tau_mem'", "no value named", "'0.p.tau_mem_inv'"),
        ("0.activation", REFUSED, "'0.activation'", "not a number", "instead: 0.input_w"),
    ],
    leaky: [
        ("0.mem", REFUSED, "'0.mem'", "it is a state", "Name a time constant"),
        ("tau_mem", UNKNOWN, "'tau_mem'", "no value named", "0.beta"),
        ("0.spike_grad", REFUSED, "'0.spike_grad'", "a function", "0.beta"),
    ],
    lif_node: [
        ("0.v", REFUSED, "'0.v'", COMPUTED, "instead: 0.v_threshold"),
        ("0.tau_mem", UNKNOWN, "'0.tau_mem'", "no value named", "0.tau"),
        ("0.surrogate_function.alpha", REFUSED, "function.alpha'", "surrogate", "of its own"),
    ],
    sinabs_lif: [
        ("0.v_mem", REFUSED, "'0.v_mem'", "it is a state", "Name a time constant"),
        ("0.spike_fn", REFUSED, "'0.spike_fn'", "not a number", "instead: 0.tau_mem"),
    ],
    rockpool_lif: [
        ("0.vmem", REFUSED, "'0.vmem'", "it is a state", "Name a time constant"),
        ("0.dt", REFUSED, "'0.dt'", "the time step", "Name a time constant"),
        ("0.alpha", REFUSED, "'0.alpha'", COMPUTED, "instead: 0.tau_mem"),
    ],
    lapicque: [("0.beta", REFUSED, "'0.beta'", "computes with R, C", "Name R or C")],
}
for build, rows in IN_LIBRARIES.items():
    bad(f"names in {build.__name__}", build, make_trainable, rows)

# ----------------------------------------------------------------------------- parametrizations

SENSELESS, DOMAIN = errors.ParametrizationError, errors.OutOfDomainError
A_MAP = "a torch.nn.Module with forward and right_inverse, such as ExpScaledLog()"

bad(
    "parametrizations",
    pair,
    lambda module, chain: make_trainable(module, {"0.p.tau": chain}),
    [
        (ExpScaledLog, SENSELESS, "'0.p.tau'", "ExpScaledLog is a class", "give an instance"),
        (3.0, SENSELESS, "'0.p.tau'", "got 3.0", A_MAP),
        (True, SENSELESS, "'0.p.tau'", "got True", A_MAP),
        ("Softplus", SENSELESS, "'0.p.tau'", "got 'Softplus'", A_MAP),
        (torch.exp, SENSELESS, "'0.p.tau'", "got <built-in method exp", A_MAP),
        (nn.Identity(), SENSELESS, "'0.p.tau'", "got Identity()", A_MAP),
        (nn.Sequential(ExpScaledLog()), SENSELESS, "'0.p.tau'", "got Sequential(", A_MAP),
        ({ExpScaledLog()}, SENSELESS, "'0.p.tau'", "got {ExpScaledLog(", A_MAP),
        ({"tau": ExpScaledLog()}, SENSELESS, "'0.p.tau'", "got {'tau': ", A_MAP),
        ([], SENSELESS, "'0.p.tau'", "an empty list", "None for the default"),
        ([None], SENSELESS, "'0.p.tau'", "got None", A_MAP),
        ([ExpScaledLog(), 5], SENSELESS, "'0.p.tau'", "got 5", A_MAP),
        ([ExpScaledLog(), Softplus], SENSELESS, "'0.p.tau'", "Softplus is a class", "Softplus()"),
        ([[ExpScaledLog()]], SENSELESS, "'0.p.tau'", "got [ExpScaledLog(", A_MAP),
        (Parametrization(), SENSELESS, "'0.p.tau'", "Parametrization()", "such as ExpScaledLog"),
        (NoInverse(), SENSELESS, "'0.p.tau'", "min 4, max 4", "See to right_inverse in NoInverse"),
        (Raises(), SENSELESS, "'0.p.tau'", "KeyError: 'table'", "See to forward and right_inv"),
        (Flattens(), SENSELESS, "'0.p.tau'", "Flattens()", "See to forward and right_inverse"),
        (ToDouble(), SENSELESS, "'0.p.tau'", "ToDouble()", "See to forward and right_inverse"),
        (ReadsWhatIsNotThere(), errors.EvaluationError, "'0.p.tau'", "'missing'", "reading"),
        (Decay(1e-3), SENSELESS, "'0.p.tau'", "no map before it", "lower bound of at least 0"),
        (
            [Decay(1e-3), ExpScaledLog()],
            SENSELESS,
            "'0.p.tau'",
            "what Decay(dt=0.001) takes must stay above 0",
            "such as ExpScaledLog()",
        ),
        ([Softplus(-1.0), Rate()], SENSELESS, "'0.p.tau'", "down to -1", "at least 0"),
        ([BoundedSigmoid(-2, 0), Rate()], SENSELESS, "'0.p.tau'", "down to -2", "at least 0"),
        ([Softplus(-1.0), Bitshift(1.0)], SENSELESS, "'0.p.tau'", "Bitshift(dt=1)", "at least 0"),
        ([BoundedSigmoid(-1, -1e-9), Decay(1)], SENSELESS, "'0.p.tau'", "Decay", "at least 0"),
        (Above(1.0), SENSELESS, "'0.p.tau'", "no map before it", "such as ExpScaledLog()"),
        ([ExpScaledLog(), Decay(1e-3)], DOMAIN, "'0.p.tau'", "4 to 4", "Give values inside"),
        ([ExpScaledLog(), Above(5.0)], DOMAIN, "'0.p.tau'", "(5, inf)", "Give values inside"),
        (BoundedSigmoid(0.0, 4.0), DOMAIN, "'0.p.tau'", "(0, 4)", "Give values inside"),
        (BoundedSigmoid(5.0, 6.0), DOMAIN, "'0.p.tau'", "(5, 6)", "Give values inside"),
        (Softplus(lower=4.0), DOMAIN, "'0.p.tau'", "(4, inf)", "Give values inside"),
        (ExpScaledLog(reference=1e-60), SENSELESS, "'0.p.tau'", "1e-60", "double precision"),
        (ExpScaledLog(scale=1e-60), SENSELESS, "'0.p.tau'", "1e-60", "double precision"),
        (Softplus(scale=1e-60), SENSELESS, "'0.p.tau'", "1e-60", "double precision"),
        (Softplus(lower=-1e39), SENSELESS, "'0.p.tau'", "-1e+39", "double precision"),
    ],
)
bad(
    "a map of the user's",
    pair,
    lambda module, init: make_trainable(module, {"tau": Reciprocal()}, init),
    [(0.0, SENSELESS, "'0.p.tau'", "min 0, max 0", "See to right_inverse in Reciprocal()")],
)
NUMBER, PREFER = "must be one finite number", "use spacing="

bad(
    "constants",
    lambda: None,
    lambda _, build: build(),
    [
        (lambda: Softplus(lower=math.nan), SENSELESS, "Softplus(lower=", "got nan", NUMBER),
        (lambda: Softplus(lower="1.0"), SENSELESS, "Softplus(lower=", "got '1.0'", NUMBER),
        (lambda: Softplus(lower=None), SENSELESS, "Softplus(lower=", "got None", NUMBER),
        (lambda: Softplus(scale=math.inf), SENSELESS, "Softplus(scale=", "got inf", NUMBER),
        (lambda: Softplus(scale=1j), SENSELESS, "Softplus(scale=", "got 1j", NUMBER),
        (lambda: Softplus(scale=[1.0]), SENSELESS, "Softplus(scale=", "got [1.0]", NUMBER),
        (lambda: Softplus(scale=0.0), SENSELESS, "Softplus(scale=", "got 0.0", "must be > 0"),
        (lambda: ExpScaledLog(True), SENSELESS, "ExpScaledLog(scale=", "got True", NUMBER),
        (lambda: ExpScaledLog(b"1"), SENSELESS, "ExpScaledLog(scale=", "got b'1'", NUMBER),
        (lambda: ExpScaledLog(float), SENSELESS, "ExpScaledLog(scale=", "class 'float'", NUMBER),
        (lambda: ExpScaledLog(-1.0), SENSELESS, "ExpScaledLog(scale=", "got -1.0", "must be > 0"),
        (
            lambda: ExpScaledLog(reference=torch.ones(2)),
            SENSELESS,
            "ExpScaledLog(reference=",
            "a float32 tensor of shape (2,)",
            NUMBER,
        ),
        (
            lambda: ExpScaledLog(reference=10**400),
            SENSELESS,
            "ExpScaledLog(reference=",
            "got 1000000",
            NUMBER,
        ),
        (
            lambda: ExpScaledLog(reference=0),
            SENSELESS,
            "ExpScaledLog(reference=",
            "got 0",
            "must be > 0",
        ),
        (lambda: BoundedSigmoid(None, 1.0), SENSELESS, "Sigmoid(lower=", "got None", NUMBER),
        (lambda: BoundedSigmoid(-math.inf, 1.0), SENSELESS, "Sigmoid(lower=", "-inf", NUMBER),
        (lambda: BoundedSigmoid(np.ones(2), 1.0), SENSELESS, "Sigmoid(lower=", "array([", NUMBER),
        (lambda: BoundedSigmoid(0.0, np.bool_(True)), SENSELESS, "(upper=", "True", NUMBER),
        (lambda: BoundedSigmoid(0.0, np.complex64(1)), SENSELESS, "(upper=", "1+0j", NUMBER),
        (lambda: BoundedSigmoid(1.0, 1.0), SENSELESS, "lower < upper", "upper=1.0", "needs"),
        (lambda: BoundedSigmoid(2.0, 1.0), SENSELESS, "lower < upper", "upper=1.0", "needs"),
        (lambda: BoundedSigmoid(1, 2, "LOG"), SENSELESS, "(spacing=", "'LOG'", '"log"'),
        (lambda: BoundedSigmoid(1, 2, None), SENSELESS, "(spacing=", "got None", '"linear"'),
        (lambda: BoundedSigmoid(1, 2, np.ones(2)), SENSELESS, "(spacing=", "array(", '"log"'),
        (lambda: BoundedSigmoid(0, 1, "log"), SENSELESS, '"log"', "lower=0", '"linear"'),
        (lambda: BoundedSigmoid(-1, 1, "log"), SENSELESS, '"log"', "lower=-1", '"linear"'),
        (lambda: Steps(torch.tensor(True)), SENSELESS, "Steps(dt=", "a bool tensor", NUMBER),
        (lambda: Decay(np.str_("1")), SENSELESS, "Decay(dt=", "np.str_('1')", NUMBER),
        (lambda: Above(torch.ones(1, device="meta")), SENSELESS, "Above(lower=", "meta", NUMBER),
        (lambda: Above(-1.0), SENSELESS, "Above(lower=", "got -1.0", "must be >= 0"),
        (lambda: Bitshift({}), SENSELESS, "Bitshift(dt=", "got {}", NUMBER),
        (lambda: Softplus()(torch.zeros(1)), SENSELESS, "scale=None", "scale is", "attach it"),
        (
            lambda: Softplus(scale=1.0)(torch.zeros(1, dtype=torch.int64)),
            SENSELESS,
            "Softplus(lower=0, scale=1)",
            "got torch.int64",
            "raw must be floating point",
        ),
        (
            lambda: BoundedSigmoid(1.0, 1.0 + 1e-12)(torch.zeros(1)),
            SENSELESS,
            "BoundedSigmoid(lower=1, upper=1",
            "no room in torch.float32",
            "double precision",
        ),
        (
            lambda: BoundedSigmoid(-3e38, 3e38)(torch.zeros(1)),
            SENSELESS,
            "upper=3e+38",
            "no room in torch.float32",
            "double precision",
        ),
        (
            lambda: Softplus(lower=3.33e38, scale=1.0)(torch.zeros(1)),
            SENSELESS,
            "Softplus(lower=3.33e+38",
            "no room in torch.float32",
            "double precision",
        ),
    ],
)

# ------------------------------------------------------------------------------ initial values

INITIAL = errors.InitialValueError
NUMERIC, FUNCTION = "it must be a number, tensor or array", "give a function shape -> values"
REAL, PATH = "parametrizations map real numbers", "init of '0.p.tau'"

bad(
    "init",
    pair,
    lambda module, init: make_trainable(module, "0.p.tau", init),
    [
        (math.nan, INITIAL, PATH, "got nan", "must be finite"),
        (math.inf, INITIAL, PATH, "got inf", "must be finite"),
        (10**400, INITIAL, PATH, "got 1000000", "must be finite"),
        (10**5000, INITIAL, PATH, "an object of <class 'int'>", "must be finite"),
        (1e300, INITIAL, PATH, "got 1e+300", "must be finite"),
        (torch.tensor([1.0, math.nan]), INITIAL, PATH, "shape (2,)", "must be finite"),
        (-1.0, DOMAIN, "'0.p.tau'", "-1 to -1", "Give values inside"),
        (0, DOMAIN, "'0.p.tau'", "0 to 0", "Give values inside"),
        (1e-60, DOMAIN, "'0.p.tau'", "0 to 0", "Give values inside"),
        (torch.tensor([1.0, -1.0]), DOMAIN, "'0.p.tau'", "1 of 2 values", "Give values inside"),
        (np.array([-2.0, -3.0, 1.0]), DOMAIN, "'0.p.tau'", "-3 to -2", "Give values inside"),
        ("4", INITIAL, PATH, "got '4'", NUMERIC),
        (b"4", INITIAL, PATH, "got b'4'", NUMERIC),
        (bytearray(b"4"), INITIAL, PATH, "got bytearray(b'4')", NUMERIC),
        (True, INITIAL, PATH, "got True", NUMERIC),
        (object, INITIAL, PATH, "got <class 'object'>", "give an instance"),
        (["a"], INITIAL, PATH, "got ['a']", NUMERIC),
        ([None], INITIAL, PATH, "got [None]", NUMERIC),
        ([[1.0, 2.0], [3.0]], INITIAL, PATH, "[[1.0, 2.0], [3.0]]", NUMERIC),
        ({1.0}, INITIAL, PATH, "got {1.0}", NUMERIC),
        (Pair(), INITIAL, PATH, "got Pair(", NUMERIC),
        (Quantity.TAU_MEM, INITIAL, PATH, "got Quantity.TAU_MEM", NUMERIC),
        (torch.float32, INITIAL, PATH, "got torch.float32", NUMERIC),
        (np.array(["a"]), INITIAL, PATH, "got array(['a']", NUMERIC),
        (np.array([1.0, None], dtype=object), INITIAL, PATH, "dtype=object", NUMERIC),
        (np.ones(3)[::-1], INITIAL, PATH, "got array([1., 1., 1.])", NUMERIC),
        (1j, INITIAL, PATH, "got 1j", REAL),
        (np.array([1 + 1j]), INITIAL, PATH, "got array([1.+1.j])", REAL),
        ([True, False], INITIAL, PATH, "got [True, False]", REAL),
        (torch.tensor([True]), INITIAL, PATH, "a bool tensor", REAL),
        (torch.tensor(1j), INITIAL, PATH, "a complex64 tensor", REAL),
        ([], INITIAL, PATH, "got []", "give it at least one value"),
        (torch.ones(2, 0), INITIAL, PATH, "shape (2, 0)", "give it at least one value"),
        (torch.ones(2, device="meta"), INITIAL, PATH, "on the meta", "give a tensor that has"),
        (torch.eye(2).to_sparse(), INITIAL, PATH, "sparse_coo", "give a dense tensor"),
        (nn.UninitializedParameter(), INITIAL, PATH, "a float32 tensor", "run the module once"),
        (Normal, INITIAL, PATH, "distributions.normal.Normal", "give an instance"),
        (nn.Linear, INITIAL, PATH, "linear.Linear", "give an instance"),
        (ExpScaledLog(), INITIAL, PATH, "got ExpScaledLog(", FUNCTION),
        (no_argument, INITIAL, PATH, "TypeError: no_argument() takes 0", FUNCTION),
        (raises, INITIAL, PATH, "KeyError: 'rates.csv'", FUNCTION),
        (lambda shape: None, INITIAL, PATH, "got <function", "returned None, not the values"),
        (lambda shape: "4", INITIAL, PATH, "got '4'", NUMERIC),
        (lambda shape: math.nan, INITIAL, PATH, "got nan", "must be finite"),
        (lambda shape: ours, INITIAL, PATH, "got <function ours", NUMERIC),
        (lambda shape: Gamma(1.0, 1.0), INITIAL, PATH, "got Gamma(", NUMERIC),
        (lambda shape: -torch.ones(shape), DOMAIN, "'0.p.tau'", "-1 to -1", "Give values inside"),
        (NoSupport(), INITIAL, PATH, "raised NotImplementedError", FUNCTION),
        (
            MultivariateNormal(torch.zeros(2), torch.eye(2)),
            INITIAL,
            PATH,
            "MultivariateNormal(",
            "give a distribution inside it",
        ),
        (LogNormal(torch.zeros(2), 1.0), INITIAL, PATH, "LogNormal(", "give shape="),
        (Categorical(torch.tensor([1.0, 0.0])), DOMAIN, "'0.p.tau'", "0 to 0", "Give values"),
        ({"gain": 1.0}, UNKNOWN, "'gain'", "init speaks of", "can be named:\n  0.p.tau"),
        ({"tau": 1.0}, UNKNOWN, "'tau'", "init speaks of", "can be named:\n  0.p.tau"),
        ({5: 1.0}, UNKNOWN, "'5'", "init speaks of", "can be named:\n  0.p.tau"),
        ({None: 1.0}, UNKNOWN, "'None'", "init speaks of", "can be named:\n  0.p.tau"),
        ({"0.p.tau": {"low": 1.0}}, INITIAL, PATH, "got {'low': 1.0}", NUMERIC),
        ({"0.p.tau": "4"}, INITIAL, PATH, "got '4'", NUMERIC),
    ],
)
bad(
    "init of a vector",
    vector,
    lambda module, init: make_trainable(module, "tau", init),
    [
        (torch.ones(2), INITIAL, "'tau'", "shape (2,)", "has shape (3,); give shape="),
        ([1.0, 2.0], INITIAL, "'tau'", "got [1.0, 2.0]", "give shape="),
        (torch.ones(2, 3), INITIAL, "'tau'", "shape (2, 3)", "give shape="),
        (lambda shape: torch.ones(shape[0] + 1), INITIAL, "'tau'", "shape (4,)", "give shape="),
        (Uniform(torch.ones(2), 2 * torch.ones(2)), INITIAL, "'tau'", "Uniform(", "give shape="),
    ],
)
bad(
    "distributions",
    pair,
    lambda module, of: make_trainable(module, {"0.p.tau": of[0]}, of[1], shape=(2,)),
    [
        ((a_map, drawn), INITIAL, PATH, type(drawn).__name__, "give a distribution inside it")
        for a_map, drawn in (
            (ExpScaledLog(), Normal(100.0, 1.0)),
            (ExpScaledLog(), Uniform(-1.0, 1.0)),
            (ExpScaledLog(), Uniform(torch.tensor([1.0, -1.0]), torch.tensor([2.0, 2.0]))),
            (Softplus(lower=0.05), LogNormal(0.0, 1.0)),
            (Softplus(lower=0.05), Uniform(0.04, 1.0)),
            (BoundedSigmoid(0.0, 1000.0), LogNormal(0.0, 1.0)),
            (BoundedSigmoid(0.1, 0.9), Beta(2.0, 2.0)),
            (BoundedSigmoid(1.0, 2.0), Beta(2.0, 2.0)),
            (BoundedSigmoid(-2.0, -1.0), Uniform(-3.0, -1.5)),
        )
    ],
)

# -------------------------------------------------------------------------------------- shapes

POSITIVE = "shape must be positive integers"

bad(
    "shape",
    pair,
    lambda module, shape: make_trainable(module, "0.p.tau", shape=shape),
    [
        (0, INITIAL, PATH, "got 0", POSITIVE),
        (-1, INITIAL, PATH, "got -1", POSITIVE),
        ((3, 0), INITIAL, PATH, "got (3, 0)", POSITIVE),
        (2.5, INITIAL, PATH, "got 2.5", POSITIVE),
        ((3.0,), INITIAL, PATH, "got (3.0,)", POSITIVE),
        (math.nan, INITIAL, PATH, "got nan", POSITIVE),
        (True, INITIAL, PATH, "got True", POSITIVE),
        ((2, True), INITIAL, PATH, "got (2, True)", POSITIVE),
        ("3", INITIAL, PATH, "got '3'", POSITIVE),
        ("", INITIAL, PATH, "got ''", POSITIVE),
        (b"3", INITIAL, PATH, "got b'3'", POSITIVE),
        ((None,), INITIAL, PATH, "got (None,)", POSITIVE),
        ([[3]], INITIAL, PATH, "got [[3]]", POSITIVE),
        (torch.tensor(3.0), INITIAL, PATH, "a float32 tensor", POSITIVE),
        (ours, INITIAL, PATH, "got <function ours", POSITIVE),
        (10**30, INITIAL, PATH, "got (1000000", "torch can make no tensor of this shape"),
        ((2**40, 2**40), INITIAL, PATH, "got (1099", "torch can make no tensor of this shape"),
        ((1,) * 70, INITIAL, PATH, "got (1, 1, ", "torch can make no tensor of this shape"),
        ({"tua": 3}, UNKNOWN, "'tua'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({"0.p.gain": 3}, UNKNOWN, "'0.p.gain'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({"lif*": 3}, UNKNOWN, "'lif*'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({5: 3}, UNKNOWN, "'5'", "shape speaks of", "can be named:\n  0.p.tau"),
        ({Quantity.TAU_MEM: 3}, UNKNOWN, "Quantity.TAU_MEM", "shape speaks", "\n  0.p.tau"),
        ({"tau": -3}, INITIAL, PATH, "got -3", POSITIVE),
    ],
)
bad(
    "shape and init",
    pair,
    lambda module, given: make_trainable(module, "0.p.tau", given[0], shape=given[1]),
    [
        ((torch.ones(2), 3), INITIAL, PATH, "shape (2,)", "does not broadcast to shape (3,)"),
        ((torch.ones(3, 1), 3), INITIAL, PATH, "shape (3, 1)", "not broadcast to shape (3,)"),
        (([1.0, 2.0], (2, 3)), INITIAL, PATH, "got [1.0, 2.0]", "not broadcast to shape (2, 3)"),
        ((lambda shape: np.ones(5), 3), INITIAL, PATH, "array([1.", "not broadcast"),
        ((LogNormal(torch.zeros(2), 1.0), 3), INITIAL, PATH, "(*, 2)", "cannot fill shape (3,)"),
        ((Gamma(torch.ones(3, 1), 1.0), (3,)), INITIAL, PATH, "(*, 3, 1)", "cannot fill"),
    ],
)
bad(
    "shape of a vector",
    vector,
    lambda module, shape: make_trainable(module, "tau", shape=shape),
    [
        ((2,), INITIAL, "'tau'", "a float32 tensor of shape (3,)", "broadcast to shape (2,)"),
        ((), INITIAL, "'tau'", "a float32 tensor of shape (3,)", "broadcast to shape ()"),
    ],
)

# -------------------------------------------------------------------------- time step, quantity

STEP, SECONDS = errors.TimeStepError, "a positive number of seconds, such as 1e-3"
TAU = Quantity.TAU_MEM

bad(
    "dt",
    leaky,
    lambda module, dt: make_trainable(module, TAU, dt=dt),
    [
        (None, STEP, "'0.beta'", "no time step of its own", "such as dt=1e-3"),
        (0, STEP, "'0.beta'", "got 0", SECONDS),
        (-1e-3, STEP, "'0.beta'", "got -0.001", SECONDS),
        (math.nan, STEP, "'0.beta'", "got nan", SECONDS),
        (math.inf, STEP, "'0.beta'", "got inf", SECONDS),
        (10**400, STEP, "'0.beta'", "got 1000000", SECONDS),
        ("1e-3", STEP, "'0.beta'", "got '1e-3'", SECONDS),
        (b"1", STEP, "'0.beta'", "got b'1'", SECONDS),
        (True, STEP, "'0.beta'", "got True", SECONDS),
        (1j, STEP, "'0.beta'", "got 1j", SECONDS),
        (torch.ones(2), STEP, "'0.beta'", "a float32 tensor of shape (2,)", SECONDS),
        (torch.ones(1, device="meta"), STEP, "'0.beta'", "meta", SECONDS),
        ([1e-3], STEP, "'0.beta'", "got [0.001]", SECONDS),
        ({TAU: 1e-3}, STEP, "'0.beta'", "got {Quantity.TAU_MEM: 0.001}", SECONDS),
    ],
)
OWN, LEAVE = "in steps of 0.001 s, and dt=0.002 was given", "Leave dt out"
for build, path in ((norse_cell, "0.p.tau_mem_inv"), (rockpool_lif, "0.tau_mem")):
    bad(
        f"dt of {build.__name__}",
        build,
        lambda module, names: make_trainable(module, names, dt=2e-3),
        [(TAU, STEP, repr(path), OWN, LEAVE), (path, STEP, repr(path), OWN, LEAVE)],
    )
bad(
    "dt where none is needed",
    pair,
    lambda module, dt: make_trainable(module, "tau", dt=dt),
    [(-1.0, STEP, "'0.p.tau'", "got -1.0", SECONDS), ("x", STEP, "'0.p.tau'", "'x'", SECONDS)],
)
bad(
    "quantities that a network lacks",
    lambda: norse.LIFBoxCell(),
    make_trainable,
    [(Quantity.TAU_SYN, UNKNOWN, "Quantity.TAU_SYN", "LIFBoxCell", "named:\n  p.tau_mem_inv")],
)
EULER = "integrates by forward Euler"
bad(
    "quantities of an Euler cell",
    norse_cell,
    lambda module, given: make_trainable(module, {TAU: given[0]}, given[1]),
    [
        ((None, 1e-4), DOMAIN, "'0.p.tau_mem_inv'", "0.0001 to 0.0001", "(0.001, inf)"),
        ((None, 1e-3), DOMAIN, "'0.p.tau_mem_inv'", "0.001 to 0.001", "(0.001, inf)"),
        ((None, -1e-2), DOMAIN, "'0.p.tau_mem_inv'", "-0.01 to -0.01", "Give values inside"),
        ((BoundedSigmoid(1e-4, 1), None), SENSELESS, "tau_mem_inv'", EULER, "at least 0.001"),
        ((Softplus(-1.0), None), SENSELESS, "tau_mem_inv'", "down to -1", "at least 0"),
        ((Doubled(), None), SENSELESS, "'0.p.tau_mem_inv'", "Doubled()", "at least 0.001"),
        ((BoundedSigmoid(0.5, 1), None), DOMAIN, "tau_mem_inv'", "(0.5, 1)", "Give values"),
        ((ExpScaledLog, None), SENSELESS, "Quantity.TAU_MEM", "is a class", "give an instance"),
        ((None, Uniform(5e-4, 1.0)), INITIAL, "tau_mem_inv'", "Uniform(", "inside it"),
    ],
)
bad(
    "quantities of a decay",
    leaky,
    lambda module, given: make_trainable(module, {TAU: given[0]}, given[1], dt=1e-3),
    [
        ((None, 0.0), DOMAIN, "'0.beta'", "0 to 0", "Give values inside"),
        ((None, 1e30), DOMAIN, "'0.beta'", "that Decay(dt=0.001) can store", "Give values"),
        ((None, math.nan), INITIAL, "'0.beta'", "got nan", "must be finite"),
        ((Softplus(-1.0), None), SENSELESS, "'0.beta'", "down to -1", "at least 0"),
        ((BoundedSigmoid(-2.0, -1.0), -1.5), SENSELESS, "'0.beta'", "down to -2", "at least 0"),
    ],
)
bad(
    "quantities in seconds",
    rockpool_lif,
    lambda module, chain: make_trainable(module, {TAU: chain}),
    [(Softplus(-1.0), SENSELESS, "'0.tau_mem'", "reaches down to -1", "such as ExpScaledLog()")],
)
bad(
    "quantities of an Euler node",
    lif_node,
    lambda module, init: make_trainable(module, TAU, init, dt=1e-3),
    [
        (5e-4, DOMAIN, "'0.tau'", "0.0005 to 0.0005", "(0.001, inf)"),
        (raises, INITIAL, "'0.tau'", "KeyError: 'rates.csv'", FUNCTION),
    ],
)
ABOVE = "alpha must stay above beta"
bad(
    "coupled parameters",
    alpha,
    lambda module, given: make_trainable(module, given[0], given[1], dt=1e-3),
    [
        ((Quantity.TAU_SYN, None), REFUSED, "'0.", ABOVE, "Name it by its path"),
        (({"alpha": Softplus()}, None), SENSELESS, "'0.alpha'", "can leave", "or None for the"),
        (({"beta": BoundedSigmoid(0, 1)}, None), SENSELESS, "'0.beta'", ABOVE, "or None for"),
        (("alpha", 0.5), DOMAIN, "'0.alpha'", "0.5 to 0.5", "Give values inside"),
    ],
)
bad(
    "coupled parameters",
    lapicque,
    lambda module, given: make_trainable(module, given[0], given[1], dt=1e-3),
    [
        ((TAU, None), REFUSED, "'0.beta'", "computes with R, C", "Name R or C"),
        (({"R": ExpScaledLog()}, None), SENSELESS, "'0.R'", "above the time step", "or None for"),
        (("C", 1e-9), DOMAIN, "'0.C'", "1e-09 to 1e-09", "Give values inside"),
    ],
)

# ------------------------------------------------------------------------------------- modules

UNSUPPORTED, INSTANCE = errors.UnsupportedModuleError, "an instance of torch.nn.Module"
NOT_MODULES: list[Row] = [
    (Pair(), UNSUPPORTED, "module", "got Pair(", INSTANCE),
    (nn.Linear, UNSUPPORTED, "module", "linear.Linear", INSTANCE),
    (3.0, UNSUPPORTED, "module", "got 3.0", INSTANCE),
    (None, UNSUPPORTED, "module", "got None", INSTANCE),
    ([nn.Linear(1, 1)], UNSUPPORTED, "module", "got [Linear(", INSTANCE),
    (nn.Linear(1, 1).forward, UNSUPPORTED, "module", "bound method", INSTANCE),
]
bad("modules", lambda: None, lambda _, m: make_trainable(m, "tau"), NOT_MODULES)
for look, row in zip(
    (make_fixed, values, find, summary, neuron_parameters, check_gradients),
    NOT_MODULES,
    strict=True,
):
    bad(look.__name__, lambda: None, lambda _, module, look=look: look(module), [row])
bad(
    "modules in TorchScript",
    scripted,
    lambda module, names: make_trainable(module, names),
    [("bias", UNSUPPORTED, "ScriptModule", "RecursiveScriptModule", "before torch.jit.script")],
)
bad(
    "modules in TorchScript",
    lambda: nn.Sequential(scripted()),
    make_trainable,
    [("0.bias", REFUSED, "'0.bias'", "in a ScriptModule", "Attach before torch.jit.script")],
)
ALREADY = errors.AlreadyTrainableError
bad(
    "modules that have it attached",
    attached,
    make_trainable,
    [
        ("0.p.tau", ALREADY, "'0.p.tau'", "ExpScaledLog(scale=1, reference=4)", "make_fixed("),
        ({"*": None}, ALREADY, "'0.p.", "already parametrized", "make_fixed("),
        ("0.p", REFUSED, "'0.p'", "it is a module", "instead: "),
        ("0.p.parametrizations", REFUSED, "parametrizations'", "a module", "Name a stored value"),
    ],
)

# ---------------------------------------------------------------------------------- assignments

ASSIGNED = errors.AssignmentError
TO, SHAPED = "assignment to '0.p.tau'", "its shape is (3,), and stays so"
A_NUMBER = "it takes a number or a tensor"


def assign(module: nn.Module, value: Any) -> None:
    module[0].p.tau = value


bad(
    "assignments",
    attached,
    assign,
    [
        (0.0, DOMAIN, "'0.p.tau'", "3 of 3 values", "Give values inside"),
        (-1, DOMAIN, "'0.p.tau'", "-1 to -1", "Give values inside"),
        (math.nan, DOMAIN, "'0.p.tau'", "nan to nan", "Give values inside"),
        (math.inf, DOMAIN, "'0.p.tau'", "inf to inf", "Give values inside"),
        (-(10**400), DOMAIN, "'0.p.tau'", "-inf to -inf", "Give values inside"),
        (torch.tensor([1.0, -1.0, -5.0]), DOMAIN, "'0.p.tau'", "2 of 3", "Give values inside"),
        (nn.Parameter(-torch.ones(3)), DOMAIN, "'0.p.tau'", "3 of 3", "Give values inside"),
        (torch.ones(4), ASSIGNED, TO, "shape (4,)", SHAPED),
        (torch.ones(()), ASSIGNED, TO, "shape ()", SHAPED),
        (torch.ones(1, 3), ASSIGNED, TO, "shape (1, 3)", SHAPED),
        (torch.ones(3).double(), ASSIGNED, TO, "float64", "torch.float32; convert with .to"),
        (torch.ones(3, dtype=torch.int64), ASSIGNED, TO, "int64", "convert with .to(...)"),
        (torch.ones(3).half(), ASSIGNED, TO, "float16", "convert with .to(...)"),
        (torch.ones(3) + 1j, ASSIGNED, TO, "complex64", REAL),
        (torch.ones(3) > 0, ASSIGNED, TO, "a bool tensor", REAL),
        (torch.ones(0), ASSIGNED, TO, "shape (0,)", "give it at least one value"),
        (torch.ones(3).to_sparse(), ASSIGNED, TO, "sparse_coo", "give a dense tensor"),
        (torch.ones(3, device="meta"), ASSIGNED, TO, "on the meta device", "no numbers"),
        (nn.UninitializedParameter(), ASSIGNED, TO, "a float32 tensor", "run the module once"),
        (torch.ones(3, requires_grad=True) * 2, ASSIGNED, TO, "min 2", "value.detach()"),
        ("2.0", ASSIGNED, TO, "got '2.0'", A_NUMBER),
        (None, ASSIGNED, TO, "got None", A_NUMBER),
        (True, ASSIGNED, TO, "got True", A_NUMBER),
        (1j, ASSIGNED, TO, "got 1j", A_NUMBER),
        ([1.0, 2.0, 3.0], ASSIGNED, TO, "got [1.0, 2.0, 3.0]", A_NUMBER),
        (np.ones(3), ASSIGNED, TO, "got array([1., 1., 1.])", A_NUMBER),
        (ours, ASSIGNED, TO, "got <function ours", A_NUMBER),
        (Uniform(1.0, 2.0), ASSIGNED, TO, "got Uniform(", A_NUMBER),
        (ExpScaledLog(), ASSIGNED, TO, "got ExpScaledLog(", A_NUMBER),
        (nn.Buffer(torch.ones(2)), ASSIGNED, TO, "shape (2,)", SHAPED),
    ],
)
for build, path, store in (
    (norse_cell, "0.p.v_th", lambda module, value: setattr(module[0].p, "v_th", value)),
    (leaky, "0.threshold", lambda module, value: setattr(module[0], "threshold", value)),
    (lif_node, "0.v_threshold", lambda module, value: setattr(module[0], "v_threshold", value)),
    (sinabs_lif, "0.spike_threshold", lambda m, value: setattr(m[0], "spike_threshold", value)),
    (rockpool_lif, "0.threshold", lambda module, value: setattr(module[0], "threshold", value)),
):
    bad(
        f"assignments to {build.__name__}",
        lambda build=build: make_trainable(build(), Quantity.THRESHOLD),
        store,
        [
            (-1.0, DOMAIN, repr(path), "-1 to -1", "Give values inside"),
            (torch.ones(7), ASSIGNED, repr(path), "shape (7,)", "and stays so"),
        ],
    )
bad(
    "assignments through a map of the user's",
    lambda: make_trainable(pair(), {"tau": Reciprocal()}),
    assign,
    [(0.0, ASSIGNED, TO, "min 0, max 0", "right_inverse is not finite there")],
)
bad(
    "assignments through a chain",
    lambda: make_trainable(pair(), {"tau": [ExpScaledLog(), Doubled()]}),
    assign,
    [(-6.0, DOMAIN, "'0.p.tau'", "-3 to -3", "Give values inside")],
)
bad(
    "records",
    attached,
    lambda module, do: do(module[0].p),
    [
        (lambda p: delattr(p, "tau"), ASSIGNED, TO, "got 'del'", "make_fixed gives the plain"),
        (lambda p: p._replace(tau=3.0), ASSIGNED, "'tau'", "got 3.0", "assign to its fields"),
        (lambda p: p._replace(method="x"), ASSIGNED, "'method'", "got 'x'", "to its fields"),
        (lambda p: setattr(p, "tua", 3.0), ASSIGNED, "'tua'", "got 3.0", "only tau, gain, method"),
        (
            lambda p: setattr(p, "tua", torch.ones(3)),
            ASSIGNED,
            "'tua'",
            "a float32 tensor",
            "only tau, gain, method",
        ),
    ],
)

# ------------------------------------------------------------------------------ looking, fixing

ARGUMENT = errors.InvalidArgumentError

bad(
    "make_fixed",
    attached,
    make_fixed,
    [
        ("tua", UNKNOWN, "'tua'", "no trainable value named", "named:\n  0.p.tau\n  0.p.gain"),
        (["0.p.tau", "gian"], UNKNOWN, "'gian'", "no trainable value", "  0.p.gain"),
        ("0.p", UNKNOWN, "'0.p'", "no trainable value named", "  0.p.tau"),
        ("*.rho", UNKNOWN, "'*.rho'", "no trainable value named", "  0.p.tau"),
        ("", UNKNOWN, "''", "no trainable value named", "  0.p.tau"),
        ("0.p.method", UNKNOWN, "'0.p.method'", "no trainable value named", "  0.p.tau"),
        (TAU, UNKNOWN, "Quantity.TAU_MEM", "no trainable value named", "  0.p.tau"),
        (5, INVALID, "names", "got 5", KINDS),
        ([5], INVALID, "names", "got 5", "a name is a string or a Quantity"),
        (b"tau", INVALID, "names", "got b'tau'", "a name is a string or a Quantity"),
        ([], INVALID, "names", "got []", "there is no name in it"),
        ([["tau"]], INVALID, "names", "got ['tau']", "a name is a string or a Quantity"),
        (torch.ones(()), INVALID, "names", "a float32 tensor", KINDS),
    ],
)
bad(
    "make_fixed",
    lambda: nn.Sequential(attached(), attached()),
    make_fixed,
    [("tau", AMBIGUOUS, "'tau'", "0.0.p.tau\n  1.0.p.tau", "by its full path")],
)
bad(
    "make_fixed of what is plain",
    pair,
    make_fixed,
    [("tau", UNKNOWN, "'tau'", "Sequential", "There is nothing that could be named")],
)
bad(
    "values",
    lambda: make_trainable(leaky(), "beta"),
    lambda module, given: values(module, given[0], dt=given[1]),
    [
        (("tau", 1e-3), ARGUMENT, "quantity", "got 'tau'", "such as Quantity.TAU_MEM"),
        ((["beta"], None), ARGUMENT, "quantity", "got ['beta']", "such as Quantity.TAU_MEM"),
        ((TAU, None), STEP, "'0.beta'", "no time step of its own", "such as dt=1e-3"),
        ((TAU, 0.0), STEP, "'0.beta'", "got 0.0", SECONDS),
        ((TAU, "1e-3"), STEP, "'0.beta'", "got '1e-3'", SECONDS),
        ((None, -1e-3), STEP, "'0.beta'", "got -0.001", SECONDS),
    ],
)
bad(
    "values of another time step",
    lambda: make_trainable(leaky(), TAU, dt=1e-3),
    lambda module, dt: values(module, TAU, dt=dt),
    [(2e-3, STEP, "'0.beta'", "dt=0.002", "attached with Decay(dt=0.001)")],
)
RATE = "a finite number >= 0"
bad(
    "param_groups",
    attached,
    lambda module, given: param_groups(module, **{"lr": 1e-3, **given}),
    [
        ({"lr": -1e-3}, ARGUMENT, "lr must be", "got -0.001", RATE),
        ({"lr": "1e-3"}, ARGUMENT, "lr must be", "got '1e-3'", RATE),
        ({"lr": None}, ARGUMENT, "lr must be", "got None", RATE),
        ({"neuron_lr": math.nan}, ARGUMENT, "neuron_lr must be", "got nan", RATE),
        ({"neuron_lr": True}, ARGUMENT, "neuron_lr must be", "got True", RATE),
        ({"weight_decay": -1}, ARGUMENT, "weight_decay must be", "got -1", RATE),
        ({"neuron_weight_decay": 1j}, ARGUMENT, "neuron_weight_decay must", "got 1j", RATE),
    ],
)
bad(
    "check_gradients",
    lambda: make_trainable(FromRecord(Pair(), steps=0), ["p.tau"]),
    check_gradients,
    [(torch.ones(3), errors.NoGradientError, "p.tau", "does not depend on it", "make_fixed(")],
)
ONE = {"tau": torch.ones(2)}
SAME = "the same paths as before"
bad(
    "plot",
    lambda: None,
    lambda _, given: distributions(*given[0], **given[1]),
    [
        ((({}, {}), {}), ARGUMENT, "before must be", "got {}", "what neuroparam.values gives"),
        (((3, ONE), {}), ARGUMENT, "before must be", "got 3", "what neuroparam.values gives"),
        (((ONE, None), {}), ARGUMENT, "after must be", "got None", SAME),
        (((ONE, {"v": ONE["tau"]}), {}), ARGUMENT, "after must be", "got {'v'", SAME),
        (((ONE, {"tau": 3.0}), {}), ARGUMENT, "'tau' must be", "got 3.0", "a tensor of finite"),
        (
            ((ONE, {"tau": torch.tensor([math.nan])}), {}),
            ARGUMENT,
            "'tau' must be",
            "min nan",
            "a tensor of finite",
        ),
        (((ONE, {"tau": torch.ones(0)}), {}), ARGUMENT, "'tau'", "shape (0,)", "a tensor of"),
        (
            (({"tau": torch.zeros(1)}, ONE), {"rates_in_ms": ["tau"]}),
            ARGUMENT,
            "'tau' must be",
            "min 0, max 0",
            "a rate not 0",
        ),
        (((ONE, ONE), {"rates_in_ms": "tau"}), ARGUMENT, "rates_in_ms", "got 'tau'", "['tau']"),
        (((ONE, ONE), {"rates_in_ms": ["v"]}), ARGUMENT, "rates_in_ms", "got ['v']", "['tau']"),
        (((ONE, ONE), {"labels": {"v": "V"}}), ARGUMENT, "labels", "got {'v': 'V'}", "['tau']"),
        (((ONE, ONE), {"bins": 0}), ARGUMENT, "bins must be", "got 0", "a positive integer"),
        (((ONE, ONE), {"bins": 2.5}), ARGUMENT, "bins must be", "got 2.5", "positive integer"),
    ],
)


def around() -> dict[str, object]:
    """What no call may leave behind outside the module."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "open scopes": len(once.active.scopes),
    }


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{c.group}" for n, c in enumerate(CASES)])
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
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


def test_the_tables_hold_many_different_calls() -> None:
    assert len({(case.group, case.says) for case in CASES}) >= 150


def test_a_whole_record_is_not_assigned() -> None:
    """torch itself refuses it, as it refuses to put a number in the place of any child module."""
    module = attached()
    before = snapshot(module)
    with pytest.raises(TypeError, match="cannot assign"):
        module[0].p = Pair(tau=3.0)
    assert_unchanged(module, before)


# ----------------------------------------------------------------------------------------- junk

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
