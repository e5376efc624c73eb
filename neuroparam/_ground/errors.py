"""The errors of neuroparam: each says what was given, what was found, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor

from neuroparam._ground.messages import describe, listing

__all__ = [
    "AdjointError",
    "AlreadyTrainableError",
    "AmbiguousNameError",
    "AssignmentError",
    "CheckpointError",
    "EvaluationError",
    "InitialValueError",
    "InvalidArgumentError",
    "InvalidNamesError",
    "MisuseWarning",
    "NeuroparamError",
    "NeuroparamWarning",
    "NoGradientError",
    "NoGradientWarning",
    "NonFiniteError",
    "NotTrainableError",
    "OptimizerError",
    "OutOfDomainError",
    "ParametrizationError",
    "ShapeError",
    "TiedParameterError",
    "TimeStepError",
    "UnitWarning",
    "UnknownNameError",
    "UnsupportedModuleError",
]

_Error = TypeVar("_Error", bound="NeuroparamError")


class NeuroparamError(Exception):
    """Base of every error that this library raises.

    A function that finds something wrong says what; the function that knows the place adds it
    with `at`, on the way to the user.

    Attributes:
        path: the value concerned, as a dotted path; None where the error is about no single one.
    """

    path: str | None = None

    def at(self: _Error, path: str) -> _Error:
        """The same error with the path of the value; a path that it has already is kept."""
        if self.path is None:
            self.path = path
        return self

    def __str__(self) -> str:
        return f"{self.path!r}: {self._problem()}" if self.path else self._problem()

    def _problem(self) -> str:
        """The message without its place."""
        return super().__str__()


# `neuroparam.errors` offers what `__all__` lists; this function is for the library itself.
@contextmanager
def placed(path: str | Callable[[], str]) -> Iterator[None]:
    """Gives every error of this library that is raised inside the path of the value concerned.

    Args:
        path: the path, or what finds it; this is called only if there is an error without one.

    >>> with placed("lif.tau"):
    ...     raise TimeStepError("dt is needed.")
    Traceback (most recent call last):
    ...
    neuroparam._ground.errors.TimeStepError: 'lif.tau': dt is needed.
    """
    try:
        yield
    except NeuroparamError as error:
        if error.path is None:
            error.at(path if isinstance(path, str) else path())
        raise


class ParametrizationError(NeuroparamError, ValueError):
    """A parametrization was built or used with constants that make no sense."""


class OutOfDomainError(NeuroparamError, ValueError):
    """Values lie outside the domain of their parametrization.

    Attributes:
        value: the offending tensor.
        outside: how many of its entries lie outside.
        domain: the domain, in words.
        parametrization: the maps whose domain it is, in words; empty if they are not known.
        hint: what is known of the value that may explain it, as sentences; empty if nothing is.
    """

    def __init__(self, value: Tensor, outside: Tensor, domain: str, parametrization: str = ""):
        super().__init__(value, outside, domain, parametrization)
        self.value = value
        self.outside: int = int(outside.sum())
        self.domain = domain
        self.parametrization = parametrization
        self.hint: str = ""
        self._lowest, self._highest = _span(value, outside)

    def _problem(self) -> str:
        whose = f" of {self.parametrization}" if self.parametrization else ""
        if self.value.numel() == 1:
            found = f"{self._lowest:g} is outside {self.domain}, the domain{whose}"
        else:
            found = (
                f"{self.outside} of {self.value.numel()} values lie outside the domain "
                f"{self.domain}{whose}; they span {self._lowest:g} to {self._highest:g}"
            )
        hint = f"{self.hint} " if self.hint else ""
        return (
            f"{found}. {hint}Give values inside, or choose a parametrization whose domain holds "
            f"them, such as BoundedSigmoid(lower, upper)."
        )


def _span(value: Tensor, outside: Tensor) -> tuple[float, float]:
    if not bool(outside.any()):
        return float("nan"), float("nan")
    bad = value.detach()[outside].double()
    return bad.min().item(), bad.max().item()


class UnsupportedModuleError(NeuroparamError, TypeError):
    """The object cannot be made trainable as a whole (not a module, a ScriptModule)."""


class InvalidArgumentError(NeuroparamError, TypeError, ValueError):
    """Something that a user gave is not of the kind, or in the range, that is needed.

    It is raised for an argument of a function, for an initial value, for `names`, and for what
    is assigned to a trainable value. Earlier releases had a class for each; their names
    `InvalidNamesError`, `InitialValueError` and `AssignmentError` still mean this one.

    Attributes:
        argument: its name; "init" for an initial value, "assignment" for an assigned one.
        given: what was given.
        problem: what is wrong with it.
    """

    def __init__(self, argument: str, given: object, problem: str):
        super().__init__(argument, given, problem)
        self.argument = argument
        self.given = given
        self.problem = problem
        # The description is made now, because the user's object may change later.
        self._found = describe(given)

    def __str__(self) -> str:
        what = self.argument
        if self.path is not None:
            what += f" {'to' if what == 'assignment' else 'of'} {self.path!r}"
        separator = " " if self.problem.startswith("must ") else ": "
        return f"{what}{separator}{self.problem}; got {self._found}."


InvalidNamesError = InvalidArgumentError
InitialValueError = InvalidArgumentError
AssignmentError = InvalidArgumentError


class UnknownNameError(NeuroparamError, ValueError):
    """Names match nothing.

    Attributes:
        missing: name -> the near misses found for it.
        available: the paths that could be named instead.
    """

    def __init__(
        self, problem: str, missing: Mapping[str, Sequence[str]], available: Sequence[str]
    ):
        super().__init__(problem, missing, available)
        self.problem = problem
        self.missing = missing
        self.available = available

    def _problem(self) -> str:
        lines = [f"{self.problem}:"]
        for name, near in self.missing.items():
            words = [each if each.startswith("Quantity.") else repr(each) for each in near]
            hint = f" (did you mean {' or '.join(words)}?)" if near else ""
            lines.append(f"  {name!r}{hint}")
        if self.available:
            lines += ["These can be named:", listing(self.available)]
        else:
            lines.append("There is nothing that could be named.")
        return "\n".join(lines)


class AmbiguousNameError(NeuroparamError, ValueError):
    """A short name matches several places, or several names match one place equally well.

    Attributes:
        name: the name given, or the path of the place.
        matches: the full paths it could mean, or the names that mean it.
    """

    def __init__(self, name: str, matches: Sequence[str], problem: str | None = None):
        super().__init__(name, matches, problem)
        self.name = name
        self.matches = matches
        self.problem: str = problem or (
            f"could mean any of {len(matches)} places; name one by its full path"
        )

    def _problem(self) -> str:
        return f"{self.name!r} {self.problem}:\n{listing(self.matches)}"


class NotTrainableError(NeuroparamError, TypeError, ValueError):
    """A name refers to something that cannot be trained.

    It is also raised for a value that carries a parametrization already, and for a Parameter
    that is registered in several places. Earlier releases had a class for each; their names
    `AlreadyTrainableError` and `TiedParameterError` still mean this one.

    Attributes:
        path: the value concerned.
        reason: why it cannot be trained.
        instead: what to do.
        paths: every place that holds the value, where it is registered in several.
    """

    def __init__(self, reason: str, instead: str, paths: Sequence[str] = ()):
        super().__init__(reason, instead, paths)
        self.reason = reason
        self.instead = instead
        self.paths = paths

    def __str__(self) -> str:
        what = "this" if self.path is None else repr(self.path)
        return f"{what} cannot be trained: {self.reason}. {self.instead}"


AlreadyTrainableError = NotTrainableError
TiedParameterError = NotTrainableError


class TimeStepError(NeuroparamError, ValueError):
    """The time step of the simulation is needed, or contradicts a module's own."""


