"""Tables and short forms of values, as text."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["span", "table"]

# The columns that are aligned to the right.
_RIGHT = {"min", "median", "max", "inside", "value", "time constant"}


def span(value: Tensor) -> str:
    """A value in a few characters: its only number, or the smallest and the largest."""
    if value.numel() == 0 or value.is_meta:
        return ""
    low, high = value.min().item(), value.max().item()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned text, without the columns in which nothing stands."""
    kept = [n for n in range(len(header)) if not rows or any(row[n] for row in rows)]
    lines = [[line[n] for n in kept] for line in (header, *rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(kept))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
