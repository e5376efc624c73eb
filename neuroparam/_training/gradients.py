"""check_gradients: a proof, at once, that a gradient reaches every trainable value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import NoGradientError
from neuroparam._training.forward import NONE_CAME, UNREACHED, tensors_in
from neuroparam._training.processes import refuse_sharded
from neuroparam._value.place import attached

__all__ = ["check_gradients"]


def check_gradients(module: nn.Module, *inputs: Any, **keywords: Any) -> dict[str, Tensor]:
    """Runs the module once and returns the gradient that reaches each attached parameter.

    The loss is the sum of all floating-point tensors in the output. No `.grad` is touched; a
    module that keeps its state between calls has made one step more. A gradient of zero is no
    error (silent neurons have one), a missing gradient is.

    Args:
        module: a module with attached parameters.
        *inputs: what its forward takes, for example spikes of shape (T, batch, inputs).
        **keywords: further keyword arguments of its forward.

    Returns:
        Path -> gradient with respect to the raw tensor, in its shape.

    Raises:
        NoGradientError: a parameter gets no gradient, or the output has none at all.
        UnsupportedModuleError: it is no module, or its parameters are sharded by `fully_shard`.
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
    """
    trained = [place for place in attached(module) if place.parameter.raw.requires_grad]
    refuse_sharded(module, "Call check_gradients before fully_shard.")
    if not trained:
        return {}
    with torch.enable_grad():
        output = module(*inputs, **keywords)
        sums = [t.sum() for t in tensors_in(output) if t.is_floating_point() and t.requires_grad]
        if not sums:
            raise NoGradientError([place.path for place in trained], UNREACHED)
        gradients = torch.autograd.grad(
            torch.stack([each.double() for each in sums]).sum(),
            [place.parameter.raw for place in trained],
            allow_unused=True,
        )
    found = {place.path: g for place, g in zip(trained, gradients, strict=True)}
    missing = [path for path, gradient in found.items() if gradient is None]
    if missing:
        raise NoGradientError(missing, f"{UNREACHED} Or: {NONE_CAME}")
    return {path: gradient for path, gradient in found.items() if gradient is not None}
