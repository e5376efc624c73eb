"""Requests: what the arguments of `make_trainable` ask for, at each place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from neuroparam._attaching.initial import Initial, Shape
from neuroparam._attaching.layer_shapes import shapes_in_numbers
from neuroparam._attaching.names import Name, as_names, matches, specificity
from neuroparam._attaching.resolve import places_to_attach
from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.errors import (
    InvalidArgumentError,
    ParametrizationError,
    UnknownNameError,
    placed,
)
from neuroparam._ground.messages import describe
from neuroparam._maps.base import Parametrization
from neuroparam._value.place import Place

__all__ = ["Chain", "Names", "Request", "Tie", "refuse_one_for_two_units", "requests"]

Chain: TypeAlias = "nn.Module | Sequence[nn.Module] | None"
"""A parametrization, several that are applied from first to last, or None for the default."""

Names: TypeAlias = "Name | Iterable[Name] | Mapping[Name, Chain]"
"""A name, several names, or a mapping name -> parametrization."""

Tie: TypeAlias = "None | bool | Name | Iterable[Name | tuple[Name, ...]]"
"""A name whose places share one value, several of them, tuples of such names, or a bool."""


@dataclass(frozen=True)
class Request:
    """What is asked for at one place.

    Attributes:
        place: where.
        name: the name that counts for it.
        maps: the parametrizations given for it, as a recipe; None where the default is wanted.
        init: the initial value.
        shape: the shape of the trainable value.
        dt: the time step of the simulation in seconds, if the user gave one.
        tie: what the places that share one trainable value have in common; None where it has
            one of its own.
    """

    place: Place
    name: Name
    maps: list[nn.Module] | None
    init: Initial
    shape: Shape
    dt: float | None
    tie: Hashable = None


def requests(
    module: nn.Module,
    names: Names,
    init: Initial | Mapping[Name, Initial],
    shape: Shape | Mapping[Name, Shape],
    dt: float | None,
    tie: Tie = None,
    example: Any = None,
) -> list[Request]:
    """One request for each place that the arguments of `make_trainable` mean.

    Raises:
        InvalidArgumentError: `names` or `tie` is of no kind that `make_trainable` takes, or a
            shape does not fit the example, or one `init` is for values in seconds and others.
        ParametrizationError: a parametrization is none.
        UnknownNameError: a name, in `tie` too, or a key of `init` or `shape`, means nothing.
        AmbiguousNameError, NotTrainableError: as `places_to_attach`.
    """
    chains = _as_chains(names)
    ties = _as_ties(tie, chains)
    places = places_to_attach(module, chains, lambda name, place: _tie_of(ties, name, place))
    refuse_one_for_two_units("init", init, places)
    inits = _per_place("init", init, places)
    shapes = _per_place("shape", shape, places)
    shapes = shapes_in_numbers(module, [place for _, place in places], shapes, example)
    _refuse_unused_ties(ties, places)
    groups = [_tie_of(ties, name, place) for name, place in places]
    _refuse_single_ties(tie, ties, groups)
    return [
        Request(place, name, chains[name], start, wanted, dt, group)
        for (name, place), start, wanted, group in zip(places, inits, shapes, groups, strict=True)
    ]


def _as_ties(tie: Any, names: Iterable[Name]) -> list[tuple[Name, ...]]:
    """The argument `tie` as groups of names, whose places share one value.

    Raises:
        InvalidArgumentError: it is no name, and no list of names and tuples of names.
    """
    if tie is None or tie is False:
        return []
    if tie is True:
        return [(name,) for name in names]
    if isinstance(tie, (str, Quantity)):
        return [(tie,)]
    try:
        groups = [each if isinstance(each, tuple) else (each,) for each in tie]
    except TypeError:
        groups = [(None,)]
    for group in groups:
        if not group or not all(isinstance(name, (str, Quantity)) for name in group):
            raise InvalidArgumentError(
                "tie", tie, "must be a name, several names or tuples of names, or True"
            )
    return groups


def _tie_of(ties: list[tuple[Name, ...]], name: Name, place: Place) -> Hashable:
    """The group of names that a place belongs to, by the most specific name that fits it."""
    fitting = [(key, group) for group in ties for key in group if _means(key, name, place)]
    return max(fitting, key=lambda each: specificity(each[0]))[1] if fitting else None


def _refuse_single_ties(tie: Any, ties: list[tuple[Name, ...]], groups: Iterable[Hashable]) -> None:
    """Raises if a tie is the group of one place alone, so that it ties nothing.

    Raises:
        InvalidArgumentError: naming it. With True, none of the names has several places.
    """
    counts = Counter(groups)
    single = [group for group in ties if counts[group] < 2]
    if single and (tie is not True or len(single) == len(ties)):
        raise InvalidArgumentError(
            "tie",
            tie,
            f"must bring several places together, and {', '.join(map(str, single[0]))} means one; "
            f"give a pattern that fits them, or a tuple of names: "
            f"tie=[('hidden.beta', 'out.beta')]",
        )


def _refuse_unused_ties(ties: list[tuple[Name, ...]], places: Sequence[tuple[Name, Place]]) -> None:
    unused = [
        key
        for group in ties
        for key in group
        if not any(_means(key, name, place) for name, place in places)
    ]
    _refuse_unused("tie", unused, [place.path for _, place in places])


def _as_chains(names: Any) -> dict[Name, list[nn.Module] | None]:
    """The argument `names` as name -> parametrizations, None where the default is wanted."""
    chains = names if isinstance(names, Mapping) else {}
    found: dict[Name, list[nn.Module] | None] = {}
    for name in as_names(names):
        with placed(str(name)):
            found[name] = _as_chain(chains.get(name))
    return found


def _as_chain(chain: Any) -> list[nn.Module] | None:
    if chain is None:
        return None
    maps = list(chain) if isinstance(chain, (list, tuple)) else [chain]
    if not maps:
        raise ParametrizationError(
            f"got {chain!r}, an empty list of parametrizations. Give one, or None for the default."
        )
    for each in maps:
        _refuse_no_map(each)
    return maps


def _refuse_no_map(each: object) -> None:
    """Raises unless it is an instance of a parametrization."""
    if isinstance(each, type):
        raise ParametrizationError(
            f"{each.__name__} is a class; give an instance, {each.__name__}()."
        )
    if not isinstance(each, nn.Module) or not hasattr(each, "right_inverse"):
        raise ParametrizationError(
            f"a parametrization is a torch.nn.Module with forward and right_inverse, such as "
            f"ExpScaledLog(); got {describe(each)}."
        )
    if not isinstance(each, Parametrization):
        return
    if type(each) is Parametrization:
        raise ParametrizationError(
            f"{each!r} is the base of the maps, and maps nothing; give one of them, such as "
            f"ExpScaledLog()."
        )
    if getattr(each, "domain", None) is None:
        raise ParametrizationError(
            f"{each!r} states no domain; give its class an attribute `domain`, such as "
            f"torch.distributions.constraints.positive."
        )


def _per_place(argument: str, given: Any, places: Sequence[tuple[Name, Place]]) -> list[Any]:
    """What an argument says of each place: one for all, or by the most specific name that fits."""
    if not isinstance(given, Mapping):
        return [given] * len(places)
    fitting = [[key for key in given if _means(key, name, place)] for name, place in places]
    used = {key for keys in fitting for key in keys}
    unused = [key for key in given if key not in used]
    _refuse_unused(argument, unused, [place.path for _, place in places])
    return [given[max(keys, key=specificity)] if keys else None for keys in fitting]


def refuse_one_for_two_units(
    argument: str, given: object, places: Iterable[tuple[Name, Place]]
) -> None:
    """Raises if one number, or distribution, is for time constants in seconds and something else.

    Args:
        argument: what it is given as.
        given: what is given; a mapping says to which name it belongs.
        places: the values that it is for, each with its name.

    Raises:
        InvalidArgumentError: naming one of each.
    """
    if given is None or isinstance(given, Mapping):
        return
    seconds: Name | None = None
    other: tuple[Name, Place] | None = None
    for name, place in places:
        if isinstance(name, Quantity) and name.is_time_constant:
            seconds = name
        elif place.trains is None or place.trains.unit != "s":
            other = name, place
    if seconds is not None and other is not None:
        name, place = other
        unit = place.trains.unit or place.trains.meaning if place.trains else "as it is stored"
        raise InvalidArgumentError(
            argument,
            given,
            f"is one for {seconds!r}, in seconds, and {place.path!r}, in another unit ({unit}); "
            f"give each its own: {{{seconds!r}: ..., {name!r}: ...}}",
        )


def _means(key: object, name: Name, place: Place) -> bool:
    """Whether a key of a mapping speaks of a place that was named so."""
    return key == name or (isinstance(key, str) and matches(place.path, key))


def _refuse_unused(argument: str, unused: Iterable[object], available: list[str]) -> None:
    """Raises if an argument has keys that speak of nothing."""
    missing: dict[str, Sequence[str]] = {str(key): () for key in unused}
    if missing:
        problem = f"{argument} speaks of what `names` does not list"
        raise UnknownNameError(problem, missing, available)
