"""sequence: a `Leaky` of snnTorch, which computes one step at a time, over a whole sequence."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._adjoint.fallback import library_must_run
from neuroparam._adjoint.leaky import Leaky, Reset
from neuroparam._adjoint.sequence import run_sequence
from neuroparam._ground.errors import InvalidArgumentError, UnsupportedModuleError
from neuroparam._value.injected import own_class
from neuroparam._value.place import refuse_non_module

__all__ = ["sequence"]


def sequence(leaky: nn.Module, inputs: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Runs snnTorch's `Leaky` over a whole sequence, as one autograd function.

    It gives what this loop over single steps gives, bit for bit, and the same gradients up to
    rounding, in less time and memory:

        for x in inputs:
            spk, mem = leaky(x, mem)

    A network is run layer by layer then: first all steps of one layer, then those of the next.
    snnTorch itself runs, with equal results, for `inhibition`, `state_quant` and
    `reset_delay=False`, under `torch.compile`, `torch.func`, autocast and `no_grad`, and where
    tensors have several dtypes. A surrogate that draws random numbers draws others than the loop.
    Forward hooks of the module are not called.

    Args:
        leaky: a `snntorch.Leaky`, plain or with attached values.
        inputs: the input current of each step, of shape (time, batch, ...).
        mem: the membrane potential before the first step, of shape (batch, ...). None means
            zeros, or with `init_hidden=True` what the module has kept. Another shape counts as
            zeros, as in snnTorch.

    Returns:
        Spikes and membrane potentials of each step, both of shape (time, batch, ...).

    Raises:
        UnsupportedModuleError: it is no `Leaky` of snnTorch, or of a class derived from it.
        InvalidArgumentError: `inputs` is no tensor with at least one step, or `mem` is no tensor.
        TypeError: `mem` is given to a module with `init_hidden=True`.

    Examples:
        >>> import snntorch
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> from neuroparam.adjoint import sequence
        >>> fc = torch.nn.Linear(4, 3)
        >>> leaky = make_trainable(snntorch.Leaky(beta=0.9), ["beta", "threshold"], shape=(3,))
        >>> spikes, membranes = sequence(leaky, fc(torch.ones(100, 2, 4)))
        >>> spikes.shape, membranes.shape
        (torch.Size([100, 2, 3]), torch.Size([100, 2, 3]))
    """
    _refuse_others(leaky)
    if not isinstance(inputs, Tensor) or not inputs.ndim or not len(inputs):
        raise InvalidArgumentError(
            "inputs", inputs, "must be a tensor of shape (time, batch, ...) with a step or more"
        )
    if mem is not None and not isinstance(mem, Tensor):
        raise InvalidArgumentError("mem", mem, "must be a tensor of shape (batch, ...), or None")
    return _run(leaky, inputs, mem)


def _refuse_others(leaky: object) -> None:
    refuse_non_module(leaky)
    snntorch: Any = sys.modules.get("snntorch")
    plain: Any = own_class(leaky)  # type: ignore[arg-type]
    if snntorch is None or plain is not snntorch.Leaky:
        raise UnsupportedModuleError(
            f"sequence runs snntorch.Leaky itself, whose steps it knows, and got {plain.__name__}. "
            f"Run the steps of other modules in a loop. Norse's layers take a whole sequence "
            f"themselves: give their network to neuroparam.adjoint.use_adjoint."
        )


def _run(leaky: Any, inputs: Tensor, mem: Tensor | None) -> tuple[Tensor, Tensor]:
    if leaky.init_hidden:
        if mem is not None:
            raise TypeError("`mem` should not be passed as an argument while `init_hidden=True`")
        mem = leaky.mem
    if mem is None or mem.shape != inputs.shape[1:]:
        mem = torch.zeros_like(inputs[0])
    reset = _RESETS.get(leaky.state_function.__name__)
    if library_must_run(inputs) or reset is None or _has_other_steps(leaky):
        return _loop(leaky, inputs, mem)
    constants = (leaky.beta.clamp(0, 1), leaky.threshold)
    if _changes_on_the_way(inputs, mem, constants):
        return _loop(leaky, inputs, mem)
    spikes, last, membranes = run_sequence(
        Leaky(leaky.spike_grad, reset), inputs, constants, (mem,)
    )
    if leaky.init_hidden:
        leaky.mem = last
    # Most spike functions give float32 whatever they are given. In a step without dimensions the
    # factor then decides upon the dtype, but not in a sequence of them.
    fired = leaky.spike_grad(last.detach() - constants[1].detach())
    graded = leaky.graded_spikes_factor
    spikes = spikes.to(fired.dtype).to(torch.result_type(fired, graded))
    return spikes * graded, membranes


# What `Leaky` calls in each step -> how a neuron that fired is reset
_RESETS: dict[str, Reset] = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}


def _has_other_steps(leaky: Any) -> bool:
    """Whether the steps have parts that the adjoint does not compute."""
    return bool(leaky.inhibition or leaky.state_quant or not leaky.reset_delay)


def _changes_on_the_way(inputs: Tensor, mem: Tensor, constants: Iterable[Tensor]) -> bool:
    """Whether tensors are of several dtypes, or the membrane grows beyond the input."""
    large = [each for each in constants if each.ndim]
    shape = torch.broadcast_shapes(mem.shape, *(each.shape for each in large))
    return shape != mem.shape or any(each.dtype != inputs.dtype for each in (mem, *large))


def _loop(leaky: Any, inputs: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
    """The same with snnTorch's own steps."""
    spikes, membranes = [], []
    for x in inputs.unbind(0):
        output = leaky(x) if leaky.init_hidden else leaky(x, mem)
        mem = leaky.mem
        spikes.append(output if isinstance(output, Tensor) else output[0])
        membranes.append(mem)
    return torch.stack(spikes), torch.stack(membranes)
