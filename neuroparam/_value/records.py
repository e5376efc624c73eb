"""The stand-in module for a NamedTuple or dataclass of neuron parameters."""

from __future__ import annotations

import copyreg
import dataclasses
import importlib
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import CellType, FunctionType, MemberDescriptorType
from typing import Any

import torch
from torch import Tensor, nn

from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._ground.torch_state import OF_EVERY_MODULE

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
    return {name: getattr(record, name) for name in _names_of(type(record))}


def _names_of(kind: Any) -> tuple[str, ...]:
    """The names of the fields of a type of record."""
    if hasattr(kind, "_fields"):
        return tuple(kind._fields)
    return tuple(field.name for field in dataclasses.fields(kind))


class _RecordClass(type):
    """Metaclass of the stand-ins: called by a record's own code, a class makes a plain record."""

    def __call__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls is not Record:
            return cls.record_type(*args, **kwargs)
        (record,) = args
        made: Any = object.__new__(_class_for(type(record)))
        made.__init__(record)
        return made


class Record(nn.Module, metaclass=_RecordClass):
    """A module with the field names of a record, so that its fields can be parametrized.

    An immutable record cannot hold a parametrized tensor. Code that reads `p.field` reads this
    module just as well, and, being a child module, it follows `.to()`, is found by
    `parameters()` and `functional_call`, and is copied with its owner. Tensors become
    non-persistent buffers (cloned: libraries share their default records between all layers),
    Parameters stay what they are, nested records become nested stand-ins.

    Each type of record has a class of stand-ins, with the properties and methods of the record.
    It gives the record's type for its own, by which `isinstance` goes (from torch 2.14 on). What
    derives a record from this one makes a plain record of the present values, with gradients.

    `rebuild` gives the record back.
    """

    record_type: type
    field_names: tuple[str, ...]
    _besides: tuple[str, ...]

    def __init__(self, record: Any):
        super().__init__()
        besides = _besides(record)
        self.__dict__.update(besides, _besides=tuple(besides))
        for name, value in fields_of(record).items():
            if is_record(value):
                self._modules[name] = Record(value)
            elif isinstance(value, nn.Parameter):
                self._parameters[name] = value
            elif isinstance(value, Tensor) and value.grad_fn is None:
                self.register_buffer(name, value.detach().clone(), persistent=False)
            else:
                self.__dict__[name] = value

    # Dynamo of earlier releases looks for the properties of a module in its `__class__`.
    if torch.__version__ >= "2.14":

        @property
        def __class__(self) -> type:
            return self.record_type

        @__class__.setter
        def __class__(self, kind: type) -> None:
            object.__dict__["__class__"].__set__(self, kind)

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
        values = {name: _rebuilt(getattr(self, name)) for name in self.field_names}
        # The constructor may compute, refuse, or take other arguments than its fields.
        if issubclass(self.record_type, tuple):
            record: Any = tuple.__new__(self.record_type, values.values())
            values = {}
        else:
            record = object.__new__(self.record_type)
        for name, value in (values | {name: self.__dict__[name] for name in self._besides}).items():
            object.__setattr__(record, name, value)
        return record

    def __reduce_ex__(self, protocol: Any) -> Any:
        # pickle's own way compares the class with `__class__`.
        return object.__new__, (type(self),), self.__dict__

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

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """The plain fields, with their values; the others are printed as children."""
        plain = {**self.__dict__, **self._parameters, **self._buffers}
        return ", ".join(f"{name}={plain[name]}" for name in self.field_names if name in plain)


def _rebuilt(value: Any) -> Any:
    """A stand-in as a record; anything else as it is."""
    return value.rebuild() if isinstance(value, Record) else value


def _besides(record: Any) -> dict[str, Any]:
    """What a record keeps besides its fields, without what it can compute anew."""
    kind, kept = type(record), getattr(record, "__dict__", {})
    names = kept.keys() - {*_names_of(kind), *OF_EVERY_MODULE}
    return {
        name: value
        for name, value in kept.items()
        if name in names and not isinstance(getattr(kind, name, None), cached_property)
    }


class _Tuple:
    """What stand-ins of NamedTuples do as tuples."""

    def __iter__(self: Any) -> Iterator[Any]:
        return (_rebuilt(getattr(self, name)) for name in self.field_names)

    def __len__(self: Any) -> int:
        return len(self.field_names)

    def __getitem__(self: Any, index: Any) -> Any:
        names = self.field_names[index]
        if isinstance(names, str):
            return _rebuilt(getattr(self, names))
        return tuple(_rebuilt(getattr(self, name)) for name in names)


