"""What happens at a step of an optimizer.

Kept values become too old, values that are inf or NaN raise, and values that optimizers leave out
are warned about. An optimizer that holds a Parameter which is gone is refused before its step.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from neuroparam._ground.errors import NoGradientWarning, NonFiniteError, OptimizerError
from neuroparam._ground.messages import listing, warn
from neuroparam._ground.real import as_real
from neuroparam._ground.torch_state import is_compiling, put_first
from neuroparam._value.evidence import accumulated, judge
from neuroparam._value.network import paths_in_networks
from neuroparam._value.once import note_optimizer_step
from neuroparam._value.parameter import NeuronParameter, alive, living

__all__ = ["allow_in_optimizers", "refuse_in_optimizers", "refuse_not_finite"]

_KEY = "_neuroparam"


class _Plan(NamedTuple):
    """What an optimizer has to do with our values.

    Attributes:
        parameters: the ids of the Parameters that it holds.
        stamp: that of `alive` when the plan was made.
        held: the values whose raw Parameter it holds.
        together: raw Parameters of them that are looked at together, in groups.
        alone: the other values.
    """

    parameters: list[int]
    stamp: object
    held: list[weakref.ref[NeuronParameter]]
    together: list[list[Tensor]]
    alone: list[weakref.ref[NeuronParameter]]


# Optimizers compare by identity, so that they can be keys.
_plans: weakref.WeakKeyDictionary[Optimizer, _Plan] = weakref.WeakKeyDictionary()
# The Parameters that gave way to one of another shape, by their ids, and the value of each.
replaced: dict[int, tuple[weakref.ref[nn.Parameter], weakref.ref[NeuronParameter]]] = {}
# Raw tensors of at most so many numbers are looked at together, and so many of them.
_SMALL, _TOGETHER = 1000, 64
# How many steps of optimizers may leave out a value that gets gradients.
_LEFT_OUT = 10


def refuse_in_optimizers(old: nn.Parameter, value: NeuronParameter) -> None:
    """Refuses the steps of an optimizer that holds a Parameter which is gone.

    It has been replaced by one of another shape, and the optimizer's moments have the old one:
    given the new tensor, torch's fused kernels would write beyond their ends.
    """
    key = id(old)
    # Where no optimizer holds it, the entry goes with the last reference to the Parameter.
    gone = weakref.ref(old, lambda _: replaced.pop(key, None))
    replaced[key] = gone, weakref.ref(value)


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
    lost: list[tuple[NeuronParameter, str]] = []
    for parameter in _suspects(parameters):
        raw = parameter.raw.detach()
        finite = torch.isfinite(raw)
        if not bool(finite.all()):
            lost.append((parameter, f"{int((~finite).sum())} of {raw.numel()}"))
    paths = paths_in_networks([parameter for parameter, _ in lost]) if lost else []
    return {path: count for path, (_, count) in zip(paths, lost, strict=True)}


def _suspects(parameters: Iterable[NeuronParameter]) -> list[NeuronParameter]:
    """The values whose raw tensors may hold inf or NaN.

    A finite sum has finite summands, and takes a third of the time of looking at each.
    """
    found = []
    for parameter in parameters:
        raw = parameter.raw
        if not hasattr(raw, "device_mesh") and not raw.is_meta and not _has_finite_sum(raw):
            found.append(parameter)
    return found


def _has_finite_sum(numbers: Tensor) -> bool:
    return math.isfinite(numbers.detach().sum().item())


def _seem_finite(plan: _Plan) -> bool:
    """Whether no raw tensor on the CPU can hold inf or NaN.

    One sum over many small tensors takes a tenth of the time of a sum for each.
    """
    try:
        with torch.no_grad():
            for group in plan.together:
                numbers = torch.cat(group) if group[1:] else group[0]
                if numbers.is_cpu and not _has_finite_sum(numbers):
                    return False
    except RuntimeError:  # They have been moved to several devices since the plan was made.
        return False
    return not _suspects(p for p in living(plan.alone) if p.raw.is_cpu)


def _before_step(optimizer: Optimizer, *_: object) -> None:
    if is_compiling():
        return
    plan = _plan_of(optimizer)
    if replaced:
        for key in plan.parameters:
            if key in replaced:
                error = OptimizerError(type(optimizer).__name__)
                value = replaced[key][1]()
                raise error if value is None else error.at(value.path_in_network())
    hooks: dict[Any, Any] = optimizer._optimizer_step_post_hooks
    if plan.held and _KEY not in hooks:
        put_first(hooks, _KEY, _after_own_step)  # A hook of the user's may raise.


def _after_own_step(optimizer: Optimizer, *_: object) -> None:
    """Looks at what a step has done to the values that the optimizer holds."""
    if is_compiling():
        return  # Compiled code can neither raise nor warn.
    note_optimizer_step()  # If this raises below, `_after_step` does not run.
    plan = _plans.get(optimizer)
    held = [] if plan is None else living(plan.held)
    for parameter in held:
        parameter.evidence.is_held_again()
    # Check after the step: in the forward, every time step would pay for it. Check raw values: a
    # GradScaler may skip a step with bad gradients. On an accelerator a look would wait for the
    # device in each step.
    if plan is None or _seem_finite(plan):
        lost = {}
    else:
        lost = _not_finite(p for p in held if p.raw.is_cpu)
    if lost:
        raise NonFiniteError(lost, f"after a step of {_with_rates(optimizer)}")
    if unproven := [parameter for parameter in held if not parameter.evidence.proven]:
        judge(unproven, functools.partial(_others_train, optimizer, unproven))


def _after_step(optimizer: Optimizer, *_: object) -> None:
    note_optimizer_step()
    if accumulated and not is_compiling():
        _count_left_out()


def _others_train(optimizer: Optimizer, unproven: list[NeuronParameter]) -> bool:
    """Whether any Parameter of an optimizer has a gradient, without those of some values."""
    ours = {id(parameter.raw) for parameter in unproven}
    everything = (p for group in optimizer.param_groups for p in group["params"])
    return any(p.grad is not None for p in everything if id(p) not in ours)


def _plan_of(optimizer: Optimizer) -> _Plan:
    """The plan of an optimizer, made anew when its Parameters, or our values, have changed."""
    parameters = _parameters_of(optimizer)
    stamp = alive.stamp
    plan = _plans.get(optimizer)
    if plan is None or plan.stamp is not stamp or plan.parameters != parameters:
        own = set(parameters)
        held = [p for p in alive.all() if id(p.raw) in own] if own else []
        small: list[Tensor] = [p.raw for p in held if _is_small(p.raw)]
        plan = _plans[optimizer] = _Plan(
            parameters,
            stamp,
            held=[weakref.ref(p) for p in held],
            together=[small[i : i + _TOGETHER] for i in range(0, len(small), _TOGETHER)],
            alone=[weakref.ref(p) for p in held if not _is_small(p.raw)],
        )
    return plan


def _is_small(raw: Tensor) -> bool:
    """Whether a raw tensor is looked at together with others."""
    plain = type(raw) is nn.Parameter and raw.is_cpu
    return plain and raw.dim() == 1 and raw.numel() <= _SMALL


def _count_left_out() -> None:
    """Counts a step without the values that got gradients before it, and warns after the tenth.

    Not after the first: each part of a network may have an optimizer of its own, and they may
    take turns.
    """
    late = []
    for evidence in list(accumulated):
        evidence.accumulated = False
        evidence.left_out += 1
        if evidence.left_out >= _LEFT_OUT and evidence.value is not None:
            if evidence.is_news("left out"):
                late.append(evidence.value)
    accumulated.clear()
    if late:
        warn(
            f"optimizers have made {_LEFT_OUT} steps, and none of them holds\n"
            f"{listing(paths_in_networks(late))}\nwhich got gradients and stay where they are. "
            f"Build the optimizer after make_trainable, and of the network that trains, which may "
            f"be a copy; or add them: optimizer.add_param_group({{'params': "
            f"neuron_parameters(net)}}). Freeze what is not to be trained.",
            NoGradientWarning,
        )


def _parameters_of(optimizer: Optimizer) -> list[int]:
    # Some classes of wrappers are optimizers by name only.
    groups = getattr(optimizer, "param_groups", ())
    return [id(p) for group in groups for p in group["params"]]


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
