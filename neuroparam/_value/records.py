"""The stand-in module for a NamedTuple or dataclass of neuron parameters."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from neuroparam._ground.errors import InvalidArgumentError

__all__ = ["Record", "fields_of", "is_record", "neuron_at"]


def is_record(value: object) -> bool:
    """Whether `value` is a NamedTuple or a dataclass instance."""
    if isinstance(value, (type, nn.Module)):
        return False
    return dataclasses.is_dataclass(value) or (
        isinstance(value, tuple) and hasattr(value, "_fields")
    )


def fields_of(record: Any) -> dict[str, Any]:
    """Field name -> value, in order."""
    names = (
        record._fields
        if hasattr(record, "_fields")
        else [field.name for field in dataclasses.fields(record)]
    )
    return {name: getattr(record, name) for name in names}


class Record(nn.Module):
    """A module with the field names of a record, so that its fields can be parametrized.

    An immutable record cannot hold a parametrized tensor. Code that reads `p.field` reads this
    module just as well, and, being a child module, it follows `.to()`, is found by
    `parameters()` and `functional_call`, and is copied with its owner. Tensors become
    non-persistent buffers (cloned: libraries share their default records between all layers),
    Parameters stay what they are, nested records become nested stand-ins.

    `rebuild` gives the record back.
    """

    record_type: type
    field_names: tuple[str, ...]

    def __init__(self, record: Any):
        super().__init__()
        self.__dict__["record_type"] = type(record)
        self.__dict__["field_names"] = tuple(fields_of(record))
        for name, value in fields_of(record).items():
            if is_record(value):
                self._modules[name] = Record(value)
            elif isinstance(value, nn.Parameter):
                self._parameters[name] = value
            elif isinstance(value, Tensor) and value.grad_fn is None:
                self.register_buffer(name, value.detach().clone(), persistent=False)
            else:
                self.__dict__[name] = value

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Record:
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, tensor in kept.items():
            moved = self._buffers[name]
            # No checkpoint could bring a record's numbers back. `to_empty` and the meta device
            # leave a plain record alone, so they must not empty its stand-in.
            if tensor is not None and moved is not None:
                self._buffers[name] = tensor if moved.is_meta else tensor.to(moved)
        return self

    def rebuild(self) -> Any:
        """The record with the present values, in its own type."""
        values = {
            name: value.rebuild() if isinstance(value, Record) else value
            for name, value in self._asdict().items()
        }
        if issubclass(self.record_type, tuple):
            return self.record_type(**values)
        # The constructor may compute, refuse, or take other arguments than its fields.
        record = object.__new__(self.record_type)
        for name, value in values.items():
            object.__setattr__(record, name, value)
        return record

    # pickle imports a class from its `__module__`. Norse's record classes are not importable there,
    # so a pickle names a module where they are.

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "record_type": _home(self.record_type)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        home = state["record_type"]
        if isinstance(home, tuple):
            home = getattr(importlib.import_module(home[0]), home[1])
        super().__setstate__({**state, "record_type": home})

    def __setattr__(self, name: str, value: Any) -> None:
        # A record takes no other fields, and `rebuild` would lose them. Names that begin with an
        # underscore are torch's own: `fully_shard` marks its modules with them.
        known = name in self.field_names or name.startswith("_") or hasattr(self, name)
        if known or isinstance(value, nn.Module):
            super().__setattr__(name, value)
        else:
            raise InvalidArgumentError(
                "assignment",
                value,
                f"{self.record_type.__name__} has no such field, only "
                f"{', '.join(self.field_names)}; assign to one of them",
            ).at(name)

    def extra_repr(self) -> str:
        """The plain fields, with their values; the others are printed as children."""
        plain = {**self.__dict__, **self._parameters, **self._buffers}
        shown = (f"{name}={plain[name]}" for name in self.field_names if name in plain)
        return ", ".join((self.record_type.__name__, *shown))

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self.field_names)

    def __getitem__(self, index: int) -> Any:
        return getattr(self, self.field_names[index])

    def __len__(self) -> int:
        return len(self.field_names)

    @property
    def _fields(self) -> tuple[str, ...]:
        return self.field_names

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.field_names}

    def _replace(self, **changes: Any) -> Any:
        raise InvalidArgumentError(
            "assignment",
            next(iter(changes.values()), None),
            "a record with trainable fields is not replaced, assign to its fields instead "
            "(module.p.tau_mem_inv = ...)",
        ).at(", ".join(changes))


def _home(kind: type) -> type | tuple[str, str]:
    """A module of the class's package that holds the class, and its name there.

    If there is none, it is the class itself.
    """
    package = kind.__module__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package:
            if getattr(module, "__dict__", {}).get(kind.__name__) is kind:
                return name, kind.__name__
    return kind


def neuron_at(modules: Mapping[str, nn.Module], path: str) -> nn.Module:
    """The neuron module of the owner at a path: itself, or whoever holds its record.

    Args:
        modules: path -> module, as `named_modules` gives them.
        path: of a module that owns a value.
    """
    above = path
    while isinstance(modules[above], Record) and above:
        above = above.rpartition(".")[0]
    return modules[above]
