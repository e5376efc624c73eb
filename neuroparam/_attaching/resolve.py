"""Names to places: which stored values a name means, for attaching and for fixing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from numbers import Integral

from torch import Tensor, nn

from neuroparam._attaching.elsewhere import refuse_if_elsewhere
from neuroparam._attaching.names import Name, as_names, is_pattern, matches, specificity
from neuroparam._attaching.refusals import refuse_if_present, refuse_if_unfit, why_unfit
from neuroparam._attaching.survey import each_once, is_candidate, is_mapped, is_own, survey
from neuroparam._catalogue.entries import Refused
from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.errors import (
    AmbiguousNameError,
    NotTrainableError,
    UnknownNameError,
    placed,
)
from neuroparam._value.injected import own_class
from neuroparam._value.place import Place, attached
from neuroparam._value.storage import Kind

__all__ = ["attached_places", "claimed_places", "places_to_attach"]

# What people call a quantity whose library stores something else.
_WORDS = {
    Quantity.TAU_SYN: r"tau_?(syn|s$)",
    Quantity.TAU_MEM: r"tau(_?m(em)?)?(_inv)?$",
}
_NO_QUANTITY = (
    "it stores no {} that could be; values of modules that the catalogue does not know are named "
    "by their paths"
)
_NONE_ATTACHED = "none of its attached values is a {}; make_trainable attaches one"


def places_to_attach(
    module: nn.Module,
    names: Iterable[Name],
    tie_of: Callable[[Name, Place], object] = lambda name, place: None,
) -> list[tuple[Name, Place]]:
    """The places that the names mean, each with the name that counts for it.

    Args:
        module: where to search.
        names: each a dotted path, the end of one that fits a single place, a pattern, which
            may fit many, or a quantity, which fits all places that store it. Where several fit
            one place, the most specific one counts.
        tie_of: what the places that are to share one trainable value have in common; None for a
            place with one of its own.

    Raises:
        UnknownNameError: some names match nothing (all of them are listed).
        AmbiguousNameError: a short name fits several places, or several names fit one place
            equally well.
        NotTrainableError: a name means something that cannot be trained, that is parametrized
            already, or that is a Parameter which other places hold too.
    """
    places = list(survey(module))

    def explain(name: str) -> None:
        # An attribute of that very name counts before a longer path that ends in it.
        refuse_if_present(module, name, places)

    def search(name: str) -> None:
        refuse_if_elsewhere(module, name)

    problem = f"{own_class(module).__name__} has no value named"
    if not places:
        problem = (
            f"{own_class(module).__name__} stores no number and no tensor (if it makes its parts "
            f"in its first forward, run it once before), and has no value named"
        )
    claims = _resolve(places, names, problem, _offered, explain, search)
    chosen = [(_most_specific(claimed, place), place) for place, claimed in claims]
    holders: dict[int, dict[tuple[int, str, tuple[str, ...]], str]] = {}
    for place in reversed(places):
        if place.kind is Kind.PARAMETER:
            holders.setdefault(id(place.value), {})[place.identity] = place.path
    ties = {place.identity: tie_of(name, place) for name, place in chosen}
    for _, place in chosen:
        with placed(place.path):
            refuse_if_unfit(place)
            held = holders.get(id(place.value), {})
            tie = ties[place.identity]
            if tie is None or any(ties.get(holder) != tie for holder in held):
                _refuse_if_tied(sorted(held.values()))
    return chosen


def attached_places(module: nn.Module, names: Name | Iterable[Name] | None) -> list[Place]:
    """The attached values that the names mean, in the order in which they were found.

    Args:
        module: where to search.
        names: as for `places_to_attach`, or one name; None means all values.

    Raises:
        UnknownNameError: some names mean no attached value.
        AmbiguousNameError: a short name fits several attached values.
        InvalidArgumentError: `names` is none of these.
    """
    if names is None:
        return list(attached(module))
    return [place for _, place in claimed_places(module, names)]


def claimed_places(module: nn.Module, names: Name | Iterable[Name]) -> list[tuple[Name, Place]]:
    """The attached values that the names mean, each with the name that counts for it.

    Args:
        module: where to look.
        names: as for `places_to_attach`, or one name.

    Raises:
        UnknownNameError, AmbiguousNameError, InvalidArgumentError: as `attached_places`.
    """
    # A module in two places of a network has its values under two paths.
    places = list(attached(module, every_path=True))
    problem = f"{own_class(module).__name__} has no trainable value named"
    claims = _resolve(places, as_names(names), problem, each_once, no_quantity=_NONE_ATTACHED)
    chosen = {place.identity: claimed for place, claimed in claims}
    return [
        (max(chosen[place.identity], key=specificity), place)
        for place in attached(module)
        if place.identity in chosen
    ]


def _resolve(
    places: list[Place],
    names: Iterable[Name],
    problem: str,
    offered: Callable[[list[Place]], list[Place]],
    explain: Callable[[str], None] = lambda name: None,
    search: Callable[[str], None] = lambda name: None,
    no_quantity: str = _NO_QUANTITY,
) -> list[tuple[Place, list[Name]]]:
    """The places that any of the names mean, each with these names.

    Args:
        places: what can be meant, in the order of their paths.
        names: what the user gave.
        problem: how the message about names that mean nothing begins.
        offered: which of the places that message suggests.
        explain: raises where a name that is no path means something else.
        search: raises where a name that means no place means something elsewhere.
        no_quantity: what is said where a quantity means nothing.
    """
    by_path = {place.path: place for place in places}
    claims: dict[object, tuple[Place, list[Name]]] = {}
    missing: list[Name] = []
    for name in names:
        if isinstance(name, Quantity):
            found = each_once(place for place in places if place.quantity is name)
        elif name in by_path:
            found = [by_path[name]]
        else:
            if not is_pattern(name):
                explain(name)
            found = each_once(place for place in places if matches(place.path, name))
            if len(found) > 1 and not is_pattern(name):
                raise AmbiguousNameError(name, sorted(place.path for place in found))
        if not found:
            if isinstance(name, str):
                search(name)
            missing.append(name)
        for place in found:
            claims.setdefault(place.identity, (place, []))[1].append(name)
    if missing:
        near = {str(n): _near(n, places) if isinstance(n, str) else [] for n in missing}
        quantities = [name for name in missing if isinstance(name, Quantity)]
        if quantities and len(quantities) == len(missing):
            problem = f"{problem} ({no_quantity.format(quantities[0].value)})"
        raise UnknownNameError(problem, near, [place.path for place in offered(places)])
    return list(claims.values())


def _most_specific(names: list[Name], place: Place) -> Name:
    best = max(map(specificity, names))
    # Of two plain names neither counts more, whatever their length.
    chosen = [name for name in names if specificity(name) == best or _is_plain(name)]
    if len(chosen) > 1:
        raise AmbiguousNameError(
            place.path, [str(name) for name in chosen], "is named more than once; name it by one of"
        )
    return chosen[0]


def _is_plain(name: Name) -> bool:
    return isinstance(name, str) and not is_pattern(name)


def _refuse_if_tied(paths: list[str]) -> None:
    if len(paths) > 1:
        raise NotTrainableError(
            f"it is one Parameter held in {len(paths)} places: {', '.join(paths)}, and a "
            f"parametrization on one of them would leave the others reading its raw value",
            "Name all of them and let them share one value (make_trainable(..., tie=...)), use "
            "one neuron module in both places, give each its own Parameter "
            "(nn.Parameter(tied.detach().clone())), or delete the one that is not needed.",
            paths,
        )


def _near(name: str, places: list[Place]) -> list[str]:
    """Paths that are spelt much like a name, and quantities that are meant by it."""
    if meant := _meant(name, places):
        return meant
    places = [place for place in places if not isinstance(place.row, Refused)]
    ends = {p.path: p.path for p in reversed(places)} | {p.field: p.path for p in reversed(places)}
    near = difflib.get_close_matches(name, ends, n=3)
    near += difflib.get_close_matches(name.rpartition(".")[2], ends, n=3)
    return list(dict.fromkeys(ends[match] for match in near))[:3]


def _meant(name: str, places: list[Place]) -> list[str]:
    """A quantity that a name means, and where the first value of it is; nothing if it is none."""
    last = name.rpartition(".")[2].lower()
    for quantity in Quantity:
        is_its_name = last == quantity.name.lower()
        is_like_it = quantity in _WORDS and re.match(_WORDS[quantity], last) is not None
        stored = [place.path for place in places if place.quantity is quantity]
        if stored and (is_its_name or is_like_it):
            return [f"Quantity.{quantity.name}, stored as {stored[0]!r}"]
    return []


def _offered(places: list[Place]) -> list[Place]:
    """What is worth suggesting: values of neurons first, large weights last, no sizes."""
    named = [
        place
        for place in places
        if not (isinstance(place.value, Integral) or place.attribute.startswith("_"))
        and why_unfit(place) is None
        and not is_mapped(place)
    ]

    def last(place: Place) -> tuple[bool, bool]:
        is_matrix = isinstance(place.value, Tensor) and place.value.ndim > 1
        return not is_candidate(place), is_matrix

    # The weights of torch's own layers are offered only where there is nothing else.
    own = [place for place in named if is_own(place)]
    return sorted(own or named, key=last)
