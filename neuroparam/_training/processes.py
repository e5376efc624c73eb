"""Distributed training: values that are attached too late, and constants that all must share."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from neuroparam._ground.errors import CheckpointError, UnsupportedModuleError
from neuroparam._ground.messages import listing
from neuroparam._ground.torch_state import all_modules
from neuroparam._maps.base import Parametrization
from neuroparam._value.place import attached

__all__ = ["refuse_sharded", "refuse_wrapped", "share_constants", "share_constants_again"]

# The wrapped modules whose processes have been found to share, or were given, the same constants.
shared: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def refuse_sharded(module: nn.Module, instead: str) -> None:
    """Raises where `fully_shard` has taken over the parameters of a module.

    Args:
        module: what is about to be changed, or looked at.
        instead: what to do.

    Raises:
        UnsupportedModuleError: `fully_shard` was called on the module, or on a part of it.
    """
    # Ask the module only, and not its parts: they may be shared with a sharded network, as
    # surrogate functions are.
    if _is_sharded(module) or any(hasattr(part, "_get_fsdp_state") for part in all_modules(module)):
        raise UnsupportedModuleError(
            f"the parameters of {type(module).__name__} are sharded by fully_shard. {instead}"
        )


def refuse_wrapped(module: nn.Module) -> None:
    """Raises where new parameters would be left out of the averaging over processes.

    Raises:
        UnsupportedModuleError: the module is sharded, or holds a DistributedDataParallel.
    """
    refuse_sharded(module, "Call make_trainable before fully_shard.")
    if any(isinstance(part, DistributedDataParallel) for part in all_modules(module)):
        raise UnsupportedModuleError(
            f"{type(module).__name__} is or holds a DistributedDataParallel, which would not "
            f"average the gradients of new parameters. Call make_trainable first, and wrap then."
        )


def share_constants(module: nn.Module) -> None:
    """Makes sure, before the first training step, that all processes have the same constants.

    Where each process attaches to another value, the constants that are fitted to it differ, and
    the same raw tensor means other values in each. When DDP is built, it gives
    all processes the parameters and buffers of the first; here they get its constants too.
    `fully_shard` takes a part of the raw tensor from each process: there the constants must agree.

    Args:
        module: the module given to `make_trainable`, in its forward.

    Raises:
        UnsupportedModuleError: a value was attached after DDP was built, which would not
            average its gradient; or sharded processes have different constants.
        CheckpointError: processes were given different constants by the user.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    ddp = DistributedDataParallel._get_active_ddp_module()
    if ddp is not None and ddp not in shared:
        _refuse_late(ddp)
        parameters = [a.parameter for a in attached(ddp.module)]
        states: list[dict[str, Any]] = [
            {key: e.cpu() if isinstance(e, Tensor) else e for key, e in p.state_dict().items()}
            for p in parameters
        ]
        states = _of_first(states, [ddp.process_group])
        for parameter, state in zip(parameters, states, strict=True):
            try:
                parameter.load_state_dict(state)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{parameter.path!r} in process {dist.get_rank()} is not what it is in the "
                    f"first, whose state all processes take: {error}"
                ) from None
        shared.add(ddp)
    elif _is_sharded(module) and module not in shared:
        # state_dict() would make fully_shard take back the tensors of this forward.
        constants = {
            a.path: [
                each.present_constants()
                for each in a.parameter
                if isinstance(each, Parametrization)
            ]
            for a in attached(module)
        }
        (first,) = _of_first([constants], _groups(module))
        unlike = [
            f"{path}: {first.get(path)}, here {own}"
            for path, own in constants.items()
            if first.get(path) != own
        ]
        if unlike:
            raise UnsupportedModuleError(
                f"process {dist.get_rank()} has attached with other constants than the first:\n"
                f"{listing(unlike)}\nThey are fitted to the initial values: seed all processes "
                f"alike before make_trainable."
            )
        shared.add(module)


def _is_sharded(module: nn.Module) -> bool:
    return bool(module.__dict__.get("_is_fsdp_managed_module"))


def _refuse_late(ddp: DistributedDataParallel) -> None:
    handled = {id(parameter) for parameter in ddp._module_parameters} | {
        id(parameter)
        for name, parameter in nn.Module.named_parameters(ddp.module)
        if name in ddp.parameters_to_ignore
    }
    late = [a.path for a in attached(ddp.module) if id(a.parameter.raw) not in handled]
    if late:
        raise UnsupportedModuleError(
            f"attached after DistributedDataParallel was built, which therefore does not average "
            f"the gradients of\n{listing(late)}\nCall make_trainable first, or wrap the module "
            f"anew: DistributedDataParallel(ddp.module)."
        )


def _of_first(objects: list[Any], groups: Sequence[dist.ProcessGroup]) -> list[Any]:
    """What the first process has where this one has `objects`."""
    received = list(objects)
    for group in groups:
        dist.broadcast_object_list(received, src=dist.get_global_rank(group, 0), group=group)
    return received


def _groups(module: Any) -> Sequence[dist.ProcessGroup]:
    """The processes among which a module is sharded, one group for each dimension of the mesh."""
    for part in all_modules(module):
        state_of: Any = getattr(part, "_get_fsdp_state", None)
        if state_of is not None:
            state = state_of()
            # torch 2.6 has one group of parameters, later releases have several.
            sharded = getattr(
                state, "_fsdp_param_groups", [state.__dict__.get("_fsdp_param_group")]
            )
            if sharded and sharded[0] is not None:
                groups: list[dist.ProcessGroup] = sharded[0].mesh_info.mesh.get_all_groups()
                return groups
    return []


def share_constants_again(module: nn.Module) -> None:
    """Looks anew at every wrapped module that holds this one, whose values have changed."""
    for wrapper in list(shared):
        if module in all_modules(wrapper):
            shared.discard(wrapper)
