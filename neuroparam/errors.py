"""Errors: what was given, what was found, at which path, what to do."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from neuroparam.given import why_unfit

__all__ = [
    "AlreadyTrainableError",
    "AmbiguousNameError",
    "AssignmentError",
    "CheckpointError",
    "EvaluationError",
    "InitialValueError",
    "InvalidArgumentError",
    "InvalidNamesError",
    "NeuroparamError",
    "NoGradientError",
    "NonFiniteError",
    "NotTrainableError",
    "OptimizerError",
    "OutOfDomainError",
    "ParametrizationError",
    "TiedParameterError",
    "TimeStepError",
    "UnknownNameError",
    "UnsupportedModuleError",
]

_LISTED = 20

_Error = TypeVar("_Error", bound="OutOfDomainError")


def describe(value: object) -> str:
    """One short phrase for a value in an error message.

    >>> import torch
    >>> describe(torch.tensor([1.0, 5.0]))
    'a float32 tensor of shape (2,), min 1, max 5'
    >>> describe(0.5)
    '0.5'
    """
    if not isinstance(value, Tensor):
        try:
            text = repr(value)
        except Exception:  # whatever a user's own class, or an integer of 5000 digits, may do
            text = f"an object of {type(value)!r}"
        return text if len(text) <= 60 else f"{text[:57]}..."
    kind = f"a {str(value.dtype).removeprefix('torch.')} tensor"
    if is_lazy(value) or value.is_nested:
        return kind  # without a shape
    kind = f"{kind} of shape {tuple(value.shape)}"
    if value.is_meta:
        return f"{kind} on the meta device"
    if why_unfit(value) is not None:
        return kind
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        return kind  # its numbers are out of reach under vmap
    numbers = value.detach().double()
    return f"{kind}, min {numbers.min().item():g}, max {numbers.max().item():g}"


def listing(paths: Iterable[str]) -> str:
    """The paths as an indented list, cut after twenty."""
    shown = list(paths)
    lines = [f"  {path}" for path in shown[:_LISTED]]
    if len(shown) > _LISTED:
        lines.append(f"  ... and {len(shown) - _LISTED} more")
    return "\n".join(lines)


class NeuroparamError(Exception):
    """Base of every error that this library raises."""


class ParametrizationError(NeuroparamError, ValueError):
    """A parametrization was built or used with constants that make no sense."""


class OutOfDomainError(NeuroparamError, ValueError):
    """Values lie outside the domain of their parametrization.

    Attributes:
        value: the offending tensor.
        outside: how many of its entries lie outside.
        domain: the domain, in words.
        path: the attribute it was meant for, if known.
    """

    def __init__(self, value: Tensor, outside: Tensor, domain: str, path: str | None = None):
        self.value = value
        self.outside = int(outside.sum())
        self.domain = domain
        self.path = path
        self.parametrization = ""
        self._lowest, self._highest = _span(value, outside)
        super().__init__(value, outside, domain, path)

    def at(self: _Error, path: str, parametrization: str) -> _Error:
        """The same error, naming the attribute and the parametrization it has."""
        located = copy.copy(self)
        located.path = path
        located.parametrization = parametrization
        return located

    def __str__(self) -> str:
        place = f"{self.path!r}: " if self.path else ""
        whose = f" of {self.parametrization}" if self.parametrization else ""
        return (
            f"{place}{self.outside} of {self.value.numel()} values lie outside the domain "
            f"{self.domain}{whose}; they span {self._lowest:g} to {self._highest:g}. Give values "
            f"inside, or choose a parametrization whose domain holds them, such as "
            f"BoundedSigmoid(lower, upper)."
        )


def _span(value: Tensor, outside: Tensor) -> tuple[float, float]:
    if not bool(outside.any()):
        return float("nan"), float("nan")
    bad = value.detach()[outside].double()
    return bad.min().item(), bad.max().item()


class UnsupportedModuleError(NeuroparamError, TypeError):
    """The object cannot be made trainable as a whole (not a module, a ScriptModule)."""


class InvalidArgumentError(NeuroparamError, ValueError):
    """An argument is not of the kind, or in the range, that a function takes.

    Attributes:
        argument: its name.
        given: what was given.
    """

    def __init__(self, argument: str, given: object, wanted: str):
        self.argument = argument
        self.given = given
        super().__init__(f"{argument} must be {wanted}; got {describe(given)}.")


class UnknownNameError(NeuroparamError, ValueError):
    """Names match nothing.

    Attributes:
        missing: name -> the near misses found for it.
        available: the paths that could be named instead.
    """

    def __init__(
        self, problem: str, missing: Mapping[str, Sequence[str]], available: Sequence[str]
    ):
        self.missing = missing
        self.available = available
        lines = [f"{problem}:"]
        for name, near in missing.items():
            hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
            lines.append(f"  {name!r}{hint}")
        if available:
            lines += ["These can be named:", listing(available)]
        else:
            lines.append("There is nothing that could be named.")
        super().__init__("\n".join(lines))


class InvalidNamesError(NeuroparamError, TypeError):
    """The argument `names` is not a name, a list of names, or a mapping from names.

    Attributes:
        given: what was given.
    """

    def __init__(self, given: object, problem: str):
        self.given = given
        super().__init__(
            f"names must be a name, several names, or a mapping name -> parametrization: "
            f"{problem}; got {describe(given)}."
        )


class AmbiguousNameError(NeuroparamError, ValueError):
    """A short name matches several places, or several names match one place equally well.

    Attributes:
        name: the name given, or the path of the place.
        matches: the full paths it could mean, or the names that mean it.
    """

    def __init__(self, name: str, matches: Sequence[str], problem: str | None = None):
        self.name = name
        self.matches = matches
        if problem is None:
            problem = f"could mean any of {len(matches)} places; name one by its full path"
        super().__init__(f"{name!r} {problem}:\n{listing(matches)}")


class NotTrainableError(NeuroparamError, TypeError):
    """A name refers to something that cannot be trained.

    Attributes:
        path: the place.
        reason: why it cannot be trained.
        instead: what to do.
    """

    def __init__(self, path: str, reason: str, instead: str):
        self.path = path
        self.reason = reason
        self.instead = instead
        super().__init__(f"{path!r} cannot be trained: {reason}. {instead}")


class AlreadyTrainableError(NeuroparamError, ValueError):
    """A place already carries a parametrization; parametrizations are never stacked.

    Attributes:
        path: the place.
    """

    def __init__(self, path: str, found: str):
        self.path = path
        super().__init__(
            f"{path!r} is already parametrized by {found}. Assign to it to change its value, or "
            f"call make_fixed(module, {path!r}) (torch.nn.utils.parametrize."
            f"remove_parametrizations for another library's) before attaching anew."
        )


class TiedParameterError(NeuroparamError, ValueError):
    """One Parameter object is registered in several places.

    Attributes:
        paths: every place that holds it.
    """

    def __init__(self, path: str, paths: Sequence[str]):
        self.path = path
        self.paths = paths
        super().__init__(
            f"{path!r} is one Parameter held in {len(paths)} places: {', '.join(paths)}. A "
            f"parametrization on one of them would leave the others reading its raw value. Use "
            f"one neuron module in both places, give each its own Parameter "
            f"(nn.Parameter(tied.detach().clone())), or delete the one that is not needed."
        )


class TimeStepError(NeuroparamError, ValueError):
    """The time step of the simulation is needed, or contradicts a module's own.

    Attributes:
        path: the place whose value depends on it.
    """

    def __init__(self, path: str, problem: str):
        self.path = path
        super().__init__(f"{path!r}: {problem}")


class InitialValueError(NeuroparamError, ValueError):
    """An initial value, or the shape asked for, cannot be used.

    Attributes:
        path: the place it was meant for.
        given: what was given.
    """

    def __init__(self, path: str, given: object, problem: str):
        self.path = path
        self.given = given
        super().__init__(f"init of {path!r}: {problem}; got {describe(given)}.")


class AssignmentError(NeuroparamError, ValueError):
    """A trainable value was assigned something that cannot be stored.

    Attributes:
        path: the place.
        given: what was given.
    """

    def __init__(self, path: str, given: object, problem: str):
        self.path = path
        self.given = given
        super().__init__(f"assignment to {path!r}: {problem}; got {describe(given)}.")


class CheckpointError(NeuroparamError, RuntimeError, ValueError):
    """A checkpoint does not fit: other keys, shapes or constants than the module has.

    It is a RuntimeError, as what `load_state_dict` itself raises.
    """


class OptimizerError(NeuroparamError, RuntimeError):
    """An optimizer was built before `make_trainable` and holds a Parameter that is gone.

    Attributes:
        path: the value that it would not train.
    """

    def __init__(self, path: str, optimizer: str):
        self.path = path
        super().__init__(
            f"this {optimizer} was built before make_trainable and holds a Parameter that gave "
            f"way to one of another shape, the raw tensor of {path!r}. Build the optimizer anew, "
            f"after make_trainable."
        )


class EvaluationError(NeuroparamError, RuntimeError):
    """A parametrization failed while a value was read."""


class NoGradientError(NeuroparamError, RuntimeError):
    """A parameter looks trainable and would never be trained.

    Attributes:
        paths: the parameters concerned.
    """

    def __init__(self, paths: Sequence[str], reason: str):
        self.paths = paths
        super().__init__(
            f"no gradient reaches\n{listing(paths)}\n{reason} Fix the forward, or name only "
            f"parameters that it uses: make_fixed(module, names) gives the others back."
        )


class NonFiniteError(NeuroparamError, ArithmeticError):
    """Training has diverged: raw values are inf or NaN, and what they were is lost.

    Attributes:
        paths: the parameters concerned.
    """

    def __init__(self, lost: Mapping[str, str], when: str):
        self.paths = list(lost)
        entries = listing(f"{path}: {count}" for path, count in lost.items())
        super().__init__(
            f"{when}, raw values are inf or NaN:\n{entries}\nThe gradient was not finite, or the "
            f"learning rate too large. Load the last checkpoint, and clip gradients before the "
            f"step (torch.nn.utils.clip_grad_norm_, with error_if_nonfinite=True to stop before "
            f"it) or lower the learning rate."
        )
