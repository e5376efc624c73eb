"""audit: what each stored number of a network does in it, and what to train."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._attaching.refusals import why_unfit
from neuroparam._attaching.survey import each_once, is_own, may_be_trained, survey
from neuroparam._attaching.trainable import make_trainable
from neuroparam._catalogue.registry import is_catalogued
from neuroparam._ground.errors import InvalidArgumentError, NeuroparamError
from neuroparam._ground.torch_state import whole
from neuroparam._looking.text import Table, frame_of, in_html, span
from neuroparam._looking.trials import Trial, overwritten, try_value
from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.softplus import Softplus
from neuroparam._value.copying import copied, copy_of_network
from neuroparam._value.place import Place, refuse_scripted
from neuroparam._value.running import tensors_in
from neuroparam._value.storage import Kind

__all__ = ["Audit", "Audited", "audit"]


@dataclass(frozen=True)
class Audited:
    """What has been measured of one stored number.

    Attributes:
        path: its name for `make_trainable`.
        value: the present value; a copy.
        verdict: "train", "could train", "trains as it is", "state", "not read", "no gradient",
            "no effect", "plain number", "not offered" or "refused".
        why: the reason, in words.
        read: whether the forward reads it.
        gradient: the largest gradient that reaches it; None if none does.
        moved: how far a change of one per cent moves the output, at most.
        agreement: what the gradient foretells of that change, over what is seen, in a sum of the
            outputs. It is 1 where the dynamics are smooth; spikes make it differ.
        bounds: the range to which the forward clamps it; None if it does not.
        parametrization: the one proposed; None if none is, or the library's default is right.
    """

    path: str
    value: Tensor
    verdict: str
    why: str
    read: bool
    gradient: float | None
    moved: float
    agreement: float | None
    bounds: tuple[float, float] | None
    parametrization: Parametrization | None


class Audit(list[Audited]):
    """What has been measured of each number: a list that prints as a table, with a proposal.

    Attributes:
        proposal: what to give to `make_trainable`: name -> parametrization, None for the default.
    """

    @property
    def proposal(self) -> dict[str, Parametrization | None]:
        return {each.path: each.parametrization for each in self if each.verdict == "train"}

    @property
    def call(self) -> str:
        """The call of `make_trainable` that trains what is proposed, as code; `net` is the network.

        It is empty if nothing is proposed.
        """
        if not self.proposal:
            return ""
        entries = [f"    {path!r}: {_as_code(each)}," for path, each in self.proposal.items()]
        return "\n".join(["make_trainable(net, {", *entries, "})"])

    def _table(self) -> Table:
        header = ("name", "value", "verdict", "gradient", "moves", "agrees", "why")
        return Table(
            header,
            [
                (
                    each.path,
                    span(each.value),
                    each.verdict,
                    "" if each.gradient is None else f"{each.gradient:.2g}",
                    f"{each.moved:.2g}" if each.read else "",
                    "" if each.agreement is None else f"{each.agreement:.2g}",
                    each.why,
                )
                for each in self
            ],
        )

    def __str__(self) -> str:
        silent = "" if self._moves else f"\n\n{_SILENT}"
        return f"{self._table()}{silent}\n\n{self.call or 'nothing is proposed'}"

    @property
    def _moves(self) -> bool:
        """Whether the output has moved with any value, so that the neurons are not silent."""
        read = [each for each in self if each.read]
        return not read or any(each.moved > 0 for each in read)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{self._table()._repr_html_()}<pre>{in_html(self.call)}</pre>"

    def to_frame(self) -> Any:
        """The measurements as a `pandas.DataFrame`, one row per number.

        Raises:
            ImportError: pandas is not installed.
        """
        return frame_of(Audited, map(vars, self))


def audit(
    net: nn.Module, *inputs: Any, run: Callable[[nn.Module], Any] | None = None, **keywords: Any
) -> Audit:
    """Measures what each number that a network stores does in it, and proposes what to train.

    Each number is tried on copies of the network: is it read, does a gradient reach it, does a
    change of one per cent move the output and does the gradient agree, is it clamped or mapped
    again, is it overwritten. The network itself stays bit for bit as it is, with its states, and
    so do the random generators. This takes up to five forwards and a backward pass for each
    number.

    Args:
        net: a network of modules of any library, or of your own.
        *inputs: what its forward takes, for example spikes of shape (T, batch, inputs). They
            should make its neurons spike: what a silent neuron computes with has no effect.
        run: a function from a network to its output, for a network that is not run by a call:
            `run=lambda net: net.encode(x)`. It is called with copies of `net`.
        **keywords: further keyword arguments of its forward.

    Returns:
        A list of `Audited`, which prints as a table with the proposed call of `make_trainable`
        below it.

    Raises:
        UnsupportedModuleError: it is no module, is a ScriptModule, or cannot be copied.
        InvalidArgumentError: there are both inputs and `run`.
        Exception: whatever the forward of the network raises.

    Examples:
        >>> import torch
        >>> from neuroparam import audit
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.beta, self.gain, self.unused_tau = torch.tensor([0.9, 0.8]), 2.0, 20.0
        ...     def forward(self, x):
        ...         v = torch.zeros_like(x[0])
        ...         for step in x:
        ...             v = self.beta.clamp(0.5, 0.95) * v + self.gain * step
        ...         return v
        >>> found = audit(Leaky(), torch.ones(5, 3, 2))
        >>> [(each.path, each.verdict) for each in found]
        [('beta', 'train'), ('gain', 'could train'), ('unused_tau', 'not read')]
        >>> print(found.call)
        make_trainable(net, {
            'beta': BoundedSigmoid(0.5, 0.95),
        })
    """
    refuse_scripted(net)
    if run is not None and (inputs or keywords):
        raise InvalidArgumentError("run", run, "it is called without inputs; give one of both")
    called = run or _calling(inputs, keywords)
    states = overwritten(net, called)
    measured = [
        _audited(place, try_value(net, place.path, called), place.path in states)
        for place in each_once(survey(net))
        if _is_looked_at(place)
    ]
    return Audit(sorted(_tried_out(net, measured), key=lambda each: _ORDER.index(each.verdict)))


_SILENT = (
    "The output has moved with none of the values: give an input that makes the neurons spike, or "
    "the verdicts say little."
)
_ORDER = (
    "train",
    "could train",
    "trains as it is",
    "no effect",
    "no gradient",
    "not read",
    "plain number",
    "not offered",
    "state",
    "refused",
)


def _calling(inputs: Any, keywords: dict[str, Any]) -> Callable[[nn.Module], Any]:
    """Calls a network with copies of the inputs, into which it may write."""

    def call(net: nn.Module) -> Any:
        given = (inputs, keywords)
        arguments, named = copied(given, tensors_in(given))
        return net(*arguments, **named)

    return call


def _is_looked_at(place: Place) -> bool:
    """Whether a number may be one of a neuron: no weight, no size, not private."""
    if place.kind is Kind.ATTACHED or not is_own(place):
        return False
    if place.row is not None or is_catalogued(place.neuron):
        return place.row is not None
    if may_be_trained(place.value):
        return True
    return why_unfit(place) is None and place.hint.trains is True


def _audited(place: Place, trial: Trial, is_state: bool) -> Audited:
    verdict, why, parametrization = _judged(place, trial, is_state)
    return Audited(
        path=place.path,
        value=whole(torch.as_tensor(place.value)).detach().clone(),
        verdict=verdict,
        why=why,
        read=trial.read,
        gradient=trial.gradient,
        moved=trial.moved,
        agreement=trial.agreement,
        bounds=trial.clamped,
        parametrization=parametrization,
    )


def _judged(place: Place, trial: Trial, is_state: bool) -> tuple[str, str, Parametrization | None]:
    """The verdict, the reason, and the parametrization to propose."""
    if trial.refused:
        return "refused", trial.refused, None
    if is_state:
        return "state", "the forward overwrites it", None
    if trial.failed and trial.clamped:
        return _clamped(trial.clamped, place)
    if trial.failed:
        why = f"the forward does not take a tensor for it ({trial.failed})"
        return "plain number", why, None
    if not trial.read:
        return "not read", "no forward has read it", None
    if trial.gradient is None:
        why = (
            "the forward casts it to a number, detaches it, only compares with it, or leaves what "
            "comes of it out of the output"
        )
        return "no gradient", why, None
    if trial.gradient == 0.0 and trial.moved == 0.0:
        return "no effect", "the output stays the same, and its gradient is 0", None
    row = place.trains
    if trial.mapped or (row is not None and row.mapped):
        why = (row.mapped if row else "") or f"the forward maps it by {trial.mapped}"
        why = f"{why}: any number is valid, so train it without a map"
        return "trains as it is", why, None
    if place.row is not None:
        return "train", "", None
    if trial.clamped:
        return _clamped(trial.clamped, place)
    hint = place.hint
    if hint.trains is False:
        return "not offered", hint.why, None
    default = None if hint.default is None else hint.default()
    return "train" if hint.trains and default else "could train", hint.why, default


def _clamped(bounds: tuple[float, float], place: Place) -> tuple[str, str, Parametrization | None]:
    lower, upper = bounds
    why = f"the forward clamps it to [{lower:g}, {upper:g}]"
    if not math.isinf(lower) and not math.isinf(upper):
        return "train", why, BoundedSigmoid(lower, upper)
    if not math.isinf(lower):
        return "train", why, Softplus(lower=lower)
    is_positive = bool((torch.as_tensor(place.value) > 0).all()) and upper > 0
    return ("train", why, BoundedSigmoid(0.0, upper)) if is_positive else ("could train", why, None)


def _tried_out(net: nn.Module, measured: list[Audited]) -> list[Audited]:
    """The same, with what cannot be attached as proposed as "could train"."""
    found = []
    for each in measured:
        if each.verdict == "train":
            try:
                make_trainable(copy_of_network(net), {each.path: each.parametrization})
            except NeuroparamError as error:
                why = f"{each.why}; but {error}"
                each = dataclasses.replace(each, verdict="could train", why=why)
        found.append(each)
    return found


def _as_code(parametrization: Parametrization | None) -> str:
    """A parametrization as the code that makes it."""
    if isinstance(parametrization, BoundedSigmoid):
        return f"BoundedSigmoid({parametrization.lower!r}, {parametrization.upper!r})"
    if isinstance(parametrization, Softplus):
        lower = parametrization.lower
        return f"Softplus(lower={lower!r})" if lower else "Softplus()"
    return "ExpScaledLog()" if isinstance(parametrization, ExpScaledLog) else "None"
