"""Tables and short forms of values: text, HTML in a notebook, and rows of a DataFrame."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = ["Table", "frame_from", "frame_of", "in_html", "span"]

# The columns that are aligned to the right.
_RIGHT = {"min", "median", "max", "inside", "value", "time constant"}


def span(value: Tensor) -> str:
    """A value in a few characters: its only number, or the smallest and the largest."""
    if value.numel() == 0 or value.is_meta:
        return ""
    low, high = value.min().item(), value.max().item()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def in_html(text: str) -> str:
    """Text as a part of an HTML page."""
    import html  # It takes as long as a tenth of this library, and notebooks alone need it.

    return html.escape(text)


class Table(str):
    """A table: aligned text, which a notebook shows as HTML.

    Columns in which nothing stands are left out of the text.

    Args:
        header: the names of the columns.
        rows: the cells, row by row. Floating-point numbers are printed with four digits.
        nothing: what is printed where there are no rows; empty for the header alone.

    >>> table = Table(("name", "min"), [("tau", 2.0), ("beta", 0.51234)])
    >>> table
    name     min
    tau        2
    beta  0.5123
    """

    __slots__ = ("header", "nothing", "rows")
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    nothing: str

    def __new__(
        cls, header: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str = ""
    ) -> Table:
        text = _aligned(*_shown(header, rows)) if rows or not nothing else nothing
        table = super().__new__(cls, text)
        table.header, table.rows, table.nothing = header, rows, nothing
        return table

    def __getnewargs__(self) -> Any:
        return self.header, self.rows, self.nothing

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        if self.nothing and not self.rows:
            return f"<p>{in_html(self.nothing)}</p>"
        header, rows = _shown(self.header, self.rows)
        lines = [_html_row("th", header, header), *(_html_row("td", header, row) for row in rows)]
        return f"<table>{''.join(lines)}</table>"

    def to_frame(self) -> Any:
        """The table as a `pandas.DataFrame`, with the numbers as numbers.

        Raises:
            ImportError: pandas is not installed.
        """
        return frame_from(self.rows, self.header)


def frame_of(kind: Any, objects: Iterable[Mapping[str, Any]], *further: str) -> Any:
    """Objects of a dataclass as a `pandas.DataFrame`, with a column for each field.

    Args:
        kind: the dataclass.
        objects: the fields of each, by name, with the further columns.
        *further: the names of more columns.

    Raises:
        ImportError: pandas is not installed.
    """
    return frame_from(
        list(objects), [*(field.name for field in dataclasses.fields(kind)), *further]
    )


def frame_from(rows: Sequence[Any], columns: Sequence[str]) -> Any:
    """Rows as a `pandas.DataFrame`.

    Raises:
        ImportError: pandas is not installed.
    """
    pandas = importlib.import_module("pandas")  # It is asked for here only.
    return pandas.DataFrame(rows, columns=list(columns))


def _shown(
    header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[Sequence[str], list[list[str]]]:
    """The header and the cells as text, without the columns in which nothing stands."""
    cells = [[_cell(value) for value in row] for row in rows]
    kept = [n for n in range(len(header)) if not cells or any(row[n] for row in cells)]
    return [header[n] for n in kept], [[row[n] for n in kept] for row in cells]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _html_row(tag: str, header: Sequence[str], row: Sequence[str]) -> str:
    cells = (
        f"<{tag} style='text-align: {'right' if name in _RIGHT else 'left'}'>"
        f"{in_html(cell)}</{tag}>"
        for name, cell in zip(header, row, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"
