"""Checkpoints: the plain module's state dict, and a look at a checkpoint before it is loaded."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from neuroparam._catalogue.entries import PLAIN_CLASS
from neuroparam._ground.errors import CheckpointError
from neuroparam._ground.messages import listing
from neuroparam._ground.torch_state import all_modules, callers
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.place import attached, is_attached, with_holders
from neuroparam._value.records import Record

__all__ = ["plain_state_dict", "refuse_unfit", "stop_watching_loads", "watch_loads"]

_EXTRA = "_extra_state"
_CHECKED = "_neuroparam_checked"


def plain_state_dict(module: nn.Module) -> dict[str, Any]:
    """The state dict of the library's own module, with the trained values inside.

    It loads strictly into a module of the same kind that has nothing attached, and into an
    attached one as well; a plain module that stores one number takes no value per neuron. As in
    every state dict, tensors that are not attached are the module's own, not copies.

    A value that the plain module stores as a number, or in a record (as Norse does), has no
    place in its state dict; a warning names it. `make_fixed(copy.deepcopy(module))` gives the
    plain module itself, with all values inside.

    Args:
        module: a module with attached values, or a whole network.

    Returns:
        Key -> tensor, for `load_state_dict` of the plain module.

    Raises:
        UnsupportedModuleError: it is no module.
        EvaluationError: a map of the user's raises AttributeError.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable, plain_state_dict
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.register_buffer("tau", torch.tensor([20.0, 10.0]))
        >>> leaky = make_trainable(Leaky(), "tau")
        >>> [*leaky.state_dict()]
        ['parametrizations.tau.original', 'parametrizations.tau.0._extra_state']
        >>> dict(plain_state_dict(leaky))
        {'tau': tensor([20., 10.])}
        >>> Leaky().load_state_dict(plain_state_dict(leaky))
        <All keys matched successfully>
    """
    values = {
        f"{_prefix(place.path, place.attribute)}original": place
        for place in attached(module, every_path=True)
    }
    ours = tuple(key.removesuffix("original") for key in values)
    in_records = tuple(
        f"{path}."
        for path, part in nn.Module.named_modules(module, remove_duplicate=False)
        if isinstance(part, Record)
    )
    plain: OrderedDict[str, Any] = OrderedDict()
    left_out: list[str] = []
    for key, entry in module.state_dict().items():
        place = values.get(key)
        if place is None and key.startswith(ours):
            continue  # It holds the constants of a map.
        path = place.path if place else key
        if path.startswith(in_records) or (place and not place.parameter.storage.in_state_dict):
            left_out.append(path)
        elif place:
            with torch.no_grad():
                plain[path] = place.parameter().detach()
        else:
            plain[path] = entry
    if left_out:
        warnings.warn(
            f"the state dict of the plain module has no place for\n{listing(left_out)}\nwhich it "
            f"stores as numbers, tensors outside its buffers, or in a record. Keep values(module) "
            f"beside it, or take the plain module itself: make_fixed(copy.deepcopy(module)).",
            stacklevel=2,
        )
    return plain


def _prefix(path: str, name: str) -> str:
    """What the keys of an attached value begin with in a state dict."""
    return f"{path.removesuffix(name)}parametrizations.{name}."


def watch_loads(module: nn.Module) -> None:
    """Checks checkpoints before anything is loaded into a module, or into a part of it.

    The hook is on every module from the one given to those that hold attached values, because
    `load_state_dict` may be called on any of them.
    """
    for _, holders in with_holders(module):
        for part in holders:
            if not any(map(_is_ours, part._load_state_dict_pre_hooks.values())):
                part.register_load_state_dict_pre_hook(refuse_unfit)


def stop_watching_loads(module: nn.Module) -> None:
    """Undoes `watch_loads` on every part of a module where nothing is attached any more."""
    for part in all_modules(module):
        ours = [key for key, hook in part._load_state_dict_pre_hooks.items() if _is_ours(hook)]
        if ours and not is_attached(part):
            for key in ours:
                del part._load_state_dict_pre_hooks[key]


def _is_ours(hook: object) -> bool:
    return getattr(hook, "hook", hook) is refuse_unfit


def refuse_unfit(
    module: nn.Module,
    state_dict: Mapping[str, Any],
    prefix: str,
    *_: object,
) -> None:
    """Raises before anything is loaded if a checkpoint does not fit.

    torch loads what fits and raises at the end, which leaves a mixture of two networks. This is
    a load_state_dict pre-hook. The first one that runs in a load looks at the whole of it, from
    the module on which `load_state_dict` was called. Modules that have code of their own for
    loading, such as BatchNorm, judge for themselves and for what is in them.

    Raises:
        CheckpointError: keys missing, unexpected or of another shape; other constants; raw
            values that are not finite, or whose constants are missing.
        OutOfDomainError: a plain module's value outside the domain of its parametrization.
    """
    # torch tells no hook on which module the load was called, nor whether it is a strict one.
    code = nn.Module.load_state_dict.__code__
    load = next((frame.f_locals for frame in callers() if frame.f_code is code), None)
    if load is None:  # Somebody has called _load_from_state_dict.
        _refuse_unfit(module, state_dict, prefix, strict=False, assign=False)
        return
    whole: Any = load["state_dict"]  # torch's own copy, of this load alone
    if not hasattr(whole, _CHECKED):
        setattr(whole, _CHECKED, True)
        _refuse_unfit(load["self"], whole, "", strict=load["strict"], assign=load["assign"])


def _refuse_unfit(
    module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *, strict: bool, assign: bool
) -> None:
    places = list(attached(module, every_path=True))
    if not places:
        return
    modules = dict(nn.Module.named_modules(module, remove_duplicate=False))
    expected: dict[str, Tensor | None] = {}
    leave: set[str] = set()
    for name, part in modules.items():
        if _loads_by_itself(part) or (name and name.rpartition(".")[0] in leave):
            leave.add(name)
        else:
            expected |= _own_keys(part, f"{prefix}{name}." if name else prefix)
    replaced: list[str] = []  # Keys that begin so give way to a plain module's value.
    for place in places:
        mine = prefix + _prefix(place.path, place.attribute)
        if f"{mine}original" in state_dict:
            place.parameter.check_state(state_dict, mine, assign=assign)
        elif prefix + place.path in state_dict:
            place.parameter.raw_of_entry(state_dict[prefix + place.path])
            replaced.append(mine)
            expected[prefix + place.path] = None
    expected = {k: v for k, v in expected.items() if not k.startswith(tuple(replaced))}
    missing = unexpected = []
    if strict:
        missing = [key for key in expected if key not in state_dict]
        unexpected = [
            key
            for key in state_dict
            if key.startswith(prefix)
            and key not in expected
            and _owner(key.removeprefix(prefix), modules) not in leave
        ]
    unlike = list(_unlike(expected, state_dict))
    if missing or unexpected or unlike:
        raise CheckpointError(_report(type(module).__name__, missing, unexpected, unlike))


def _loads_by_itself(part: nn.Module) -> bool:
    """Whether a module has code of its own between a checkpoint and its tensors."""
    plain = getattr(type(part), PLAIN_CLASS, type(part))
    hooks = [hook for hook in part._load_state_dict_pre_hooks.values() if not _is_ours(hook)]
    return bool(
        hooks
        or part._load_state_dict_post_hooks
        or part._state_dict_hooks
        or (
            plain._load_from_state_dict is not nn.Module._load_from_state_dict
            and not isinstance(part, NeuronParameter)
        )
    )


def _own_keys(part: nn.Module, prefix: str) -> dict[str, Tensor | None]:
    """The keys that a module itself loads, without its children; None where it is no tensor."""
    buffers = (
        (name, buffer)
        for name, buffer in part._buffers.items()
        if name not in part._non_persistent_buffers_set
    )
    keys: dict[str, Tensor | None] = {
        prefix + name: tensor
        for name, tensor in (*part._parameters.items(), *buffers)
        if tensor is not None
    }
    if type(part).set_extra_state is not nn.Module.set_extra_state:
        keys[prefix + _EXTRA] = None
    return keys


def _owner(key: str, modules: Mapping[str, nn.Module]) -> str:
    """The path of the innermost module that a key speaks of."""
    path = key.rpartition(".")[0]
    while path not in modules:
        path = path.rpartition(".")[0]
    return path


def _unlike(expected: Mapping[str, Tensor | None], state_dict: Mapping[str, Any]) -> Iterator[str]:
    """The entries of a checkpoint that have another shape, in words."""
    for key, mine in expected.items():
        if mine is None or key not in state_dict or is_lazy(mine):
            continue
        entry = state_dict[key]
        if not torch.overrides.is_tensor_like(entry):
            yield f"{key}: a {type(entry).__name__}, no tensor"
        elif entry.shape != mine.shape and (mine.ndim, tuple(entry.shape)) != (0, (1,)):
            yield f"{key}: {tuple(entry.shape)} in the checkpoint, {tuple(mine.shape)} here"


def _report(name: str, missing: list[str], unexpected: list[str], unlike: list[str]) -> str:
    lines = [f"the checkpoint does not fit this {name}, and nothing of it was loaded."]
    for heading, entries in (
        ("Missing key(s), which the module has and the checkpoint lacks:", missing),
        ("Unexpected key(s), which the checkpoint has and the module lacks:", unexpected),
        ("size mismatch:", unlike),
    ):
        if entries:
            lines += [heading, listing(entries)]
    lines.append(
        "Build the network as it was when the checkpoint was written, make_trainable with the "
        "same names and shape included; a checkpoint from before make_trainable loads into the "
        "network before make_trainable."
    )
    if missing or unexpected:
        lines.append("strict=False loads what is there.")
    return "\n".join(lines)
