"""The contract of a parametrization: what a map, ours or a user's, must do and may say."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from neuroparam._ground.errors import (
    CheckpointError,
    OutOfDomainError,
    ParametrizationError,
)
from neuroparam._ground.messages import describe
from neuroparam._ground.real import as_real
from neuroparam._ground.torch_state import is_compiling, transform_level
from neuroparam._maps.constants import agree, as_number, read, stands_for, written
from neuroparam._maps.floats import just_above, just_below

__all__ = ["SHOWN", "Limits", "OpenInterval", "Parametrization", "bounds_of", "finite_constant"]

# Among the attributes of a map of which a state dict has been asked: the tensor that it was given.
SHOWN = "_shown"


class Limits(NamedTuple):
    """The smallest and the largest value that a map returns in one dtype."""

    lowest: float
    highest: float


class OpenInterval(constraints.Constraint):
    """lower < x < upper: torch has the closed and the half-open interval only."""

    def __init__(self, lower: float, upper: float):
        self.lower_bound: float = lower
        self.upper_bound: float = upper
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return (self.lower_bound < value) & (value < self.upper_bound)

    def __repr__(self) -> str:
        return f"OpenInterval(lower_bound={self.lower_bound}, upper_bound={self.upper_bound})"


class Parametrization(nn.Module):
    """Base class of the maps from an unconstrained raw tensor to a valid value.

    A map of your own is a subclass with three members:

    * `forward(raw)` returns the value, a tensor of the same shape, dtype and device. It works
      elementwise, is strictly monotone, and any finite raw value gives a value in the domain.
    * `right_inverse(value)` returns the raw tensor: `forward(right_inverse(value))` gives the
      value back. It is only called with values inside the domain.
    * `domain`, an attribute of the class or of the instance, is the set of valid values as a
      `torch.distributions.constraints` object.

    Two more members are optional. `constant_names` lists the attributes that give a raw tensor
    its meaning: they are printed, written into the state dict, and compared with those of a
    checkpoint. `limits(dtype)` returns the smallest and the largest value that the map returns,
    where it does not come near to the bounds of its domain; values beyond them are refused.

    Keep constants as python floats. A registered buffer would change its dtype with the module,
    and code that walks over a module's buffers could change its value.
    `neuroparam.testing.check_parametrization` checks all of this for an instance.

    Examples:
        >>> import torch
        >>> from torch.distributions import constraints
        >>> from neuroparam import Parametrization, make_trainable, summary
        >>> class Square(Parametrization):
        ...     domain = constraints.positive
        ...     def forward(self, raw):
        ...         return torch.nn.functional.softplus(raw).square()
        ...     def right_inverse(self, value):
        ...         return torch.log(torch.expm1(value.sqrt()))
        >>> module = torch.nn.Module()
        >>> module.tau = 4.0
        >>> print(summary(make_trainable(module, {"tau": Square()})))
        name  shape  min  median  max  domain    inside  parametrization
        tau   ()       4       4    4  (0, inf)     1/1  Square()
    """

    domain: constraints.Constraint
    constant_names: ClassVar[tuple[str, ...]] = ()

    def forward(self, raw: Tensor) -> Tensor:
        """The value for a raw tensor, in its shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def right_inverse(self, value: Tensor) -> Tensor:
        """The raw tensor for a value, in its shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} has no right_inverse")

    def limits(self, dtype: torch.dtype) -> tuple[float, float]:
        """The smallest and the largest value that the map returns for a raw tensor of `dtype`.

        Where a map does not say it, these are the floats next to the bounds of its domain.
        """
        lower, upper = self.image(-math.inf, math.inf)
        largest = torch.finfo(dtype).max
        return (
            just_above(lower, dtype) if math.isfinite(lower) else -largest,
            just_below(upper, dtype) if math.isfinite(upper) else largest,
        )

    def image(self, lower: float, upper: float) -> tuple[float, float]:
        """The open interval of the values for inputs between two bounds.

        A map takes any raw tensor, so that its image is its domain, whatever the bounds are.
        """
        domain = self.domain
        return (
            float(getattr(domain, "lower_bound", -math.inf)),
            float(getattr(domain, "upper_bound", math.inf)),
        )

    def domain_in_words(self) -> str:
        """The domain for tables and messages, as an interval."""
        lower, upper = self.image(0.0, math.inf)
        return f"({lower:g}, {upper:g})"

    def outside_domain(self, value: Tensor) -> Tensor:
        """Which entries of `value` are not finite or not in the domain, whatever the limits are."""
        inside: Tensor = self.domain.check(value) & torch.isfinite(value)
        return ~inside

    def outside(self, value: Tensor) -> Tensor:
        """Which entries of `value` this map cannot represent, as a boolean tensor."""
        wrong = self.outside_domain(value)
        if type(self).limits is not Parametrization.limits:
            lowest, highest = self.limits(value.dtype)
            wrong = wrong | (value < lowest) | (value > highest)
        return wrong

    def refuse_where(self, wrong: Tensor, value: Tensor) -> None:
        """Raises if any entry of `value` is marked as wrong.

        Raises:
            OutOfDomainError: with the entries that are.
        """
        if bool(wrong.any()):
            raise OutOfDomainError(value, wrong, self.domain_in_words())

    def get_extra_state(self) -> Tensor:
        """The constants as one small tensor, in double precision and on the CPU.

        It is the same tensor each time. What is written into it in place, as code does that
        copies or averages the tensors of two state dicts, is seen by `follow`.

        Raises:
            ParametrizationError: a constant is no number, no word and not None.
        """
        self.follow()
        self._show()
        shown: Tensor = self.__dict__[SHOWN][0]
        return shown

    def _show(self) -> None:
        """Keeps the present constants as the tensor of `get_extra_state`."""
        numbers = [self._number(name) for name in self.constant_names]
        tensor = written(_kind_of(self), numbers)
        shown, version = self.__dict__.get(SHOWN, (None, 0))
        if shown is not None:
            if shown._version == version and torch.allclose(shown, tensor, 0, 0, equal_nan=True):
                return
            with torch.no_grad():
                tensor = shown.copy_(tensor)
        self.__dict__[SHOWN] = tensor, tensor._version

    def follow(self) -> bool:
        """Takes over what has been written into the tensor of `get_extra_state`, if anything.

        Raises:
            CheckpointError: as `check_extra_state`.
        """
        tensor, version = self.__dict__.get(SHOWN, (None, 0))
        if tensor is None or tensor._version == version:
            return False
        try:
            self.adopt_extra_state(tensor)
        except CheckpointError as error:
            raise CheckpointError(
                f"what was written in place into its state dict does not fit: {error}"
            ) from None
        return True

    def _number(self, name: str) -> float:
        """One constant as it is written."""
        constant = getattr(self, name)
        number = as_number(constant)
        if number is None:
            raise ParametrizationError(
                f"{type(self).__name__}.{name} is {describe(constant)}, which a state dict cannot "
                f"keep as a constant. Only numbers, words and None can be in constant_names."
            )
        return number

    def check_extra_state(self, state: object, dtype: torch.dtype) -> None:
        """Raises unless a checkpoint's constants are those of this map, or can be adopted.

        Args:
            state: what the checkpoint holds for this map: the tensor of `get_extra_state`, in
                any precision, or the dict that earlier versions wrote.
            dtype: of the raw tensor, in which the constants must have room.

        Raises:
            CheckpointError: another parametrization, other constants, or none at all.
        """
        self._constants_in(self._as_tensor(state))

    def adopt_extra_state(self, state: object) -> None:
        """Takes over the constants that are fitted; the raw tensor has been loaded with them.

        Raises:
            CheckpointError: as `check_extra_state`.
        """
        self._constants_in(self._as_tensor(state))
        self._show()

    def present_constants(self) -> dict[str, Any]:
        """The constants by their names, as Python has them."""
        return {name: getattr(self, name) for name in self.constant_names}

    def restore(self, constants: dict[str, Any]) -> None:
        """Takes back the constants that the map had before a load, which was interrupted."""
        for name, constant in constants.items():
            if getattr(self, name) != constant:
                setattr(self, name, constant)
        if self.__dict__.get(SHOWN) is not None:
            self.__dict__[SHOWN] = self.__dict__[SHOWN][0], -1
            self._show()

    def set_extra_state(self, state: object) -> None:
        """Checks the constants of a checkpoint, which are adopted with a raw tensor only.

        Raises:
            CheckpointError: as `check_extra_state`.
        """
        self._constants_in(self._as_tensor(state))

    def _as_tensor(self, state: object) -> Tensor:
        """What a checkpoint holds for this map, in the present format."""
        if isinstance(state, Tensor):
            return state
        if isinstance(state, dict):
            mine = self.present_constants()
            theirs = {name: entry for name, entry in state.items() if name != "parametrization"}
            kind, own = state.get("parametrization"), type(self).__name__
            if isinstance(kind, str) and kind != own:
                raise self._another_map(repr(kind))
            numbers = [as_number(theirs.get(name)) for name in mine]
            words = all(isinstance(theirs.get(n), str) == isinstance(mine[n], str) for n in mine)
            if kind == own and theirs.keys() <= mine.keys() and words and None not in numbers:
                return written(_kind_of(self), [n for n in numbers if n is not None])
        raise CheckpointError(
            f"the checkpoint has {describe(state)} for the constants of {self!r}."
        )

    def _constants_in(self, state: Tensor) -> dict[str, float]:
        """The constants that a checkpoint holds, if this map can have them.

        Raises:
            CheckpointError: another parametrization, or other constants.
        """
        kind, numbers = read(state, self.constant_names)
        if not agree(kind, stands_for(_kind_of(self)), state.dtype) or (
            len(numbers) != len(self.constant_names)
        ):
            raise self._another_map(_name_of(kind, state.dtype))
        theirs = dict(zip(self.constant_names, numbers, strict=True))
        differing = [name for name in theirs if not self._agrees(name, theirs[name], state.dtype)]
        if differing:
            raise self._other_constants({name: theirs[name] for name in differing})
        return theirs

    def _another_map(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint was written with parametrization={name}, this module has {self!r}. "
            f"The same raw values would mean other values: attach with the checkpoint's "
            f"parametrization."
        )

    def _agrees(self, name: str, theirs: float, dtype: torch.dtype) -> bool:
        """Whether one constant of a checkpoint is the module's, or can become it."""
        return agree(theirs, self._number(name), dtype)

    def _other_constants(self, theirs: dict[str, float]) -> CheckpointError:
        mine = {name: getattr(self, name) for name in theirs}
        # A word is not known from its number.
        words = {n: "another word" if isinstance(mine[n], str) else repr(theirs[n]) for n in mine}
        return CheckpointError(
            f"the checkpoint was written with "
            f"{', '.join(f'{name}={word}' for name, word in words.items())}, this module has "
            f"{', '.join(f'{name}={constant!r}' for name, constant in mine.items())}. The same "
            f"raw values would mean other values: attach with the checkpoint's constants, or load "
            f"fitted ones together with their raw values, by load_state_dict of the module."
        )

    @property
    def _extra_state(self) -> Tensor:
        """The constants, under the name of their key.

        `torch.func.functional_call` sets what a state dict holds as attributes.
        """
        return self.get_extra_state()

    @_extra_state.setter
    def _extra_state(self, state: object) -> None:
        if not is_compiling() and not transform_level():
            self.set_extra_state(state)

    def extra_repr(self) -> str:
        shown = self.present_constants().items()
        return ", ".join(
            f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in shown
        )


