"""What has been seen of the gradients of a value, and what follows when none comes.

A value is unproven until a gradient has come to it. Nothing is concluded from one forward: a
module may have no use for a value yet, or the loss none for its output.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from neuroparam._ground.errors import NoGradientError, NoGradientWarning
from neuroparam._ground.messages import listing, warn
from neuroparam._value.network import Located, paths_in_networks

__all__ = ["Evidence", "accumulated", "judge", "judge_without_optimizer"]


class Judged(Located, Protocol):
    """A value, its raw tensor, and what has been seen of it."""

    evidence: Evidence

    @property
    def raw(self) -> nn.Parameter: ...


class _Symptom(NamedTuple):
    """What is wrong with a value that gets no gradient.

    Attributes:
        steps: in how many steps it must be seen before it is said.
        words: for the message.
    """

    steps: int
    words: str


_SEVERED = _Symptom(
    3,
    "a forward has read it, gradients came to the output of its module, and none to the value. "
    "The forward casts it to a number, detaches it, computes with a copy that was made when the "
    "module was built, gives it to a function without a gradient for it (an adjoint or a fused "
    "kernel), or uses it only for an output that the loss leaves out.",
)
_UNREAD = _Symptom(
    10,
    "gradients came to the output of its module, and no forward has read the value. The module "
    "computes with a copy that was made when it was built, or has had no use for it yet.",
)
_NO_GRAPH = _Symptom(
    10,
    "the output of its module had no graph. The forward casts the value to a number, detaches it, "
    "computes with a copy, or spikes without a surrogate gradient.",
)
_NOTHING_CAME = _Symptom(
    10,
    "its gradient was None or exactly 0. Compiled code gives this to a value that its forward "
    "casts to a number, detaches or does not use.",
)
_IDLE = _Symptom(
    100,
    "the forward of its module has not been seen to run. Other code computes with a copy of the "
    "value, or the module is not in use.",
)
_NONE_CAME = (
    "A backward pass came through the place where it is used and brought None: a custom "
    "autograd function on the way returns no gradient for it (an adjoint or a fused kernel). "
    "Choose the implementation that differentiates it."
)


class Evidence:
    """What has been seen of one value.

    Attributes:
        proven: whether a gradient has come to it.
        none_came: whether a backward pass has come through it without a gradient.
        read: whether a forward has computed it with gradients since the last judgement.
        ran: whether its module has given an output with a graph since then.
        ran_without_graph: whether its module has given an output without one.
        wanted: whether a gradient has come to an output of its module since then.
        nothing_came: whether compiled code has brought None to raw since then.
        looked_at: whether the code that uses the value has been looked at.
        held: whether an optimizer has been seen to hold it.
        accumulated: whether a gradient has come to raw since the last step of any optimizer.
        left_out: how many steps optimizers have made without it since one of them held it.
        began: the last step of an optimizer, and the versions of the Parameters of its network,
            when counting began without an optimizer.
    """

    __slots__ = (
        "__weakref__",
        "_counts",
        "_evaluations",
        "_said",
        "_value",
        "accumulated",
        "began",
        "held",
        "left_out",
        "looked_at",
        "none_came",
        "nothing_came",
        "proven",
        "ran",
        "ran_without_graph",
        "read",
        "wanted",
    )

    def __init__(self, value: Judged, proven: bool = False):
        self._value = weakref.ref(value)
        self.proven = self.looked_at = proven
        self.held = self.accumulated = False
        self.left_out = self._evaluations = 0
        self._said: set[str] = set()
        self.start_again()

    @property
    def value(self) -> Judged | None:
        """The value; None where it is gone."""
        return self._value()

    def gradient_came(self, gradient: Tensor | None) -> None:
        """Notes what a backward pass has brought to the value."""
        if gradient is None:
            self.none_came = not self.proven
        else:
            self.proven, self.none_came = True, False

    def raw_got(self, raw: Tensor) -> None:
        """Notes what a backward pass has brought to the raw Parameter, from compiled code too."""
        if raw.grad is None:
            self.nothing_came = True
        elif not self.accumulated:
            self.accumulated = True
            accumulated.add(self)

    def is_held_again(self) -> None:
        """Notes that an optimizer which holds the value has made a step."""
        if not self.held:
            self.held = True
            self._counts.clear()  # Forwards were counted until now, and from here on steps.
        self.left_out = 0
        if self.accumulated:
            self.accumulated = False
            accumulated.discard(self)

    def is_due(self) -> bool:
        """Whether this evaluation in a forward is the 1st, 2nd, 4th, 8th and so on."""
        self._evaluations += 1
        return self._evaluations & (self._evaluations - 1) == 0

    def is_news(self, what: str) -> bool:
        """Whether `what` has not been said of this value yet."""
        new = what not in self._said
        self._said.add(what)
        return new

    def has_lasted(self, symptom: _Symptom, steps: int) -> bool:
        """Counts a symptom once more, and says whether it is time to speak of it."""
        self._counts[symptom] = self._counts.get(symptom, 0) + 1
        return self._counts[symptom] >= steps

    def forget(self, symptom: _Symptom) -> None:
        """Counts a symptom from the beginning again."""
        self._counts.pop(symptom, None)

    def times(self, symptom: _Symptom) -> int:
        """How often a symptom has been counted."""
        return self._counts[symptom]

    def start_again(self) -> None:
        """Forgets what was counted, because the user may mend the cause now."""
        self._counts: dict[_Symptom, int] = {}
        self.began: tuple[object, int] | None = None
        self.none_came = False
        self.start_step()

    def start_step(self) -> None:
        """Forgets what was seen since the last judgement."""
        self.read = self.ran = self.ran_without_graph = False
        self.wanted = self.nothing_came = False


# The values whose raw Parameter has got a gradient since the last step of any optimizer.
accumulated: weakref.WeakSet[Evidence] = weakref.WeakSet()


def judge(values: Iterable[Judged], others_train: Callable[[], bool]) -> None:
    """Judges values after a step of an optimizer that holds them.

    Args:
        values: the values.
        others_train: whether any other Parameter of the optimizer has a gradient.

    Raises:
        NoGradientError: values in use got no gradient, time after time.
    """
    severed: list[Judged] = []
    none_came: list[Judged] = []
    late: dict[_Symptom, list[Judged]] = {}
    for value in values:
        evidence, raw = value.evidence, value.raw
        if evidence.proven or not _is_trained(raw):
            continue
        if _has_gradient(raw):
            evidence.proven = True
            continue
        if evidence.none_came:
            none_came.append(value)
            continue
        symptom = _symptom(evidence, raw, others_train)
        evidence.start_step()
        if symptom is None or not evidence.has_lasted(symptom, symptom.steps):
            continue
        if symptom is _SEVERED:
            severed.append(value)
        else:
            late.setdefault(symptom, []).append(value)
    _warn(late)
    _raise(none_came, _NONE_CAME)
    _raise(severed, f"In {_SEVERED.steps} steps {_SEVERED.words}")


def judge_without_optimizer(
    values: Iterable[Judged],
    parameters: Callable[[], Iterable[nn.Parameter]],
    last_step: object,
) -> None:
    """Judges values at the next forward of their module, while no optimizer holds them.

    It only warns, because a backward pass may have been asked for other gradients.

    Args:
        values: the values.
        parameters: gives the Parameters of the network that runs, as far as it is known.
        last_step: another object after each step of any optimizer.

    Raises:
        NoGradientError: a backward pass has come through a value and brought None.
    """
    late: dict[_Symptom, list[Judged]] = {}
    none_came: list[Judged] = []
    for value in values:
        evidence = value.evidence
        if evidence.proven or not _is_trained(value.raw):
            continue
        if evidence.none_came:
            none_came.append(value)
        elif evidence.wanted and not evidence.held:
            symptom = _SEVERED if evidence.read else _UNREAD
            evidence.start_step()
            if evidence.began is None:
                evidence.began = last_step, _versions(parameters())
            if evidence.has_lasted(symptom, _UNREAD.steps):
                # Only now look at gradients, which a backward pass in another thread may be
                # setting. An optimizer that steps in a backward pass sets them to None, and has
                # changed the Parameters.
                step, versions = evidence.began
                trained = list(parameters())
                if value.raw.grad is None and (
                    any(parameter.grad is not None for parameter in trained)
                    or (step is not last_step and versions != _versions(trained))
                ):
                    late.setdefault(symptom, []).append(value)
                else:
                    evidence.start_again()
    _warn(late)
    _raise(none_came, _NONE_CAME)


def _versions(parameters: Iterable[nn.Parameter]) -> int:
    """A number that grows when a Parameter is changed in place."""
    return sum(0 if p.is_inference() else p._version for p in parameters)


def _is_trained(raw: Tensor) -> bool:
    """Whether a gradient can be expected: functional_call lends tensors, others are frozen."""
    return isinstance(raw, nn.Parameter) and raw.requires_grad


def _has_gradient(raw: Tensor) -> bool:
    """Whether a raw tensor has a gradient that is not exactly zero.

    Compiled code gives zeros to a value that it does not use, and some programs fill `.grad`
    with zeros. A zero that comes through the value itself has been noted as a proof before.
    """
    gradient = raw.grad
    if gradient is None:
        return False
    if hasattr(gradient, "device_mesh") or gradient.is_meta:
        return True
    return bool(gradient.any())


def _symptom(evidence: Evidence, raw: Tensor, others_train: Callable[[], bool]) -> _Symptom | None:
    """What is wrong with a value to which no gradient came in this step, if anything is."""
    if evidence.wanted:
        return _SEVERED if evidence.read else _UNREAD
    if evidence.ran:
        # The loss leaves out the output of its module. An optimizer that wraps another one makes
        # two steps for each forward, and in the second one nothing has run.
        evidence.forget(_IDLE)
        return None
    if not others_train():
        return None
    if evidence.nothing_came or raw.grad is not None:
        return _NOTHING_CAME
    return _NO_GRAPH if evidence.ran_without_graph else _IDLE


def _raise(values: list[Judged], reason: str) -> None:
    if values:
        for value in values:
            value.evidence.start_again()
        raise NoGradientError(paths_in_networks(values), reason)


def _warn(late: dict[_Symptom, list[Judged]]) -> None:
    for symptom, values in late.items():
        if new := [value for value in values if value.evidence.is_news("no gradient")]:
            times = new[0].evidence.times(symptom)
            warn(
                f"no gradient has come to\n{listing(paths_in_networks(new))}\nIn {times} steps "
                f"{symptom.words} check_gradients tells which values a gradient reaches. Freeze "
                f"those that are not to be trained yet (requires_grad_(False) on what "
                f"neuron_parameters gives).",
                NoGradientWarning,
            )
