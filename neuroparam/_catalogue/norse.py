"""Norse: forward-Euler cells that store rates (1/s) and thresholds in a record `p`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from neuroparam._catalogue.common import own_step, positive, thresholds
from neuroparam._catalogue.entries import Adapted, Library, Refused, Trains, plain_class
from neuroparam._catalogue.quantities import Quantity
from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.units import Rate

__all__ = ["NORSE", "keep_without_autapses"]


def _below_one_per_step(neuron: nn.Module) -> Parametrization | None:
    # An Euler step is v += dt * rate * (...). Beyond rate = 1 / dt the membrane overshoots its
    # target, and beyond 2 / dt it diverges, so that positive rates are not valid enough.
    dt = own_step(neuron)
    return BoundedSigmoid(0.0, 1.0 / dt) if dt else None


class _Recurrent:
    """What attached recurrent modules of Norse do differently."""

    def __setstate__(self: Any, state: dict[str, Any]) -> None:
        plain_class(self).__setstate__(self, state)
        keep_without_autapses(self)


class _LSNN:
    """What attached LSNN modules do differently.

    Their threshold is a state `b`, which begins at v_th and hardly moves. Norse detaches v_th
    there, which leaves it nearly no gradient.
    """

    @property
    def state_fallback(self: Any) -> Any:
        made: Any = self.__dict__["state_fallback"]

        def first_state(x: Tensor) -> Any:
            state, v_th = made(x), self.p.v_th
            # The difference is zero, and has the gradient of v_th.
            return state._replace(b=state.b + (v_th - v_th.detach()).to(state.b))

        return first_state

    @state_fallback.setter
    def state_fallback(self: Any, made: Any) -> None:
        self.__dict__["state_fallback"] = made


class _RecurrentLSNN:
    __setstate__ = _Recurrent.__setstate__
    state_fallback = _LSNN.state_fallback


def keep_without_autapses(layer: Any) -> None:
    """Sets the hook on recurrent weights by which Norse keeps a neuron from exciting itself.

    torch copies and pickles no hooks.

    Args:
        layer: a recurrent layer or cell of Norse, which was just copied or unpickled.
    """
    weights = layer.recurrent_weights
    if not layer.autapses and isinstance(weights, nn.Parameter) and not weights._backward_hooks:
        trains = weights.requires_grad
        weights.requires_grad_(True).register_hook(_without_autapses)
        weights.requires_grad_(trains)


def _without_autapses(gradient: Tensor) -> Tensor:
    return gradient.clone().fill_diagonal_(0.0)


NORSE = Library(
    package="norse",
    time_step=own_step,
    adapted=(
        Adapted(modules=("LSNNRecurrent*",), members=_RecurrentLSNN),
        Adapted(modules=("LSNN*",), members=_LSNN),
        Adapted(modules=("SNNRecurrentCell", "SNNRecurrent"), members=_Recurrent),
    ),
    rows=(
        Refused(
            field="dt",
            reason="it is the time step of the simulation",
            instead="Name a rate, such as tau_mem_inv.",
        ),
        # Norse's CobaLIF has rates in about 1/ms beside a dt in s, so that no unit fits both.
        Trains(
            field="tau_*_inv",
            meaning="rate",
            unit="as stored",
            default=_below_one_per_step,
            modules=("CobaLIF*",),
        ),
        *(
            Trains(
                field=field,
                meaning=meaning,
                unit="1/s",
                default=_below_one_per_step,
                quantity=quantity,
                stored_as=Rate,
                euler=True,
            )
            for field, meaning, quantity in (
                ("tau_mem_inv", "membrane rate", Quantity.TAU_MEM),
                ("tau_syn_inv", "synaptic rate", Quantity.TAU_SYN),
            )
        ),
        Trains(field="tau_*_inv", meaning="rate", unit="1/s", default=_below_one_per_step),
        thresholds("v_th*"),
        Trains(
            field="delta_T",
            meaning="steepness of the exponential",
            unit="voltage",
            default=positive,
            modules=("LIF*Ex*",),
        ),
        Trains(
            field="beta",
            meaning="adaptation of the threshold",
            unit="voltage",
            default=positive,
            modules=("LSNN*",),
        ),
    ),
)
