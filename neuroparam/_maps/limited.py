"""Maps that know their limits in each dtype, and fit constants to the first value they see."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from neuroparam._ground.errors import CheckpointError, ParametrizationError
from neuroparam._ground.hooks import NotesHooks
from neuroparam._maps.base import SHOWN, Limits, Parametrization
from neuroparam._maps.floats import FLOATS, working
from neuroparam._maps.slopes import Pullback, forget_numbers

__all__ = ["NO_ROOM", "NUMBERS", "LimitedMap"]

NO_ROOM = Limits(math.inf, -math.inf)
# Where a map keeps the numbers in its formula, for compiled code: those for raw tensors of two, of
# four and of eight bytes. Half precision has none.
NUMBERS = "_neuroparam_numbers"
# Set on a map whose calls somebody listens to, or takes the place of.
_HOOKED = "_neuroparam_hooked"


def _is_positive(number: object) -> bool:
    return isinstance(number, float) and 0.0 < number < math.inf


class LimitedMap(NotesHooks, Parametrization):
    """Base of this library's maps: they hold their domain to the last float of every dtype.

    A subclass names its constants, computes its limits for a dtype from them, gives its formula,
    and inverts values between these limits. A constant that the user leaves out (None) is fitted
    to the first value that `right_inverse` sees. It travels with the state dict and is adopted
    from a checkpoint; constants that the user gave must agree with the checkpoint's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fitted: frozenset[str] = frozenset()
        self._limits: dict[torch.dtype, Limits] = {}

    def _fit(self, value: Tensor) -> None:
        """Sets the constants left as None from `value` (float64, all inside the domain)."""

    def _limits_in(self, dtype: torch.dtype) -> Limits:
        """The interval of values that the map reaches when raw has this dtype."""
        raise NotImplementedError

    def _numbers_in(self, dtype: torch.dtype) -> tuple[float, ...]:
        """The numbers that the formula takes for raw tensors of a dtype."""
        raise NotImplementedError

    @staticmethod
    def formula(raw: Tensor, *numbers: float) -> Tensor:
        """The value, computed in the precision of `raw`, single or double.

        torch.compile looks again, at each call of compiled code, at all that is read here. So a
        formula takes what it needs as plain numbers, and calls methods of tensors, which need no
        look, and no functions of `torch`.
        """
        raise NotImplementedError

    def _invert(self, value: Tensor, limits: Limits) -> Tensor:
        """The raw tensor for values between the limits, in the working precision."""
        raise NotImplementedError

    def forward(self, raw: Tensor) -> Tensor:
        self.limits(raw.dtype)
        return self.formula(working(raw), *self._numbers_in(raw.dtype)).to(raw.dtype)

    def with_pullback(self, raw: Tensor) -> tuple[Tensor, Pullback]:
        """What `forward` gives, and its slope in closed form, in few operations without a graph.

        Args:
            raw: the raw tensor, in single or double precision.
        """
        raise NotImplementedError

    def _prepare(self) -> None:
        """Computes once what depends on the constants, for every dtype that raw can have."""
        forget_numbers(self)
        self._limits = {}
        for dtype in FLOATS:
            lowest, highest = self._limits_in(dtype)
            largest = torch.finfo(dtype).max
            fits = -largest <= lowest < highest <= largest
            self._limits[dtype] = Limits(lowest, highest) if fits else NO_ROOM
        self._refine()
        self._note_numbers()

    def _refine(self) -> None:
        """Computes what depends on the limits."""

    def _note_numbers(self) -> None:
        """Keeps the numbers of the formula for compiled code.

        A subclass may compute something else, and somebody may listen to the calls of the map:
        then none are kept, and compiled code calls the map.
        """
        self.__dict__.pop(NUMBERS, None)
        if "formula" in vars(type(self)) and _HOOKED not in self.__dict__:
            single, double = (
                self._numbers_in(dtype) if self._limits[dtype] is not NO_ROOM else ()
                for dtype in (torch.float32, torch.float64)
            )
            self.__dict__[NUMBERS] = (), single, double

    def note_hook(self) -> None:
        """Called where somebody listens to the map: from here on, compiled code calls it."""
        self.__dict__[_HOOKED] = True
        self.__dict__.pop(NUMBERS, None)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "forward":
            self.note_hook()
        elif name in self.constant_names:
            self.__dict__.pop(NUMBERS, None)

    def limits(self, dtype: torch.dtype) -> Limits:
        """The smallest and the largest value that the map returns for a raw tensor of `dtype`.

        Raises:
            ParametrizationError: a constant is still None, the dtype is not floating, or it has
                no room for the constants (bounds that round to neighbours, a reference beyond
                its largest number).
        """
        limits = self._limits.get(dtype)
        if limits is not None and limits.lowest < limits.highest:
            return limits
        unset = [name for name in self.constant_names if getattr(self, name) is None]
        if unset:
            problem = (
                f"{', '.join(unset)} is fitted to the first value that right_inverse sees; "
                f"attach it, or give the constant"
            )
        elif limits is None:
            problem = f"raw must be floating point, got {dtype}"
        else:
            problem = (
                f"its constants leave no room in {dtype}; give others, or use the module in "
                f"double precision"
            )
        raise ParametrizationError(f"{self!r} cannot be evaluated: {problem}.")

    def outside(self, value: Tensor) -> Tensor:
        lowest, highest = self.limits(value.dtype)
        return ~((value >= lowest) & (value <= highest))

    def right_inverse(self, value: Tensor) -> Tensor:
        """The raw tensor whose value this is; a new tensor of the same shape and dtype.

        Args:
            value: the values, any shape, floating point, inside the domain.

        Raises:
            OutOfDomainError: some values are outside the domain, or NaN.
            ParametrizationError: as `limits`.
        """
        value = value.detach()
        if not self._limits:
            self.refuse_where(self.outside_domain(value), value)
            self._fit(value.double())
            self._prepare()
        return self.inverse(value)

    def inverse(self, value: Tensor) -> Tensor:
        """The same, with a gradient, for a map whose constants are all set."""
        self.refuse_where(self.outside(value), value)
        return self._invert(working(value), self.limits(value.dtype)).to(value.dtype)

    def _agrees(self, name: str, theirs: float, dtype: torch.dtype) -> bool:
        if name in self._fitted:
            return 0.0 < theirs < math.inf
        return super()._agrees(name, theirs, dtype)

    def check_extra_state(self, state: object, dtype: torch.dtype) -> None:
        trial = copy.copy(self)
        trial.__dict__.pop(SHOWN, None)
        try:
            trial.adopt_extra_state(state)
            trial.limits(dtype)
        except (ArithmeticError, ParametrizationError) as error:
            raise CheckpointError(f"with the constants of the checkpoint {error}") from error

    def restore(self, constants: dict[str, Any]) -> None:
        super().restore(constants)
        self._prepare()

    def adopt_extra_state(self, state: object) -> None:
        theirs = self._constants_in(self._as_tensor(state))
        for name in self._fitted:
            setattr(self, name, theirs[name])
        self._prepare()
        self._show()

    def set_extra_state(self, state: object) -> None:
        """Adopts the constants of a checkpoint where none are fitted yet, or checks them.

        Constants that are fitted give raw tensors their meaning. They change only together with
        one: the trainable value that the map belongs to calls `adopt_extra_state`.

        Raises:
            CheckpointError: as `check_extra_state`, or other constants than were fitted.
        """
        if not self._limits:
            self.adopt_extra_state(state)
            return
        tensor = self._as_tensor(state)
        theirs = self._constants_in(tensor)
        differing = {
            name: theirs[name]
            for name in self._fitted
            if not Parametrization._agrees(self, name, theirs[name], tensor.dtype)
        }
        if differing:
            raise self._other_constants(differing)