class CheckpointError(NeuroparamError, RuntimeError, ValueError):
    """A checkpoint does not fit: other keys, shapes or constants than the module has.

    It is a RuntimeError, because `load_state_dict` itself raises one.
    """


class OptimizerError(NeuroparamError, RuntimeError):
    """An optimizer was built before `make_trainable` and holds a Parameter that is gone.

    Attributes:
        path: the value that it would not train.
        optimizer: the name of the optimizer's class.
    """

    def __init__(self, optimizer: str):
        super().__init__(optimizer)
        self.optimizer = optimizer

    def _problem(self) -> str:
        return (
            f"this {self.optimizer} was built before make_trainable and holds a Parameter that "
            f"gave way to another one, the raw tensor of this value. Build the optimizer anew, "
            f"after make_trainable."
        )


class ShapeError(NeuroparamError, RuntimeError):
    """A value has a shape that does not fit what its layer computes with.

    Attributes:
        shapes: path -> shape, of the values that may be meant.
        inputs: the shape of what the layer was given, if it was a tensor.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], inputs: tuple[int, ...] | None, problem: str
    ):
        super().__init__(shapes, inputs, problem)
        self.shapes = shapes
        self.inputs = inputs
        self._torch_says = problem

    def _problem(self) -> str:
        entries = ", ".join(f"{path!r} has shape {shape}" for path, shape in self.shapes.items())
        got = f", and its layer got an input of shape {self.inputs}" if self.inputs else ""
        if self.inputs and len(self.inputs) < 4:
            cure = (
                f"Give make_trainable shape={self.inputs[-1:]} for one value per neuron, a mapping "
                f'name -> shape where layers differ, or shape="neuron" with example=inputs.'
            )
        else:
            cure = (
                "For one value per channel of (batch, channels, height, width) give make_trainable "
                'shape=(channels, 1, 1), or shape="channel" with example=inputs.'
            )
        return (
            f"{entries}{got}: sizes are compared from the last one on. {cure} torch says: "
            f"{self._torch_says}"
        )


class EvaluationError(NeuroparamError, RuntimeError):
    """A parametrization failed while a value was read."""


class AdjointError(NeuroparamError, RuntimeError):
    """Something was asked of `neuroparam.adjoint` that it does not compute."""

    def __init__(self, asked: str):
        super().__init__(asked)
        self.asked = asked

    def _problem(self) -> str:
        return (
            f"the adjoint does not compute {self.asked}. Give the layers back to autograd "
            f"(neuroparam.adjoint.use_autograd), or run the steps of a Leaky in a loop."
        )


class NoGradientError(NeuroparamError, RuntimeError):
    """A parameter looks trainable and would never be trained.

    Attributes:
        paths: the parameters concerned.
        reason: why no gradient reaches them.
    """

    def __init__(self, paths: Sequence[str], reason: str):
        super().__init__(paths, reason)
        self.paths = paths
        self.reason = reason

    def _problem(self) -> str:
        return (
            f"no gradient reaches\n{listing(self.paths)}\n{self.reason} Fix the forward, or name "
            f"only parameters that it uses: make_fixed(module, names) gives the others back."
        )


class NonFiniteError(NeuroparamError, ArithmeticError):
    """Training has diverged: raw values are inf or NaN, and what they were is lost.

    Attributes:
        paths: the parameters concerned.
        when: what has just happened.
    """

    def __init__(self, lost: Mapping[str, str], when: str):
        super().__init__(lost, when)
        self.paths: list[str] = list(lost)
        self.when = when
        self._lost = lost

    def _problem(self) -> str:
        entries = listing(f"{path}: {count}" for path, count in self._lost.items())
        return (
            f"{self.when}, raw values are inf or NaN:\n{entries}\nThe gradient was not finite, or "
            f"the learning rate too large. Load the last checkpoint, and clip gradients before "
            f"the step (torch.nn.utils.clip_grad_norm_, with error_if_nonfinite=True to stop "
            f"before it) or lower the learning rate."
        )


class NeuroparamWarning(UserWarning):
    """Base of the warnings that this library gives while a network is trained.

    A test run can make them errors: `pytest -W error::neuroparam.errors.NeuroparamWarning`, or
    `warnings.simplefilter("error", neuroparam.errors.NeuroparamWarning)`.
    """


class NoGradientWarning(NeuroparamWarning):
    """A value gets no gradient, or no optimizer holds a value that gets one."""


class UnitWarning(NeuroparamWarning):
    """A time constant is shorter than a time step, or longer than all: it is in another unit."""


class MisuseWarning(NeuroparamWarning):
    """A value is used in a way that hides or loses it: bounded again, or written in place."""
