"""Names that mean nothing, several things, or what cannot be trained."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from neuroparam import ExpScaledLog, Quantity, Softplus, errors, make_trainable
from tests.support.bad_calls import (
    AMBIGUOUS,
    INVALID,
    KINDS,
    REFUSED,
    UNKNOWN,
    Bad,
    Row,
    Tables,
    assert_says_what_to_do_and_changes_nothing,
    lapicque,
    leaky,
    lif_node,
    norse_cell,
    pair,
    rockpool_lif,
    sinabs_lif,
    two,
)
from tests.support.modules import Doubled, Pair, Smooth

bad = Tables()


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
        ("*.gain", errors.OutOfDomainError, "'lif2.p.gain'", "-1 is outside", "Give values inside"),
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


@bad.every_call
def test_a_bad_call_says_what_to_do_and_changes_nothing(case: Bad) -> None:
    assert_says_what_to_do_and_changes_nothing(case)
