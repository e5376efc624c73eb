"""Optimizers that were built too early: they hold a tensor that is gone, or lack a new one."""

from __future__ import annotations

import warnings
import weakref

from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from neuroparam.attachment import NeuronParameter
from neuroparam.errors import OptimizerError, listing

__all__ = ["expect_in_optimizer", "refuse_in_optimizers"]


class _Expected:
    """A new parameter that no optimizer has been seen to hold yet."""

    def __init__(self, module: nn.Module):
        self.module = weakref.ref(module)
        # steps made by optimizers of the same module that left it out
        self.left_out = 0


# modules compare by identity, which tensors do not
_expected: weakref.WeakKeyDictionary[NeuronParameter, _Expected] = weakref.WeakKeyDictionary()
# the Parameters that gave way to one of another shape, by id: themselves, and the path
_replaced: dict[int, tuple[weakref.ref[nn.Parameter], str]] = {}


def expect_in_optimizer(module: nn.Module, parameters: list[NeuronParameter]) -> None:
    """Warns if optimizers train the rest of a module, time after time, without these.

    An optimizer that was built before `make_trainable` does not know what was a number then:
    the value gets gradients, and stays where it is.
    """
    for parameter in parameters:
        _expected[parameter] = _Expected(module)


def _after_step(optimizer: Optimizer, *_: object) -> None:
    if not _expected:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    forgotten: dict[NeuronParameter, _Expected] = {}
    for reference in _expected.keyrefs():  # all at once, whatever other threads do meanwhile
        parameter = reference()
        expected = None if parameter is None else _expected.get(parameter)
        if parameter is None or expected is None:
            continue
        module = expected.module()
        if module is None or id(parameter.raw) in held:
            _expected.pop(parameter, None)  # another thread may have been here
        elif any(id(p) in held for p in nn.Module.parameters(module)):
            # only now: of another network, a backward pass in another thread may just be setting
            # it, and it lets Python run meanwhile
            if parameter.raw.grad is not None:
                forgotten[parameter] = expected
    for expected in forgotten.values():
        expected.left_out += 1
    # not at the first one: the values may have an optimizer of their own, which steps next
    late = [parameter for parameter, expected in forgotten.items() if expected.left_out > 1]
    for parameter in late:
        _expected.pop(parameter, None)
    if late:
        warnings.warn(
            f"optimizers train other parameters of the network, and none has made a step with\n"
            f"{listing(parameter.path for parameter in late)}\nwhich got gradients and stay where "
            f"they are. Build the optimizer after make_trainable, or add them: "
            f"optimizer.add_param_group({{'params': neuron_parameters(net)}}).",
            stacklevel=3,
        )


def refuse_in_optimizers(old: nn.Parameter, path: str) -> None:
    """Refuses the steps of an optimizer that holds a Parameter which is gone.

    It has been replaced by one of another shape, and the optimizer's moments have the old one:
    given the new tensor, torch's fused kernels would write beyond their ends.
    """
    key = id(old)
    # if nobody holds it, it goes with the last reference of the caller
    _replaced[key] = weakref.ref(old, lambda _: _replaced.pop(key, None)), path


def _before_step(optimizer: Optimizer, *_: object) -> None:
    if not _replaced:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) in _replaced:
                raise OptimizerError(_replaced[id(parameter)][1], type(optimizer).__name__)


# for good: torch must not find its hooks changed while it calls them, by this or another thread
register_optimizer_step_pre_hook(_before_step)
register_optimizer_step_post_hook(_after_step)
