"""stork: time constants in seconds, from which decays are computed when a model is configured."""

from __future__ import annotations

from torch import nn

from neuroparam._catalogue.common import between_zero_and_one, states
from neuroparam._catalogue.entries import Library, Refused, Trains
from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.units import Decay

__all__ = ["STORK"]


def _step(group: nn.Module) -> float | None:
    step = getattr(group, "time_step", None)
    return float(step) if step else None


def _is_not_configured(group: nn.Module) -> bool:
    return not hasattr(group, "dcy_mem")


def _learns_time_scales(group: nn.Module) -> bool:
    return bool(getattr(group, "learn_timescales", False))


_QUANTITIES = {"mem": Quantity.TAU_MEM, "syn": Quantity.TAU_SYN}
_LEARNS = "with learn_timescales=True the group trains it already, as 2 * tau * sigmoid(parameter)"

STORK = Library(
    package="stork",
    time_step=_step,
    rows=(
        *(
            Refused(
                field=f"{what}_{part}",
                reason=_LEARNS,
                instead=(
                    f"Train {part}_param as it is, or build the group with "
                    f"learn_timescales=False and name dcy_{part}."
                ),
                quantity=quantity if what == "tau" else None,
                only_if=_learns_time_scales,
            )
            for part, quantity in _QUANTITIES.items()
            for what in ("tau", "dcy", "scl")
        ),
        *(
            Refused(
                field=f"{part}_param",
                reason="it is unconstrained already: stork reads 2 * tau * sigmoid(parameter)",
                instead="Train it as it is.",
            )
            for part in _QUANTITIES
        ),
        *(
            Refused(
                field=f"tau_{part}",
                reason="stork computes a decay from it as a plain number when it is configured",
                instead=f"Call model.configure(...) first, and name dcy_{part} then.",
                quantity=quantity,
                only_if=_is_not_configured,
            )
            for part, quantity in _QUANTITIES.items()
        ),
        Refused(
            field="tau_*",
            reason="stork computes a decay from it as a plain number when it is configured",
            instead="Name that decay, dcy_...: it is read in each step.",
        ),
        Refused(
            field="time_step",
            reason="it is the time step of the simulation",
            instead="Name a decay, dcy_...",
        ),
        *states("mem", "syn", "out", "input"),
        *(
            Trains(
                field=f"dcy_{part}",
                meaning=f"{meaning} decay per step",
                default=between_zero_and_one,
                quantity=quantity,
                stored_as=Decay,
            )
            for (part, quantity), meaning in zip(
                _QUANTITIES.items(), ("membrane", "synaptic"), strict=True
            )
        ),
        Trains(field="dcy_*", meaning="decay per step", default=between_zero_and_one),
    ),
)