def _values(stand_in: Any) -> tuple[Any, ...]:
    return tuple(stand_in)


def _as_tuple(name: str) -> Callable[..., Any]:
    method = getattr(tuple, name)

    def call(*given: Any) -> Any:
        return method(*(_values(each) if isinstance(each, Record) else each for each in given))

    return call


_COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
for _name in (*_COMPARISONS, "__contains__", "__add__", "__mul__", "__rmul__", "index", "count"):
    setattr(_Tuple, _name, _as_tuple(_name))

# What torch does to each part of a network, a stand-in does as a module. A record may have its own
# comparisons, and its own meaning of what torch asks of a whole network only.
_OF_MODULES = {*dir(Record), "__abstractmethods__", "__slots__"} - {
    *_COMPARISONS,
    *("__str__", "__format__"),
    *("bfloat16", "cpu", "cuda", "double", "float", "half", "to", "type"),
}

# type of record -> the class of its stand-ins
_classes: weakref.WeakValueDictionary[type, type] = weakref.WeakValueDictionary()


def _class_for(kind: type) -> type:
    """The class of the stand-ins for one type of record."""
    made = _classes.get(kind)
    if made is None:
        names = _names_of(kind)
        mirrors = [_mirror(base, kind, names) for base in kind.__mro__[:-1] if base is not tuple]
        tuples = [_Tuple] if issubclass(kind, tuple) else []
        body = {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "__hash__": nn.Module.__hash__,
            "record_type": kind,
            "field_names": names,
            **{name: _field(name) for name in names},
        }
        made = _RecordClass(kind.__name__, (*mirrors, *tuples, Record), body)
        made = _classes.setdefault(kind, made)
    return made


def _field(name: str) -> property:
    """Reads one field of a stand-in.

    Libraries read several in each time step, and `nn.Module.__getattr__`, which would find them
    too, takes twice the time.
    """

    def get(stand_in: nn.Module) -> Any:
        if name in stand_in._buffers:
            return stand_in._buffers[name]
        # torch.compile in torch 2.6 takes items of `stand_in.__dict__` for the property itself.
        besides = vars(stand_in)
        if name in besides:
            return besides[name]
        return nn.Module.__getattr__(stand_in, name)

    def set_(stand_in: nn.Module, value: Any) -> None:
        stand_in.__dict__[name] = value

    def delete(stand_in: nn.Module) -> None:
        del stand_in.__dict__[name]

    return property(get, set_, delete)


def _mirror(base: type, kind: type, names: tuple[str, ...]) -> type:
    """A class with the members that one class gives to a type of record, for its stand-ins."""
    mirror = type(base.__name__, (), {"__slots__": ()})
    for name, member in vars(base).items():
        if name in _OF_MODULES or name in names or isinstance(member, MemberDescriptorType):
            continue
        if isinstance(member, classmethod):
            member = staticmethod(getattr(kind, name))  # It makes plain records.
        elif isinstance(member, FunctionType):
            member = _rebound(member, mirror)
        elif isinstance(member, cached_property):
            member = property(_rebound(member.func, mirror))  # The values change.
        elif isinstance(member, property):
            member = property(*(_rebound(f, mirror) for f in (member.fget, member.fset)))
        setattr(mirror, name, member)
    return mirror


def _rebound(function: Any, mirror: type) -> Any:
    """A method whose `super()` begins at the mirror of its class, where that of a stand-in is."""
    if not isinstance(function, FunctionType) or "__class__" not in function.__code__.co_freevars:
        return function
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    bound = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(CellType(mirror) if name == "__class__" else cell for name, cell in cells),
    )
    bound.__kwdefaults__ = function.__kwdefaults__
    return bound


# pickle imports a class from its `__module__`. The classes of stand-ins are nowhere, and Norse's
# record classes are not where they say, so a pickle names a module where the record's class is.


def _reduced(made: Any) -> Any:
    if made is Record:
        return "Record"  # It is imported.
    kind: type = made.record_type
    package = kind.__module__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package:
            if getattr(module, "__dict__", {}).get(kind.__name__) is kind:
                return _class_at, (name, kind.__name__)
    return _class_for, (kind,)


def _class_at(module: str, name: str) -> type:
    return _class_for(getattr(importlib.import_module(module), name))


copyreg.pickle(_RecordClass, _reduced)


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
