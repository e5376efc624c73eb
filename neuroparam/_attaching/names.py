"""Names: dotted paths, their ends, patterns and quantities, and which of them says more."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.errors import InvalidArgumentError

__all__ = ["Name", "as_names", "is_pattern", "matches", "specificity"]

Name: TypeAlias = "str | Quantity"
"""A dotted path, the end of one, a pattern (`"*.beta"`), or a `Quantity`."""

_WILD = re.compile(r"\*|\?|\[[^]]*\]")


def is_pattern(name: str) -> bool:
    """Whether a name has wildcards, as in the shell: `*`, `?` or `[...]`.

    >>> is_pattern("lif*.p.tau_mem_inv"), is_pattern("lif.p.tau_mem_inv")
    (True, False)
    """
    return _WILD.search(name) is not None


def matches(path: str, name: str) -> bool:
    """Whether a name or pattern fits a dotted path, or its end from a dot on.

    >>> matches("lif1.p.tau_mem_inv", "tau_mem_inv"), matches("lif1.p.tau_mem_inv", "lif?.p.*")
    (True, True)
    >>> matches("lif1.p.tau_mem_inv", "mem_inv")
    False
    """
    if not is_pattern(name):
        return path == name or path.endswith(f".{name}")
    return fnmatchcase(path, name) or fnmatchcase(path, f"*.{name}")


def specificity(name: Name) -> tuple[int, int]:
    """Sorts names by how much they say: a plain name most, then patterns by their letters.

    >>> sorted(["lif1.p.v_th", "*.p.v_th", Quantity.THRESHOLD, "*"], key=specificity)
    [Quantity.THRESHOLD, '*', '*.p.v_th', 'lif1.p.v_th']
    """
    if isinstance(name, Quantity):
        return 0, 0
    return 1 if is_pattern(name) else 2, len(_WILD.sub("", name))


def as_names(names: Any) -> list[Name]:
    """An argument `names` as a list of names, each once.

    Raises:
        InvalidArgumentError: it is no name, no iterable of names, or empty.
    """
    if isinstance(names, (str, Quantity)):
        return [names]
    try:
        given: list[Any] = [names] if isinstance(names, (bytes, bytearray)) else list(names)
    except TypeError:
        raise _invalid(names, "this is none of these") from None
    if not given:
        raise _invalid(names, "there is no name in it")
    for name in given:
        if not isinstance(name, (str, Quantity)):
            raise _invalid(name, "a name is a string or a Quantity")
    return list(dict.fromkeys(given))


def _invalid(given: object, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        "names",
        given,
        f"must be a name, several names, or a mapping name -> parametrization: {problem}",
    )
