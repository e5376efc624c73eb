"""Recorder: the values of a network over the time of its training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._catalogue.quantities import Quantity
from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._looking.text import frame_from
from neuroparam._looking.values import values
from neuroparam._value.with_units import Values

__all__ = ["Recorder"]


class Recorder:
    """Keeps the values of a network, for pictures, tables and loggers.

    Args:
        module: a network with attached values.
        quantity: only the values of this quantity, in its unit; None: all, as they are stored.
        dt: the time step in seconds, where `values` needs it.

    Attributes:
        steps: the step of each record.
        units: path -> unit, where one is known.
        counts: whether the steps are those that `record` counts itself.

    Raises:
        InvalidArgumentError: there is nothing to record.
        TimeStepError: as `values`.

    Examples:
        >>> import torch
        >>> from neuroparam import Recorder, make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> recorder = Recorder(make_trainable(module, "tau", shape=(2,)))
        >>> for epoch in range(3):  # and train in between
        ...     recorder.record(epoch)
        {'tau': tensor([20., 20.])}
        {'tau': tensor([20., 20.])}
        {'tau': tensor([20., 20.])}
        >>> recorder.history["tau"].shape
        torch.Size([3, 2])
        >>> recorder.scalars()
        {'tau/min': 20.0, 'tau/median': 20.0, 'tau/max': 20.0}
    """

    def __init__(
        self, module: nn.Module, quantity: Quantity | None = None, *, dt: float | None = None
    ):
        self._module = module
        self._arguments = quantity, dt
        self._records: list[Values] = []
        self.steps: list[float] = []
        self.counts: bool = True
        found = values(module, quantity, dt=dt)
        if not found:
            what = "attached value" if quantity is None else f"{quantity.value} that trains"
            raise InvalidArgumentError(
                "module",
                module,
                f"must have a value to record; the catalogue knows no {what} in it",
            )
        self.units: dict[str, str] = found.units

    def record(self, step: float | None = None) -> Values:
        """Keeps the present values.

        Args:
            step: the step or epoch; None counts the records from 0 on.

        Returns:
            The values.
        """
        quantity, dt = self._arguments
        found = values(self._module, quantity, dt=dt)
        self.counts = self.counts and step is None
        self.steps.append(len(self.steps) if step is None else step)
        self._records.append(found)
        return found

    @property
    def history(self) -> dict[str, Tensor]:
        """Path -> all records of a value, of shape (records, *shape of the value), on the CPU."""
        paths = self._records[-1] if self._records else ()
        return {path: torch.stack([each[path].cpu() for each in self._records]) for path in paths}

    def scalars(self) -> dict[str, float]:
        """The smallest, median and largest number of each value in the last record.

        Time constants are in ms, and their names end so. This is what `log_dict` of a
        LightningModule, or `wandb.log`, takes.
        """
        found = {}
        for path, value in (self._records[-1] if self._records else {}).items():
            unit, factor = self._shown_in(path)
            for name, number in (
                ("min", value.min()),
                ("median", value.median()),
                ("max", value.max()),
            ):
                found[f"{path}/{name}{unit}"] = number.item() * factor
        return found

    def _shown_in(self, path: str) -> tuple[str, float]:
        """The end of the name of a logged value, and its factor: time constants are in ms."""
        return (" (ms)", 1e3) if self.units.get(path) == "s" else ("", 1.0)

    def write(self, writer: Any, step: int | None = None) -> None:
        """Writes the last record to a TensorBoard writer: a histogram of each value, and scalars.

        Args:
            writer: a `torch.utils.tensorboard.SummaryWriter`, or anything with its methods
                `add_histogram` and `add_scalar`.
            step: the global step; None: that of the record.
        """
        if not self._records:
            return
        at = self.steps[-1] if step is None else step
        for path, value in self._records[-1].items():
            unit, factor = self._shown_in(path)
            writer.add_histogram(f"{path}{unit}", value.cpu() * factor, at)
        for name, number in self.scalars().items():
            writer.add_scalar(name, number, at)

    def to_frame(self) -> Any:
        """All records as a `pandas.DataFrame`: step, name, entry, value and unit of each number.

        Raises:
            ImportError: pandas is not installed.
        """
        rows = [
            (step, path, entry, number, self.units.get(path, ""))
            for step, record in zip(self.steps, self._records, strict=True)
            for path, value in record.items()
            for entry, number in enumerate(value.flatten().tolist())
        ]
        return frame_from(rows, ("step", "name", "entry", "value", "unit"))
