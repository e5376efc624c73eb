"""What happens at a step of an optimizer.

Kept values become too old, values that are inf or NaN raise, and values that optimizers leave out
are warned about. An optimizer that holds a Parameter which is gone is refused before its step.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from neuroparam._ground.errors import NonFiniteError, OptimizerError
from neuroparam._ground.messages import listing
from neuroparam._ground.real import as_real
from neuroparam._ground.torch_state import is_compiling
from neuroparam._value.once import note_optimizer_step
from neuroparam._value.parameter import NeuronParameter, alive, living

__all__ = [
    "allow_in_optimizers",
    "expect_in_optimizer",
    "refuse_in_optimizers",
    "refuse_not_finite",
]


class _Waiting:
    """A new value that no optimizer has been seen to hold yet.

    Attributes:
        module: the module given to `make_trainable`.
        steps: how many steps optimizers of the same module have made without it.
    """

    def __init__(self, module: nn.Module):
        self.module = weakref.ref(module)
        self.steps = 0


class _Plan(NamedTuple):
    """What an optimizer has to do with our values.

    Attributes:
        parameters: the ids of the Parameters that it holds.
        stamp: that of `alive` when the plan was made.
        held: the values whose raw Parameter it holds.
        left_out: the waiting values that it lacks, while it holds other Parameters of their
            module.
    """

    parameters: list[int]
    stamp: object
    held: list[weakref.ref[NeuronParameter]]
    left_out: list[weakref.ref[NeuronParameter]]


# Modules and optimizers compare by identity, so that they can be keys.
waiting: weakref.WeakKeyDictionary[NeuronParameter, _Waiting] = weakref.WeakKeyDictionary()
_plans: weakref.WeakKeyDictionary[Optimizer, _Plan] = weakref.WeakKeyDictionary()
# The Parameters that gave way to one of another shape, by their ids, and the path of each.
replaced: dict[int, tuple[weakref.ref[nn.Parameter], str]] = {}


def expect_in_optimizer(module: nn.Module, parameters: Iterable[NeuronParameter]) -> None:
    """Warns if optimizers train the rest of a module, time after time, without these.

    An optimizer that was built before `make_trainable` does not know what was a number then:
    the value gets gradients, and stays where it is.
    """
    for parameter in parameters:
        waiting[parameter] = _Waiting(module)
    alive.note_change()


def refuse_in_optimizers(old: nn.Parameter, path: str) -> None:
    """Refuses the steps of an optimizer that holds a Parameter which is gone.

    It has been replaced by one of another shape, and the optimizer's moments have the old one:
    given the new tensor, torch's fused kernels would write beyond their ends.
    """
    key = id(old)
    # Where no optimizer holds it, the entry goes with the last reference to the Parameter.
    replaced[key] = weakref.ref(old, lambda _: replaced.pop(key, None)), path


def allow_in_optimizers(parameter: nn.Parameter) -> None:
    """Undoes `refuse_in_optimizers`."""
    replaced.pop(id(parameter), None)


def refuse_not_finite(parameters: Iterable[NeuronParameter], when: str) -> None:
    """Raises where a raw value is inf or NaN.

    Args:
        parameters: where to look; sharded ones, of which each process has a part, are left out.
        when: what has just happened, for the message.

    Raises:
        NonFiniteError: naming each of them.
    """
    if lost := _not_finite(parameters):
        raise NonFiniteError(lost, when)


def _not_finite(parameters: Iterable[NeuronParameter]) -> dict[str, str]:
    """Path -> how many raw values are inf or NaN, where any are."""
    lost = {}
    for parameter in parameters:
        raw = parameter.raw.detach()
        if hasattr(raw, "device_mesh") or raw.is_meta:
            continue
        # A finite sum has finite summands, and takes a third of the time of looking at each.
        if math.isfinite(raw.sum().item()):
            continue
        finite = torch.isfinite(raw)
        if not bool(finite.all()):
            lost[parameter.path] = f"{int((~finite).sum())} of {raw.numel()}"
    return lost


def _before_step(optimizer: Optimizer, *_: object) -> None:
    if not replaced:
        return
    for key in _parameters_of(optimizer):
        if key in replaced:
            raise OptimizerError(type(optimizer).__name__).at(replaced[key][1])


def _after_step(optimizer: Optimizer, *_: object) -> None:
    note_optimizer_step()
    if is_compiling():
        return  # Compiled code can neither raise nor warn.
    plan = _plan_of(optimizer)
    if plan.held:
        # Check after the step: in the forward, every time step would pay for it. Check raw
        # values: a GradScaler may skip a step with bad gradients. On an accelerator a look would
        # wait for the device in each step.
        held = [p for p in living(plan.held) if p.raw.device.type == "cpu"]
        if lost := _not_finite(held):
            raise NonFiniteError(lost, f"after a step of {_with_rates(optimizer)}")
    if plan.left_out:
        _count_left_out(living(plan.left_out))


def _plan_of(optimizer: Optimizer) -> _Plan:
    """The plan of an optimizer, made anew when its Parameters, or our values, have changed."""
    parameters = _parameters_of(optimizer)
    stamp = alive.stamp
    plan = _plans.get(optimizer)
    if plan is None or plan.stamp is not stamp or plan.parameters != parameters:
        own = set(parameters)
        held = [weakref.ref(p) for p in alive.all() if id(p.raw) in own] if own else []
        plan = _plans[optimizer] = _Plan(parameters, stamp, held, _left_out(own))
    return plan


def _left_out(own: set[int]) -> list[weakref.ref[NeuronParameter]]:
    """The waiting values that an optimizer of these Parameters leaves out."""
    left_out = []
    trains: dict[nn.Module, bool] = {}
    # `keyrefs` copies the dictionary in one step, whatever other threads do meanwhile.
    for parameter in living(waiting.keyrefs()):
        entry = waiting.get(parameter)
        module = None if entry is None else entry.module()
        if module is None or id(parameter.raw) in own:
            waiting.pop(parameter, None)
            continue
        if module not in trains:
            trains[module] = any(id(p) in own for p in nn.Module.parameters(module))
        if trains[module]:
            left_out.append(weakref.ref(parameter))
    return left_out


def _count_left_out(parameters: list[NeuronParameter]) -> None:
    """Counts a step without values that got gradients, and warns after the second one."""
    late = []
    for parameter in parameters:
        entry = waiting.get(parameter)
        # Read `.grad` only here, and of no other network: another thread may be writing there.
        if entry is None or parameter.raw.grad is None:
            continue
        entry.steps += 1
        # An optimizer of their own may step right after the first one.
        if entry.steps > 1:
            late.append(parameter)
            waiting.pop(parameter, None)
    if late:
        warnings.warn(
            f"optimizers train other parameters of the network, and none has made a step with\n"
            f"{listing(parameter.path for parameter in late)}\nwhich got gradients and stay where "
            f"they are. Build the optimizer after make_trainable, or add them: "
            f"optimizer.add_param_group({{'params': neuron_parameters(net)}}).",
            stacklevel=4,
        )


def _parameters_of(optimizer: Optimizer) -> list[int]:
    return [id(p) for group in optimizer.param_groups for p in group["params"]]


def _with_rates(optimizer: Optimizer) -> str:
    """An optimizer and its learning rates for a message, as far as these are numbers."""
    given = (as_real(group.get("lr")) for group in optimizer.param_groups)
    rates = sorted({f"{rate:g}" for rate in given if rate is not None})
    name = type(optimizer).__name__
    return f"{name} with lr={' and '.join(rates)}" if rates else name


# The hooks stay for good. torch must not find its hooks changed while it calls them, whether this
# or another thread changes them.
register_optimizer_step_pre_hook(_before_step)
register_optimizer_step_post_hook(_after_step)