def _kind_of(each: Parametrization | type[Parametrization]) -> str:
    """What a class of maps is known by in a checkpoint: its name, and what its constants mean."""
    cls = each if isinstance(each, type) else type(each)
    return f"{cls.__name__}({', '.join(each.constant_names)})"


def _name_of(kind: float, dtype: torch.dtype) -> str:
    """The name of the class of map that a checkpoint was written with, where it is known."""
    known, found = [Parametrization], []
    while known:
        each = known.pop()
        known += each.__subclasses__()
        if agree(kind, stands_for(_kind_of(each)), dtype):
            found.append(repr(each.__name__))
    return found[0] if found else "another class, or one with other constants"


def bounds_of(maps: Any) -> tuple[float, float]:
    """The open interval of the values that a chain of maps reaches.

    A map that is no `Parametrization` states no domain, and may reach anything.

    Args:
        maps: the maps, from the first one, which takes the raw tensor, to the last.

    >>> from neuroparam import BoundedSigmoid, Rate
    >>> bounds_of([BoundedSigmoid(0.01, 0.1), Rate()])
    (10.0, 100.0)
    """
    bounds = -math.inf, math.inf
    for each in maps:
        known = isinstance(each, Parametrization)
        bounds = each.image(*bounds) if known else (-math.inf, math.inf)
    return bounds


def finite_constant(owner: object, name: str, value: object) -> float:
    """A constant given by the user as a finite python float.

    Raises:
        ParametrizationError: it is something else.
    """
    found = as_real(value)
    if found is None or not math.isfinite(found):
        raise ParametrizationError(
            f"{type(owner).__name__}({name}=...) must be one finite number, got {describe(value)}."
        )
    return found
