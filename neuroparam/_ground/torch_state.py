"""What is asked of torch's inner state: modules, transforms, compilation, callers, sharding."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = [
    "OF_EVERY_MODULE",
    "all_modules",
    "callers",
    "current_level",
    "is_batched",
    "is_compiling",
    "is_dynamo_compiling",
    "is_extended",
    "is_replaced",
    "is_traced",
    "put_first",
    "sharded_like",
    "transform_level",
    "uncompiled",
    "whole",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])
# The names of the attributes that every module has. All others are the module's own.
OF_EVERY_MODULE = frozenset(nn.Module().__dict__)

# They are asked at every read of a value, so they are looked up once.
current_level = torch._C._functorch.maybe_current_level
is_compiling = torch.compiler.is_compiling
# It takes a fifth of the time, and does not know `torch.export(..., strict=False)`.
is_dynamo_compiling = torch.compiler.is_dynamo_compiling
_call = nn.Module.__call__
_tracing_state = torch._C._get_tracing_state
_modes_on_the_way = torch._C._len_torch_dispatch_stack
_of_all_modules: Any = torch.nn.modules.module
# Hooks on the calls of all modules: torch adds to these dictionaries, and never replaces them.
_before_all = _of_all_modules._global_forward_pre_hooks
_after_all = _of_all_modules._global_forward_hooks
_before_all_backwards = _of_all_modules._global_backward_pre_hooks
_after_all_backwards = _of_all_modules._global_backward_hooks


def uncompiled(function: _Function) -> _Function:
    """Has torch.compile run a function and its calls as they are, except in what it compiles.

    Hooks of a module that is compiled are called outside of its compiled code. torch.compile would
    make compiled code of its own of each.
    """
    dynamo: Any = torch._C._dynamo.eval_frame
    if hasattr(dynamo, "set_code_exec_strategy"):  # torch 2.6 does not have it.
        skip = dynamo._FrameAction.SKIP
        strategy = dynamo._FrameExecStrategy(skip, skip)
        dynamo.set_code_exec_strategy(function.__code__, strategy)
    return function


def transform_level() -> int:
    """How many `torch.func` transforms are in progress: a value must not leave its own."""
    return 0 if is_compiling() else current_level() or 0


def all_modules(module: nn.Module) -> list[nn.Module]:
    """A module and all modules below it.

    This is torch's walk, and not `module.modules()`, which Rockpool replaces by its own method.
    """
    return [found for _, found in nn.Module.named_modules(module)]


def callers() -> Iterator[FrameType]:
    """The calls in progress in this thread, innermost first, beginning with the caller's own.

    The call stack is asked in the few places where torch tells its hooks too little.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_replaced() -> bool:
    """Whether stand-ins take the place of tensors: under `torch.func` and while torch traces."""
    return transform_level() > 0 or _tracing_state() is not None


def is_traced() -> bool:
    """Whether torch notes each operation on the way, to trace it or to do something else."""
    return _tracing_state() is not None or _modes_on_the_way() > 0


def _is_fx(call: Any) -> bool:
    """Whether a function is one of torch.fx: while it traces, modules are called by its own."""
    return getattr(call, "__globals__", {}).get("__name__") == torch.fx.Tracer.__module__


def is_extended(module: nn.Module) -> bool:
    """Whether a call of a module runs more than the forward of its class."""
    own = module.__dict__
    return bool(
        (nn.Module.__call__ is not _call and _is_fx(nn.Module.__call__))
        or own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
        or _before_all
        or _after_all
        or _before_all_backwards
        or _after_all_backwards
    )


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for several: under vmap, or in batched backward passes."""
    functorch = torch._C._functorch
    return bool(functorch.is_batchedtensor(tensor) or functorch.is_legacy_batchedtensor(tensor))


def put_first(hooks: dict[Any, Any], key: str, hook: object) -> None:
    """Sets a hook under a key of our own, before all that are there."""
    later = {other: each for other, each in hooks.items() if other != key}
    hooks.clear()
    hooks[key] = hook
    hooks.update(later)


def whole(value: Tensor) -> Tensor:
    """The whole tensor in each process, also where `fully_shard` has spread it over them.

    All processes must take part in the call.
    """
    gather: Any = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


def sharded_like(raw: Any, value: Tensor) -> Tensor:
    """A whole tensor, spread over the processes as `raw` is.

    All processes must take part in the call. Where their values differ, the first one's count.

    Args:
        raw: a tensor, sharded or not.
        value: a tensor of the same shape; one that is sharded already is left as it is.
    """
    if not hasattr(raw, "device_mesh") or hasattr(value, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, raw.device_mesh, raw.placements)
