"""The libraries in the catalogue, `register` for more of them, and every look-up."""

from __future__ import annotations

import importlib.metadata
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn

from neuroparam._catalogue.braincog import BRAINCOG
from neuroparam._catalogue.entries import (
    Adapted,
    Library,
    Refused,
    Trains,
    any_matches,
    classes_of,
)
from neuroparam._catalogue.hxtorch import HXTORCH
from neuroparam._catalogue.lava import LAVA
from neuroparam._catalogue.norse import NORSE
from neuroparam._catalogue.rockpool import ROCKPOOL
from neuroparam._catalogue.sinabs import SINABS
from neuroparam._catalogue.snntorch import SNNTORCH
from neuroparam._catalogue.spikingjelly import SPIKINGJELLY
from neuroparam._catalogue.stork import STORK
from neuroparam._ground.errors import InvalidArgumentError

__all__ = [
    "BUILT_IN",
    "adapted_for",
    "is_catalogued",
    "register",
    "row_of",
    "step_of",
]

BUILT_IN: tuple[Library, ...] = (
    *(NORSE, SNNTORCH, SPIKINGJELLY, SINABS, ROCKPOOL),
    *(BRAINCOG, HXTORCH, LAVA, STORK),
)
ENTRY_POINTS = "neuroparam.libraries"


class _Registered:
    """The libraries that were added by `register`, and by installed packages."""

    def __init__(self) -> None:
        self._by_package: dict[str, Library] = {}
        self._installed: tuple[Library, ...] | None = None
        self._lock = threading.RLock()

    def add(self, library: Library) -> None:
        self._by_package[library.package] = library

    def all(self) -> tuple[Library, ...]:
        """Every library: what the user registered comes first, and what we know last."""
        with self._lock:
            if self._installed is None:
                # A package that is loaded now may ask for the libraries itself.
                self._installed = ()
                self._installed = tuple(_installed())
        return (*self._by_package.values(), *self._installed, *BUILT_IN)


def _installed() -> Iterator[Library]:
    """The libraries that installed packages declare in the entry-point group."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            found: Any = entry_point.load()
            libraries = [found] if isinstance(found, Library) else list(found)
            for library in libraries:
                _refuse_unless_library(library)
        except Exception as error:  # It is another package's code, and may raise anything.
            warnings.warn(
                f"the entry point {entry_point.name!r} = {entry_point.value!r} of the group "
                f"{ENTRY_POINTS!r} gives no neuroparam.catalogue.Library, and is left out: "
                f"{type(error).__name__}: {error}",
                stacklevel=2,
            )
        else:
            yield from libraries


registered = _Registered()


def register(library: Library) -> Library:
    """Adds an SNN library, or a user's own package, to the catalogue.

    From then on `make_trainable`, `find`, `values` and `Quantity` know its modules. A row of a
    registered library counts before the rows that neuroparam brings for the same package.
    Registering a package again replaces what was registered for it. A package can also declare
    its library in the entry-point group `neuroparam.libraries`; then it need not be registered.

    Args:
        library: the package and its rows, from `neuroparam.catalogue`.

    Returns:
        The library.

    Raises:
        InvalidArgumentError: it is no `Library`, its package is no name of a top-level package,
            or it holds something else than rows and `Adapted` entries.

    Examples:
        >>> import torch
        >>> from neuroparam import Quantity, make_trainable, register, values
        >>> from neuroparam.catalogue import Library, Trains, between_zero_and_one
        >>> from neuroparam.units import Decay
        >>> class ToyLIF(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.leak = torch.tensor(0.9)
        >>> ToyLIF.__module__ = "toysnn.neurons"  # where a package `toysnn` would define it
        >>> toy = register(
        ...     Library(
        ...         package="toysnn",
        ...         rows=(
        ...             Trains(
        ...                 field="leak",
        ...                 meaning="membrane decay per step",
        ...                 default=between_zero_and_one,
        ...                 quantity=Quantity.TAU_MEM,
        ...                 stored_as=Decay,
        ...                 modules=("ToyLIF",),
        ...             ),
        ...         ),
        ...     )
        ... )
        >>> neuron = make_trainable(ToyLIF(), Quantity.TAU_MEM, init=0.02, dt=1e-3)
        >>> neuron.leak
        tensor(0.9512, grad_fn=<ChainBackward>)
    """
    _refuse_unless_library(library)
    registered.add(library)
    return library


def _refuse_unless_library(library: object) -> None:
    """Raises unless it is given a library whose parts are what they should be.

    Raises:
        InvalidArgumentError: naming the part.
    """
    if not isinstance(library, Library):
        raise InvalidArgumentError(
            "library", library, "must be a neuroparam.catalogue.Library(package=..., rows=...)"
        )
    if not isinstance(library.package, str) or not library.package.isidentifier():
        raise InvalidArgumentError(
            "package", library.package, "must be the name of a top-level package, such as 'norse'"
        )
    _refuse_unless_all("rows", library.rows, (Trains, Refused))
    _refuse_unless_all("adapted", library.adapted, (Adapted,))
    for entry in (*library.rows, *library.adapted):
        _refuse_unless_all("modules", entry.modules, (str,))
    for adapted in library.adapted:
        if not callable(adapted.members):
            wanted = "must be a class, or a function that gives one"
            raise InvalidArgumentError("members", adapted.members, wanted)


def _refuse_unless_all(argument: str, given: object, kinds: tuple[type, ...]) -> None:
    wanted = f"must be a tuple of {' or '.join(kind.__name__ for kind in kinds)}"
    if not isinstance(given, tuple):
        raise InvalidArgumentError(argument, given, wanted)
    for entry in given:
        if not isinstance(entry, kinds):
            raise InvalidArgumentError(argument, entry, wanted)


def _libraries_of(kind: type) -> Iterator[tuple[Library, list[str]]]:
    """The libraries that a class comes from, each with the names of its classes there."""
    for library in registered.all():
        names = classes_of(library.package, kind)
        if names:
            yield library, names


def row_of(neuron: nn.Module, field: str) -> Trains | Refused | None:
    """What the catalogue says of a stored value; None if nothing.

    Args:
        neuron: the neuron module, of one of the libraries or of a user's class derived from it.
        field: the last part of the value's path.
    """
    for library, names in _libraries_of(type(neuron)):
        for row in library.rows:
            if any_matches([field], [row.field]) and any_matches(names, row.modules):
                if isinstance(row, Trains) or row.only_if(neuron):
                    return row
    return None


def is_catalogued(neuron: nn.Module) -> bool:
    """Whether a module belongs to a library of the catalogue."""
    return any(True for _ in _libraries_of(type(neuron)))


def step_of(neuron: nn.Module) -> float | None:
    """The time step in seconds that a neuron module integrates with, if it has one."""
    steps = (library.time_step(neuron) for library, _ in _libraries_of(type(neuron)))
    return next((step for step in steps if step is not None), None)


def adapted_for(plain: type) -> Adapted | None:
    """What the class of an attached module must read, and do, differently.

    Args:
        plain: the module's own class.
    """
    for library, names in _libraries_of(plain):
        for entry in library.adapted:
            if any_matches(names, entry.modules):
                return entry
    return None
