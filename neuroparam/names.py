"""Names and patterns of dotted paths. Knows strings only."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

__all__ = ["is_pattern", "matches", "specificity"]

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


def specificity(name: str) -> tuple[bool, int]:
    """Sorts names by how much they say: a plain name most, then patterns by their letters.

    >>> sorted(["lif1.p.v_th", "*.p.v_th", "*"], key=specificity)
    ['*', '*.p.v_th', 'lif1.p.v_th']
    """
    return not is_pattern(name), len(_WILD.sub("", name))
