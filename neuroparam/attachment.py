"""A parametrized value on somebody else's module: its parameter, its class, its assignment."""

from __future__ import annotations

import copy
import copyreg
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils import parametrize

from neuroparam.callers import callers
from neuroparam.errors import (
    AssignmentError,
    CheckpointError,
    EvaluationError,
    OutOfDomainError,
    ParametrizationError,
    UnsupportedModuleError,
    describe,
)
from neuroparam.finite import forget_steps, watch_steps
from neuroparam.given import number, why_unfit
from neuroparam.libraries import Known, known, wrapped
from neuroparam.parametrizations import Parametrization
from neuroparam.quantities import Quantity
from neuroparam.records import neuron_at
from neuroparam.scope import evaluate, transform_level
from neuroparam.sharding import sharded_like
from neuroparam.units import UnitMap, bounds_of

__all__ = [
    "Attached",
    "NeuronParameter",
    "Storage",
    "add_parameter",
    "attached",
    "is_attached",
    "parts",
    "refuse_non_module",
    "remove_parameter",
]


@dataclass(frozen=True)
class Storage:
    """How a value was stored before it was attached, so that it can be put back.

    Attributes:
        kind: "parameter", "buffer", "tensor" or "number".
        index: its position in the dictionary that held it.
        requires_grad: whether a Parameter was trainable.
        persistent: whether a buffer was in the state dict.
    """

    kind: str
    index: int
    requires_grad: bool = False
    persistent: bool = True

    @property
    def in_state_dict(self) -> bool:
        """Whether the plain module's state dict holds the value."""
        return self.kind == "parameter" or (self.kind == "buffer" and self.persistent)


