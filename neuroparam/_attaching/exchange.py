"""Changing a module: a stored value gives way to a trainable one, and comes back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._ground.torch_state import all_modules
from neuroparam._training.optimizers import allow_in_optimizers, refuse_in_optimizers
from neuroparam._value.injected import add_parameter, remove_parameter, watch
from neuroparam._value.parameter import NeuronParameter, alive
from neuroparam._value.place import Place, attached, is_attached
from neuroparam._value.records import Record
from neuroparam._value.storage import MEMORIES, Kind, Storage, memories_of, reset_values_of

__all__ = ["Undo", "attach", "detach", "rebuild_records"]

# The dictionaries and sets in which modules keep their parts, their hooks and their memories.
_STORES = [name for name, store in nn.Module().__dict__.items() if isinstance(store, (dict, set))]
_STORES += MEMORIES


class Undo:
    """What a module is before a change, so that an interrupted change leaves nothing half done.

    Every change can be refused before it begins. A KeyboardInterrupt comes when it likes.

    Args:
        module: what is about to change, with all its parts.
        values: the trainable values that come, or that go.
        parameters: the Parameters whose memory changes hands.
    """

    def __init__(
        self,
        module: nn.Module,
        values: list[NeuronParameter],
        parameters: list[nn.Parameter],
    ):
        self._module = module
        self._values = values
        self._parts = [(part, type(part), dict(part.__dict__)) for part in all_modules(module)]
        self._stores = [
            (store, store.copy())
            for _, _, attributes in self._parts
            for store in map(attributes.get, _STORES)
            if isinstance(store, (dict, set))
        ]
        hooks = [p._post_accumulate_grad_hooks for p in parameters]
        self._stores += [(of_one, of_one.copy()) for of_one in hooks if of_one is not None]
        # A detached tensor keeps the memory that a Parameter has now.
        self._parameters = [(p, p.detach(), p.grad, p.requires_grad) for p in parameters]

    def __call__(self) -> None:
        """Puts everything back as it was."""
        for store, content in self._stores:
            store.clear()
            store.update(content)
        for part, kind, attributes in self._parts:
            if type(part) is not kind:
                part.__class__ = kind
            part.__dict__.clear()
            part.__dict__.update(attributes)
        for parameter, memory, gradient, requires_grad in self._parameters:
            allow_in_optimizers(parameter)
            if not parameter.is_set_to(memory):
                with torch.no_grad():
                    # torch's stubs know `set_` with a storage only.
                    parameter.set_(memory)  # type: ignore[call-overload]
            parameter.grad = gradient
            parameter.requires_grad_(requires_grad)
        present = {place.parameter for place in attached(self._module)}
        for value in self._values:
            if value in present:
                alive.add(value)
            else:
                alive.discard(value)
                value.stop_listening()


def attach(place: Place, parameter: NeuronParameter) -> None:
    """Exchanges a stored value for its trainable one; nothing here can be refused."""
    owner, name = place.owner, place.attribute
    if place.fields:
        if name in owner.__dict__:  # Another field of the record may have made its stand-in.
            owner._modules[name] = Record(owner.__dict__.pop(name)).train(owner.training)
        for part in (name, *place.fields[:-1]):
            owner = owner.get_submodule(part)
        name = place.field
    parameter.storage = _take(owner, name, parameter)
    add_parameter(owner, name, parameter)
    watch(place.neuron)


def _take(owner: nn.Module, name: str, parameter: NeuronParameter) -> Storage:
    """Removes a plain value from its owner, and says how it was stored."""
    memories = memories_of(owner)
    stores: tuple[dict[str, Any], ...]
    stores = (owner._parameters, owner._buffers, owner.__dict__, memories)
    store = next(store for store in stores if name in store)
    index = list(store).index(name)
    plain = store.pop(name)
    if store is owner._parameters:
        return _take_parameter(plain, parameter, index)
    if store is owner._buffers:
        persistent = name not in owner._non_persistent_buffers_set
        owner._non_persistent_buffers_set.discard(name)
        return Storage(Kind.BUFFER, index, persistent=persistent)
    if store is memories:
        return Storage(Kind.MEMORY, index)
    return Storage(Kind.TENSOR if isinstance(plain, Tensor) else Kind.NUMBER, index)


def _take_parameter(plain: Any, parameter: NeuronParameter, index: int) -> Storage:
    requires_grad = plain.requires_grad
    if parameter.is_tied:  # One raw tensor cannot be the Parameters of several places.
        refuse_in_optimizers(plain, parameter)
        return Storage(Kind.PARAMETER, index, requires_grad=requires_grad, plain=plain)
    if plain.shape == parameter.raw.shape:
        # The Parameter stays the same object, so that an optimizer built before goes on training
        # it. It gets other memory, because other tensors may share the memory that it has.
        with torch.no_grad():
            plain.set_(parameter.raw.detach())
        plain.grad = None
        parameter.adopt(plain)
    else:
        refuse_in_optimizers(plain, parameter)
    return Storage(Kind.PARAMETER, index, requires_grad=requires_grad)


def detach(place: Place) -> None:
    """Puts one value back where it was stored."""
    owner, name, parameter = place.owner, place.attribute, place.parameter
    storage = parameter.storage
    with torch.no_grad():
        value = parameter().detach().clone()
    remove_parameter(owner, name)
    watch(place.neuron)
    if storage.kind is Kind.PARAMETER:
        plain = parameter.memory
        with torch.no_grad():
            if storage.plain is None:
                plain.set_(value)
            else:  # It stayed behind when the module was moved.
                allow_in_optimizers(plain)
                plain.data = value
        plain.grad = None
        _insert(owner._parameters, storage.index, name, plain.requires_grad_(storage.requires_grad))
    elif storage.kind is Kind.BUFFER:
        _insert(owner._buffers, storage.index, name, value)
        if not storage.persistent:
            owner._non_persistent_buffers_set.add(name)
    else:
        given_back = value.item() if storage.is_number and value.ndim == 0 else value
        is_memory = storage.kind is Kind.MEMORY
        store = memories_of(owner) if is_memory else owner.__dict__
        _insert(store, storage.index, name, given_back)
        if is_memory:
            reset_values_of(owner)[name] = given_back


def _insert(store: dict[str, Any], index: int, name: str, value: Any) -> None:
    """Sets an entry at its old position: parameters and state dicts have an order."""
    later = list(store.items())[index:]
    for key, _ in later:
        del store[key]
    store[name] = value
    store.update(later)


def rebuild_records(module: nn.Module) -> None:
    """Puts the record back in place of each stand-in in which nothing is attached any more."""
    for owner in all_modules(module):
        for name, part in list(owner._modules.items()):
            if isinstance(part, Record) and not isinstance(owner, Record):
                if not is_attached(part):
                    del owner._modules[name]
                    owner.__dict__[name] = part.rebuild()
