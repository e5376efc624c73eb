"""check_gradients: a proof, at once, that a gradient reaches every trainable value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import InvalidArgumentError, NoGradientError
from neuroparam._training.processes import refuse_sharded
from neuroparam._value.place import attached
from neuroparam._value.running import tensors_in

__all__ = ["check_gradients"]

_UNREACHED = (
    "The output does not depend on it: the module may copy the value when it is built, cast it to "
    "a number for a compiled kernel, or compute with another attribute. Or a custom autograd "
    "function on the way returns None for it (an adjoint or a fused kernel): choose the "
    "implementation that differentiates it."
)


def check_gradients(
    module: nn.Module, *inputs: Any, run: Callable[[], Any] | None = None, **keywords: Any
) -> dict[str, Tensor]:
    """Runs the module once and returns the gradient that reaches each attached parameter.

    The loss is the sum of all floating-point tensors in the output. No `.grad` is touched; a
    module that keeps its state between calls has made one step more. A gradient of zero is no
    error (silent neurons have one), a missing gradient is.

    Args:
        module: a module with attached parameters.
        *inputs: what its forward takes, for example spikes of shape (T, batch, inputs).
        run: a function without arguments to call in place of the forward, for a container of
            networks or a step of training that begins elsewhere:
            `run=lambda: module.training_step(batch)`. The loss is the sum of what it returns.
        **keywords: further keyword arguments of its forward.

    Returns:
        Path -> gradient with respect to the raw tensor, in its shape.

    Raises:
        NoGradientError: a parameter gets no gradient, or the output has none at all.
        UnsupportedModuleError: it is no module, or its parameters are sharded by `fully_shard`.
        InvalidArgumentError: there are both inputs and `run`.
        EvaluationError: a map of the user's raises AttributeError.

    Examples:
        >>> import torch
        >>> from neuroparam import ExpScaledLog, check_gradients, make_trainable
        >>> class Leak(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tau = 2.0
        ...     def forward(self, x):
        ...         return x / self.tau
        >>> check_gradients(make_trainable(Leak(), "tau"), torch.ones(3))
        {'tau': tensor(-1.5000)}
        >>> nets = torch.nn.ModuleDict({"actor": make_trainable(Leak(), "tau")})
        >>> check_gradients(nets, run=lambda: nets["actor"](torch.ones(3)))
        {'actor.tau': tensor(-1.5000)}
    """
    if run is not None and (inputs or keywords):
        raise InvalidArgumentError("run", run, "it is called without inputs; give one of both")
    trained = [place for place in attached(module) if place.parameter.raw.requires_grad]
    refuse_sharded(module, "Call check_gradients before fully_shard.")
    if not trained:
        return {}
    with torch.enable_grad():
        output = module(*inputs, **keywords) if run is None else run()
        sums = [t.sum() for t in tensors_in(output) if t.is_floating_point() and t.requires_grad]
        if not sums:
            raise NoGradientError([place.path for place in trained], _UNREACHED)
        gradients = torch.autograd.grad(
            torch.stack([each.double() for each in sums]).sum(),
            [place.parameter.raw for place in trained],
            allow_unused=True,
        )
    found = {place.path: g for place, g in zip(trained, gradients, strict=True)}
    missing = [path for path, gradient in found.items() if gradient is None]
    if missing:
        raise NoGradientError(missing, _UNREACHED)
    return {path: gradient for path, gradient in found.items() if gradient is not None}
