"""Values by their paths, which know their units."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from neuroparam._catalogue.quantities import Quantity

__all__ = ["Values"]


class Values(dict[str, Tensor]):
    """Path -> value: a dictionary that also says in which unit each value is.

    Args:
        items: path, value and unit of each; the unit is None where nothing is known of it, and
            empty where a value has none.
        quantity: the physical quantity that all of them are, in its unit; None where each is as
            its module stores it.
    """

    def __init__(
        self, items: Iterable[tuple[str, Tensor, str | None]] = (), quantity: Quantity | None = None
    ):
        known = list(items)
        super().__init__((path, value) for path, value, _ in known)
        self.units: dict[str, str] = {path: unit for path, _, unit in known if unit is not None}
        self.quantity = quantity