class NeuronParameter(parametrize.ParametrizationList):
    """One trainable value: torch's list of parametrizations, with checks around it.

    It is found where torch keeps it, at `module.parametrizations[name]`, and holds the raw
    tensor as `original`.

    Args:
        maps: the parametrizations; the first one maps raw, the last one yields the value.
        value: the initial value, a tensor of its own.
        path: where it is attached, for messages.

    Raises:
        OutOfDomainError: `value` leaves the domain of a map.
        ParametrizationError: a map's `right_inverse` does not invert it.
    """

    path: str
    storage: Storage
    gradient_seen: bool | None
    # what the last evaluation has read, by its id: `fully_shard` exchanges the raw tensor for the
    # time of a forward
    read: int | None = None

    def __init__(self, maps: list[nn.Module], value: Tensor, path: str):
        self.__dict__["path"] = path  # already for errors while torch evaluates the maps
        wanted = value.clone()  # torch puts raw into the memory of the value
        try:
            super().__init__(maps, nn.Parameter(value))
        except OutOfDomainError as error:
            raise error.at(path, " -> ".join(map(repr, maps))) from None
        except ParametrizationError as error:
            raise ParametrizationError(f"{path!r}: {error}") from None
        except EvaluationError:
            raise
        except Exception as error:  # a map may be the user's code: it may raise anything
            raise ParametrizationError(
                f"{path!r}: {' -> '.join(map(repr, maps))} cannot be attached to "
                f"{describe(wanted)}: {type(error).__name__}: {error}. See to forward and "
                f"right_inverse, which take and give a tensor of the same shape and dtype."
            ) from error
        with torch.no_grad():
            _refuse_unless_inverse(wanted, self(), self.raw, maps, path)
        # None: no backward yet; False: one came through without a gradient
        self.gradient_seen = None
        watch_steps(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__["read"] = None  # the source's
        watch_steps(self)  # a copy, or unpickled

    @property
    def raw(self) -> nn.Parameter:
        """The unconstrained Parameter that the optimizer trains."""
        raw = self._parameters["original"]
        assert raw is not None
        return raw

    @property
    def last(self) -> nn.Module:
        """The map that yields the value."""
        return self[len(self) - 1]

    @property
    def bounds(self) -> tuple[float, float]:
        """The open interval of valid values."""
        return bounds_of(self)

    @property
    def unit(self) -> UnitMap | None:
        """The map from the physical to the stored unit, if there is one."""
        return self.last if isinstance(self.last, UnitMap) else None

    def physical(self) -> Tensor:
        """The value before the unit map: a time constant in seconds."""
        value: Tensor = self.raw
        for index in range(len(self) - (self.unit is not None)):
            value = self[index](value)
        return value

    def received(self, gradient: Tensor | None) -> None:
        """Notes what a backward pass brought to the value."""
        if gradient is None:
            self.gradient_seen = bool(self.gradient_seen)
        elif not self.gradient_seen:
            self.gradient_seen = True

    def raw_of(self, value: object) -> Tensor:
        """The raw tensor for a value that the user gives.

        Args:
            value: a number for all entries, or a tensor of the shape and dtype of the value.

        Raises:
            AssignmentError: wrong type, shape or dtype, or a tensor with a gradient history.
            OutOfDomainError: values outside the domain, or NaN.
        """
        original = self.raw
        single = None if isinstance(value, Tensor) else number(value)
        if single is not None:
            value = torch.tensor(single, dtype=torch.float64).to(original).expand_as(original)
        if not isinstance(value, Tensor):
            raise AssignmentError(self.path, value, "it takes a number or a tensor")
        if (problem := why_unfit(value)) is not None:
            raise AssignmentError(self.path, value, "; ".join(problem))
        if value.shape != original.shape:
            raise AssignmentError(
                self.path, value, f"its shape is {tuple(original.shape)}, and stays so"
            )
        if value.dtype != original.dtype:
            raise AssignmentError(
                self.path, value, f"its dtype is {original.dtype}; convert with .to(...)"
            )
        if value.grad_fn is not None and torch.is_grad_enabled():
            raise AssignmentError(
                self.path,
                value,
                "assigning stores numbers, the gradient history would be lost; "
                "assign value.detach()",
            )
        if value.is_meta:
            raise AssignmentError(self.path, value, "a tensor on the meta device has no numbers")
        raw = value.detach()
        try:
            with torch.no_grad():
                for index in reversed(range(len(self))):
                    raw = _right_inverse(self[index], raw)
        except OutOfDomainError as error:
            raise error.at(self.path, " -> ".join(map(repr, self))) from None
        if not bool(torch.isfinite(raw).all()):
            raise AssignmentError(self.path, value, "its right_inverse is not finite there")
        return raw

    def raw_of_entry(self, entry: object) -> Tensor:
        """The raw tensor for what the checkpoint of a plain module holds, in any precision.

        It is where the checkpoint is: the module may still be on the meta device.

        Raises:
            AssignmentError, OutOfDomainError: as `raw_of`.
        """
        return self.raw_of(entry.to(self.raw.dtype) if isinstance(entry, Tensor) else entry)

    def assign(self, value: object) -> None:
        """Stores a value, through `right_inverse`; the raw Parameter stays the same object."""
        if _called_by_functional_call():
            owner, dot, name = self.path.rpartition(".")
            raise AssignmentError(
                self.path,
                value,
                f"functional_call can exchange the raw tensor only, whose key is "
                f"'{owner}{dot}parametrizations.{name}.original' (and raw = right_inverse(value))",
            )
        if self.raw.is_meta:
            raise AssignmentError(
                self.path,
                value,
                "its module is on the meta device, which stores no numbers; materialise it first "
                "(to_empty, load_state_dict)",
            )
        raw = sharded_like(self.raw, self.raw_of(value))
        with torch.no_grad():
            self.raw.copy_(raw)

    def forward(self) -> Tensor:
        try:
            if torch.compiler.is_compiling() or transform_level():
                return super().forward()  # neither knows the hooks
            self.__dict__["read"] = id(self.raw)
            # Checkpointing counts the tensors saved in a region, and the recomputation must
            # save as many; a value read there first and in another region again would not.
            with saved_tensors_hooks(_packed, _unpacked):
                return super().forward()
        except AttributeError as error:
            # inside a property it would be taken for a missing attribute, and swallowed by
            # modules that define __getattr__
            raise EvaluationError(f"reading {self.path!r} failed: {error}") from error

    def check_state(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Looks at what a checkpoint holds for this value, before anything of it is loaded.

        Raises:
            CheckpointError: other constants, under which the raw values would mean other values;
                no constants; or raw values that are not finite.
        """
        raw = state_dict.get(f"{prefix}original")
        if raw is None:
            return
        for index in range(len(self)):
            link = self[index]
            if isinstance(link, Parametrization):
                key = f"{prefix}{index}._extra_state"
                if key not in state_dict:
                    raise CheckpointError(
                        f"{self.path!r}: the checkpoint has raw values and not the constants of "
                        f"{link!r} that give them their meaning; {key!r} is missing."
                    )
                link.check_extra_state(state_dict[key])
        if isinstance(raw, Tensor) and not bool(torch.isfinite(raw).all()):
            raise CheckpointError(
                f"{self.path!r}: the checkpoint holds raw values that are not finite, "
                f"{describe(raw)}: it was written after training diverged. Load an earlier one."
            )

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        self.check_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _refuse_unless_inverse(
    wanted: Tensor, value: Tensor, raw: Tensor, maps: list[nn.Module], path: str
) -> None:
    """Checks maps that somebody else wrote; ours refuse by themselves what they cannot hold."""
    if all(isinstance(link, Parametrization) for link in maps):
        return
    close = torch.isclose(value.double(), wanted.double(), rtol=1e-2, atol=0.0)
    if not bool((torch.isfinite(raw) & close).all()):
        raise ParametrizationError(
            f"{path!r}: forward(right_inverse(value)) must give the value back; for "
            f"{describe(wanted)} the raw tensor is {describe(raw)}, and its value "
            f"{describe(value)}. See to right_inverse in {' -> '.join(map(repr, maps))}."
        )


def _packed(saved: Tensor) -> tuple[Tensor, int]:
    # detached: a result holds the node that saves it, and both would stay alive for ever
    return saved.detach(), saved._version


def _unpacked(packed: tuple[Tensor, int]) -> Tensor:
    saved, version = packed
    if saved._version != version:  # torch leaves this to whoever has hooks
        raise RuntimeError(
            "a tensor that a parametrization needs for its gradient was modified by an inplace "
            "operation (an optimizer step between forward and backward is one)"
        )
    return saved


def _right_inverse(parametrization: Any, value: Any) -> Tensor:
    inverted: Tensor = parametrization.right_inverse(value)
    return inverted


class Attached(NamedTuple):
    """One attached value within a module."""

    path: str
    owner: nn.Module
    name: str
    parameter: NeuronParameter
    neuron: nn.Module

    @property
    def known(self) -> Known | None:
        """What the catalogue says of it."""
        rule = known(self.neuron, self.name)
        return rule if isinstance(rule, Known) else None

    @property
    def quantity(self) -> Quantity | None:
        """The physical quantity that it is, if the catalogue knows one."""
        return None if self.known is None else self.known.quantity


def attached(module: nn.Module, *, every_path: bool = False) -> Iterator[Attached]:
    """Every value attached anywhere in a module, with its path from there.

    Args:
        module: where to look.
        every_path: one that is used in several places comes with each of its paths, as in a
            state dict, not with the first one only.
    """
    refuse_non_module(module)
    modules = dict(nn.Module.named_modules(module, remove_duplicate=not every_path))
    for prefix, owner in modules.items():
        for name, parameter in _parametrizations(owner).items():
            if isinstance(parameter, NeuronParameter):
                path = f"{prefix}.{name}" if prefix else name
                yield Attached(path, owner, name, parameter, neuron_at(modules, prefix))


def refuse_non_module(module: object) -> None:
    """Raises unless it is given a module.

    Raises:
        UnsupportedModuleError: it is something else, such as the class of a module.
    """
    if isinstance(module, type) or not isinstance(module, nn.Module):
        raise UnsupportedModuleError(
            f"module must be an instance of torch.nn.Module, got {describe(module)}."
        )


def parts(module: nn.Module) -> list[nn.Module]:
    """A module and all modules below it.

    Not `module.modules()`, which Rockpool replaces by a method of its own.
    """
    return [part for _, part in nn.Module.named_modules(module)]


def is_attached(module: nn.Module) -> bool:
    """Whether any value in the module is attached."""
    return next(attached(module), None) is not None


def _parametrizations(module: nn.Module) -> dict[str, nn.Module]:
    found = module._modules.get("parametrizations")
    return dict(found.items()) if isinstance(found, nn.ModuleDict) else {}


def _value_property(name: str) -> property:
    """Reads and assigns the value `name` of an instance that has it attached.

    On an instance that does not, it lets the plain attribute through: one class serves many.
    """

    def get(module: nn.Module) -> Any:
        parametrizations = module._modules.get("parametrizations")
        parameter: Any = None if parametrizations is None else parametrizations._modules.get(name)
        if parameter is None:
            if name in module.__dict__:
                return module.__dict__[name]
            # Python goes on to __getattr__, which finds parameters and buffers
            raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")
        if isinstance(parameter, NeuronParameter):
            raw: Any = parameter._parameters["original"]  # a call less than `parameter.raw`
            return evaluate(parameter, raw)
        return parameter()  # another library's parametrization on the same module

    def set_(module: nn.Module, value: Any) -> None:
        parameter = _parametrizations(module).get(name)
        if isinstance(parameter, NeuronParameter):
            parameter.assign(value)
        elif parameter is not None:
            _right_inverse(parameter, value)
        else:
            module.__dict__[name] = value

    def delete(module: nn.Module) -> None:
        parameter = _parametrizations(module).get(name)
        path = parameter.path if isinstance(parameter, NeuronParameter) else name
        raise AssignmentError(
            path, "del", "a trainable value is not deleted; make_fixed gives the plain one back"
        )

    return property(get, set_, delete)


def _called_by_functional_call() -> bool:
    """Whether an assignment is made by `torch.func.functional_call`, on entry.

    It means to lend the module a tensor, and would have it stored: the gradient to the tensor
    would be lost, and what it puts back afterwards is the value, not the raw tensor.
    """
    accessor = "torch.nn.utils._named_member_accessor"
    return any(frame.f_globals.get("__name__") == accessor for frame in callers())


class _SharedClass(type):
    """Metaclass of the injected classes.

    torch's `register_parametrization` and `remove_parametrizations` add and delete properties
    on `module.__class__`, which they take for this one module's own. Ours is shared by all
    modules of its kind (so that ensembles stack and compiled code is shared), hence a property
    added for one must let the others pass, and none is ever deleted.
    """

    def __setattr__(cls, name: str, value: Any) -> None:
        getter = getattr(value, "fget", None)
        if getattr(getter, "__module__", None) == parametrize.__name__:
            value = _value_property(name)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if not isinstance(cls.__dict__.get(name), property):
            super().__delattr__(name)


def _wrapped_property(name: str, wrap: Callable[[Any], Any]) -> property:
    """Reads a plain attribute through a function of the catalogue."""

    def get(module: nn.Module) -> Any:
        stored: dict[str, Any] = module._modules
        if name not in stored:
            # not module.__dict__, whose items torch.compile of torch 2.6 takes for this property
            stored = vars(module)
        if name not in stored:
            raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")
        return wrap(stored[name])

    def set_(module: nn.Module, value: Any) -> None:
        module._modules.pop(name, None)
        module.__dict__[name] = value

    return property(get, set_)


def _without_history(value: Any) -> Any:
    """A module's state with tensors detached; the same object where nothing has a history."""
    if isinstance(value, Tensor):
        return value if value.grad_fn is None else value.detach()
    if isinstance(value, dict):
        detached = {key: _without_history(item) for key, item in value.items()}
        if all(detached[key] is item for key, item in value.items()):
            return value
        changed = copy.copy(value)
        changed.update(detached)
        return changed
    if isinstance(value, (list, tuple)):
        items = [_without_history(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    return value


_classes: weakref.WeakValueDictionary[tuple[type, frozenset[str]], type] = (
    weakref.WeakValueDictionary()
)
_one_at_a_time = threading.Lock()


def _class_for(plain: Any, names: frozenset[str]) -> type:
    """The class of modules of type `plain` with these names attached; always the same one."""
    key = (plain, names)
    existing = _classes.get(key)
    if existing is not None:
        return existing

    set_plainly = plain.__setattr__  # libraries assign their states at every step

    def __setattr__(self: nn.Module, name: str, value: Any) -> None:  # noqa: N807
        if name in names and isinstance(value, (nn.Module, nn.Buffer)):
            # torch would register it beside the value, which would go on being read
            object.__setattr__(self, name, value)
        else:
            set_plainly(self, name, value)

    def register_parameter(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        parameter = _parametrizations(self).get(name)
        if isinstance(parameter, NeuronParameter) and param is not None:
            parameter.assign(param)  # `module.tau = nn.Parameter(...)` comes here
        else:
            plain.register_parameter(self, name, param)

    def load(
        self: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name, parameter in _parametrizations(self).items():
            # a checkpoint of the plain module holds the value where ours holds raw
            raw_key = f"{prefix}parametrizations.{name}.original"
            if isinstance(parameter, NeuronParameter) and raw_key not in state_dict:
                if prefix + name in state_dict:
                    state_dict[raw_key] = parameter.raw_of_entry(state_dict.pop(prefix + name))
                    for index in range(len(parameter)):
                        key = f"{prefix}parametrizations.{name}.{index}"
                        parameter[index].state_dict(destination=state_dict, prefix=f"{key}.")
        plain._load_from_state_dict(self, state_dict, prefix, *args, **kwargs)

    def deepcopy(self: nn.Module, memo: dict[int, Any]) -> Any:
        # not the library's own, which may go through its constructor
        recipe: Any = self.__reduce_ex__(4)
        make, args, state, *_ = recipe
        made: Any = make(*args)
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy(state, memo))
        return made

    def prepare_scriptable(self: nn.Module) -> None:
        paths = (getattr(p, "path", name) for name, p in _parametrizations(self).items())
        raise UnsupportedModuleError(
            f"torch.jit.script cannot compile {', '.join(paths)}, computed from a raw tensor. "
            f"Script a fixed copy, make_fixed(copy.deepcopy(module)), or use torch.compile, "
            f"torch.export or torch.jit.trace."
        )

    def reduce_ex(self: nn.Module, protocol: Any) -> Any:
        make, args, *rest = plain.__reduce_ex__(self, protocol)
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            make, args = _new, (plain, names)
        # tensors with a history are not copied, nor sent to other processes
        return make, args, *map(_without_history, rest)

    kind: Any = _SharedClass
    if type(plain) is not type:
        kind = type(f"_Shared{type(plain).__name__}", (_SharedClass, type(plain)), {})
    changes = wrapped(plain)
    body: dict[str, Any] = {
        "__module__": plain.__module__,
        "__doc__": plain.__doc__,
        "__deepcopy__": deepcopy,
        "__prepare_scriptable__": prepare_scriptable,
        "__reduce_ex__": reduce_ex,
        "__setattr__": __setattr__,
        "_load_from_state_dict": load,
        "_neuroparam_plain_class": plain,
        "register_parameter": register_parameter,
        **changes.methods,
        **{name: _wrapped_property(name, wrap) for name, wrap in changes.attributes.items()},
        **{name: _value_property(name) for name in names},
    }
    made: type = kind(f"Parametrized{plain.__name__}", (plain,), body)
    with _one_at_a_time:
        return _classes.setdefault(key, made)


def _new(plain: type, names: frozenset[str]) -> Any:
    """An empty instance, for copying and unpickling."""
    return object.__new__(_class_for(plain, names))


def _inject(module: nn.Module) -> None:
    """Gives a module the class that its present parametrizations need, or its plain one."""
    plain = type(module)
    if plain.__module__ == parametrize.__name__:  # torch's own injected class
        plain = plain.__bases__[0]
    plain = getattr(plain, "_neuroparam_plain_class", plain)
    names = frozenset(_parametrizations(module))
    module.__class__ = _class_for(plain, names) if names else plain


def add_parameter(owner: nn.Module, name: str, parameter: NeuronParameter) -> None:
    """Makes `owner.name` the value of `parameter`; the plain attribute must be gone."""
    lists = owner._modules.setdefault("parametrizations", nn.ModuleDict())
    assert lists is not None
    lists._modules[name] = parameter
    parameter.train(owner.training)
    _inject(owner)


def remove_parameter(owner: nn.Module, name: str) -> None:
    """Takes the value `owner.name` away again."""
    lists = owner._modules["parametrizations"]
    assert lists is not None
    parameter: Any = lists._modules.pop(name)
    forget_steps(parameter)
    if not lists._modules:
        del owner._modules["parametrizations"]
    _inject(owner)
