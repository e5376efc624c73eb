"""The class of a module with attached values: it reads, assigns, copies, pickles and loads them."""

from __future__ import annotations

import abc
import copy
import copyreg
import dataclasses
import sys
import threading
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from neuroparam._catalogue.entries import PLAIN_CLASS, plain_class
from neuroparam._catalogue.registry import adapted_for
from neuroparam._ground.errors import InvalidArgumentError, UnsupportedModuleError
from neuroparam._ground.torch_state import is_compiling, is_dynamo_compiling
from neuroparam._maps.limited import NUMBERS
from neuroparam._value.network import paths_in_networks
from neuroparam._value.once import active, evaluate
from neuroparam._value.parameter import NeuronParameter, alive
from neuroparam._value.records import Record
from neuroparam._value.running import PROVEN, has_forward, running

__all__ = [
    "add_parameter",
    "change_class",
    "classes",
    "own_class",
    "parametrizations_of",
    "remove_parameter",
    "watch",
    "without_history",
]


def parametrizations_of(module: nn.Module) -> dict[str, nn.Module]:
    """What torch keeps at `module.parametrizations`, by the names of the values."""
    modules = module._modules  # A ScriptModule has a dictionary without `get` here.
    found = modules["parametrizations"] if "parametrizations" in modules else None  # noqa: SIM401
    return dict(found.items()) if isinstance(found, nn.ModuleDict) else {}


def _values_of(neuron: nn.Module) -> list[NeuronParameter]:
    """The values of a neuron module and of its records."""
    found = [p for p in parametrizations_of(neuron).values() if isinstance(p, NeuronParameter)]
    for part in neuron._modules.values():
        if isinstance(part, Record):
            found += _values_of(part)
    return found


def _traced(parameter: Any) -> Any:
    """The value in compiled code, computed once in each forward.

    Compiled code compares, at each call, all that is looked at here. So it is as little as says
    which formulas the value has, and the numbers in them.

    Raises:
        LookupError: the value cannot be computed in this way.
    """
    if active.traced:
        traced: Any = active.traced[-1]
    else:  # Before torch 2.7, compiled code cannot catch the error of an index.
        traced = active.scopes[-1].traced if active.scopes else None
    if traced is None:
        raise LookupError
    if parameter in traced:
        return traced[parameter]
    value = raw = parameter._parameters["original"]
    size = raw.dtype.itemsize // 4
    for each in parameter._modules.values():
        numbers = each.__dict__[NUMBERS][size]
        if not numbers:
            raise LookupError
        value = each.formula(value, *numbers)
    if value.requires_grad or not raw.requires_grad:  # Under no_grad it is of no use later.
        traced[parameter] = value
    return value


def _read(module: nn.Module, name: str) -> Any:
    parametrizations = module._modules.get("parametrizations")
    parameter: Any = None if parametrizations is None else parametrizations._modules.get(name)
    if parameter is None:
        if name in module.__dict__:
            return module.__dict__[name]
        # Python goes on to __getattr__, which finds parameters and buffers.
        raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")
    if isinstance(parameter, NeuronParameter):
        try:
            raw: Any = parameter._parameters["original"]
        except KeyError:  # It is a replica.
            raw = parameter.raw
        return evaluate(parameter, raw)
    return parameter()  # Another library has parametrized the same module.


def _value_property(name: str) -> property:
    """Reads and assigns the value `name` of a module that has it attached.

    One class serves many modules. On a module that has no such value, the property lets the
    plain attribute through.
    """

    def get(module: Any) -> Any:
        # This runs in every time step. What nearly always holds is asked here, in one function, so
        # that a read takes no longer than one of an nn.Parameter.
        try:
            lists: Any = module._modules["parametrizations"]
            known = lists._modules[name]
            if is_dynamo_compiling():
                return _traced(known)
            entry: Any = active.scopes[-1].of_forward[known]
            raw: Any = known._parameters["original"]
        except LookupError:
            pass
        else:
            if entry.only_version is raw and entry.version == raw._version:
                return entry.value
        return _read(module, name)

    def set_(module: nn.Module, value: Any) -> None:
        parameter: Any = parametrizations_of(module).get(name)
        if isinstance(parameter, NeuronParameter):
            parameter.assign(value)
        elif parameter is not None:
            parameter.right_inverse(value)
        else:
            module.__dict__[name] = value

    def delete(module: nn.Module) -> None:
        parameter = parametrizations_of(module).get(name)
        path = parameter.path_in_network() if isinstance(parameter, NeuronParameter) else name
        raise InvalidArgumentError(
            "assignment",
            "del",
            "a trainable value is not deleted; make_fixed gives the plain one back",
        ).at(path)

    return property(get, set_, delete)


def _child_property(name: str) -> property:
    """Reads the child `name` of a module, in half the time of `nn.Module.__getattr__`."""

    def get(module: nn.Module) -> Any:
        if name in module._modules:
            return module._modules[name]
        if name in module.__dict__:
            return module.__dict__[name]
        raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")

    def set_(module: nn.Module, value: Any) -> None:
        module.__dict__[name] = value

    def delete(module: nn.Module) -> None:
        del module.__dict__[name]

    return property(get, set_, delete)


# The code that reads the fields for `dataclasses.asdict` and `dataclasses.astuple`.
_COPYING = {getattr(dataclasses, f"_{name}_inner").__code__ for name in ("asdict", "astuple")}


def _copied_by_dataclasses(value: property) -> property:
    """The property of a value in a dataclass, whose fields `dataclasses.asdict` copies deeply.

    torch copies no tensor that has a history.
    """
    read: Any = value.fget

    def get(module: nn.Module) -> Any:
        found = read(module)
        if not is_compiling() and sys._getframe(1).f_code in _COPYING:
            return found.detach()
        return found

    return property(get, value.fset, value.fdel)


class _Lists(nn.ModuleDict):
    """The module that is registered as `parametrizations`.

    Many programs log or clamp `module.tau` of each module in `net.modules()` that has one. This
    module has children of these names, and would answer; the owner of the values answers
    instead. Items are found here as in any ModuleDict. `owner.parametrizations` is torch's
    ModuleDict, with the same content, which torch and users ask for attributes too.
    """

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if isinstance(found, NeuronParameter):
            raise AttributeError(
                f"{name!r} is an attribute of the module whose `parametrizations` this is; here "
                f"it is an item, parametrizations[{name!r}]"
            )
        return found

    def _get_name(self) -> str:
        return "ModuleDict"


def _parametrizations(module: nn.Module) -> nn.ModuleDict:
    """What is attached to a module, as torch knows it."""
    lists = module._modules.get("parametrizations")
    if not isinstance(lists, _Lists):
        # Python goes on to __getattr__, which finds whatever else there may be.
        raise AttributeError(f"{type(module).__name__!r} object has no `parametrizations`")
    # Dynamo of torch 2.6 follows these steps, and not the copying of `__dict__`.
    view = nn.ModuleDict()
    view._modules = lists._modules
    view.training = lists.training
    return view


class _SharedClass(type):
    """Metaclass of the injected classes.

    torch's `register_parametrization` and `remove_parametrizations` add and delete properties
    on `module.__class__`, as if the class were this one module's own. An injected class is
    shared by all modules of its kind, so that ensembles stack and compiled code is shared.
    Hence a property that is added for one module must let the others pass, and none is deleted.
    """

    def __setattr__(cls, name: str, value: Any) -> None:
        getter = getattr(value, "fget", None)
        if getattr(getter, "__module__", None) == parametrize.__name__:
            value = _value_property(name)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if not isinstance(cls.__dict__.get(name), property):
            super().__delattr__(name)

    # What a library's code makes by `type(self)(...)` is a plain module, and one of its kind.

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return getattr(cls, PLAIN_CLASS)(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, getattr(cls, PLAIN_CLASS))


class _Members:
    """The methods of every injected class.

    They are copied into it. A base class would be simpler, but Python refuses it for modules
    whose class has an abstract base, such as Rockpool's ("object layout differs").
    """

    _neuroparam_names: frozenset[str]

    def register_parameter(self: Any, name: str, param: nn.Parameter | None) -> None:
        # torch calls this for `module.tau = nn.Parameter(...)`.
        parameter = parametrizations_of(self).get(name)
        if isinstance(parameter, NeuronParameter) and param is not None:
            parameter.assign(param)
        else:
            plain_class(self).register_parameter(self, name, param)

    def _load_from_state_dict(
        self: Any, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name, parameter in parametrizations_of(self).items():
            # A checkpoint of the plain module holds the value where ours holds raw.
            own = f"{prefix}parametrizations.{name}."
            if isinstance(parameter, NeuronParameter) and f"{own}original" not in state_dict:
                if prefix + name in state_dict:
                    raw = parameter.raw_of_entry(state_dict.pop(prefix + name))
                    state_dict[f"{own}original"] = raw
                    for index in range(len(parameter)):
                        parameter[index].state_dict(destination=state_dict, prefix=f"{own}{index}.")
        plain_class(self)._load_from_state_dict(self, state_dict, prefix, *args, **kwargs)

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        # The library's own method may go through its constructor.
        if isinstance(self, fx.GraphModule):
            return _copied_graph(self, memo)
        make, args, state, *_ = self.__reduce_ex__(4)
        made: Any = make(*args)
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy(state, memo))
        return made

    def __prepare_scriptable__(self: Any) -> None:
        ours = _values_of(self)
        others = (n for n, p in parametrizations_of(self).items() if p not in ours)
        paths = (*paths_in_networks(ours), *others)
        raise UnsupportedModuleError(
            f"torch.jit.script cannot compile {', '.join(paths)}, computed from a raw tensor. "
            f"Script a fixed copy, make_fixed(copy.deepcopy(module)), or use torch.compile, "
            f"torch.export or torch.jit.trace."
        )

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        if isinstance(self, fx.GraphModule):
            raise UnsupportedModuleError(
                "torch.fx pickles a traced module as the code of its graph and traces that anew, "
                "where attached values are not known. Pickle a fixed copy, "
                "make_fixed(copy.deepcopy(module)), or save its state_dict()."
            )
        make, args, *rest = plain_class(self).__reduce_ex__(self, protocol)
        # The stubs of `copyreg` leave this function out.
        if make in (copyreg.__newobj__, object.__new__):  # type: ignore[attr-defined]
            kind = type(self)
            make, args = _new, (plain_class(self), kind._neuroparam_names, kind._neuroparam_records)
        # torch neither copies tensors with a history nor sends them to other processes.
        return make, args, *map(without_history, rest)


def _copied_graph(module: fx.GraphModule, memo: dict[int, Any]) -> fx.GraphModule:
    """A copy of a traced module, which has a class of its own that holds the code of its graph."""
    plain = plain_class(module)
    made: fx.GraphModule = plain.__new__(plain)
    memo[id(module)] = made
    made.__setstate__(copy.deepcopy(without_history(module.__dict__), memo))
    made.graph = made._graph  # This writes the code.
    _inject(made)
    return made


def _recompile(self: Any) -> Any:
    # torch.fx writes the code of a graph into the class, and its caller asks the class above.
    kind = type(self)
    self.__class__ = plain_class(self)
    try:
        return self.recompile()
    finally:
        self.__class__ = kind


def without_history(value: Any) -> Any:
    """A module's state with tensors detached; the same object where nothing has a history."""
    if isinstance(value, Tensor):
        return value if value.grad_fn is None else value.detach()
    if isinstance(value, dict):
        detached = {key: without_history(item) for key, item in value.items()}
        if all(detached[key] is item for key, item in value.items()):
            return value
        changed = copy.copy(value)
        changed.update(detached)
        return changed
    # The stand-in of a NamedTuple says that it is one, and is a module.
    if isinstance(value, (list, tuple)) and not isinstance(value, nn.Module):
        items = [without_history(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    return value


def _setting(plain: Any, names: frozenset[str]) -> Callable[[Any, str, Any], None]:
    """How attributes of modules of a class are set that have values of these names."""

    # Libraries set their states at each time step, so this asks for no attribute but one.
    def set_(self: Any, name: str, value: Any) -> None:
        if name in names and isinstance(value, (nn.Module, nn.Buffer)):
            # torch would register it beside the value, and the value would go on being read.
            object.__setattr__(self, name, value)
        else:
            plain.__setattr__(self, name, value)

    return set_


# (plain class, names of the attached values and of the records, what the catalogue changes)
# -> injected class
classes: weakref.WeakValueDictionary[tuple[Any, ...], type] = weakref.WeakValueDictionary()
# An interrupt may leave it locked, and must not keep the same thread out.
_one_at_a_time = threading.RLock()


def _class_for(plain: Any, names: frozenset[str], records: frozenset[str] = frozenset()) -> type:
    """The class of modules of type `plain` with these names attached; always the same one.

    Args:
        plain: the module's own class.
        names: of the attached values.
        records: the names at which the module has stand-ins of records.
    """
    adapted = adapted_for(plain)
    key = (plain, names, records, adapted)
    existing = classes.get(key)
    if existing is not None:
        return existing
    wrapped = _copied_by_dataclasses if dataclasses.is_dataclass(plain) else lambda value: value
    methods = {n: m for n, m in vars(_Members).items() if isinstance(m, FunctionType)}
    body: dict[str, Any] = {
        "__module__": plain.__module__,
        "__doc__": plain.__doc__,
        PLAIN_CLASS: plain,
        "_neuroparam_names": names,
        "_neuroparam_records": records,
        **{name: _child_property(name) for name in records},
        "__setattr__": _setting(plain, names),
        "parametrizations": property(_parametrizations),
        **methods,
        **({"forward": running(plain, _values_of)} if has_forward(plain) else {}),
        **({"recompile": _recompile} if issubclass(plain, fx.GraphModule) else {}),
        **(adapted.body(plain) if adapted else {}),
        **{name: wrapped(_value_property(name)) for name in names},
    }
    made = _derived(plain, f"Parametrized{plain.__name__}", body)
    with _one_at_a_time:
        return classes.setdefault(key, made)


# Its metaclass and its layout are wanted, and no abstract method.
class _Abstract(abc.ABC):  # noqa: B024
    """A base as a class has in which an abstract base class comes first."""


def _derived(plain: Any, name: str, body: dict[str, Any]) -> type:
    """A subclass of `plain` that no registry of subclasses hears of.

    The hooks that a library has for new classes (`__init_subclass__`, a metaclass) are meant for
    classes that somebody writes. They may enter them under a name, ask for arguments, or refuse.
    """
    kind: Any = _SharedClass
    if type(plain) is not type:  # The library's class has a metaclass of its own.
        kind = type(f"_Shared{type(plain).__name__}", (_SharedClass, type(plain)), {})
    new: Any = abc.ABCMeta.__new__ if issubclass(kind, abc.ABCMeta) else type.__new__
    for base in (nn.Module, _Abstract):
        if issubclass(kind, type(base)):
            made: type = new(kind, name, (base,), dict(body))
            try:
                made.__bases__ = (plain,)
            except TypeError:  # Python finds that their instances are laid out differently.
                continue
            return made
    try:
        heard: type = new(kind, name, (plain,), body)
    except Exception as error:  # It is the library's hook, and may raise anything.
        raise UnsupportedModuleError(
            f"{plain.__name__} allows no subclass, which an attached module is an instance of: "
            f"{type(error).__name__}: {error}."
        ) from error
    return heard


def _new(plain: type, names: frozenset[str], records: frozenset[str] = frozenset()) -> Any:
    """An empty instance, for copying and unpickling."""
    return object.__new__(_class_for(plain, names, records))


def own_class(module: nn.Module) -> type[nn.Module]:
    """The class that a module had before anything was attached to it, by us or by torch."""
    plain = type(module)
    if plain.__module__ == parametrize.__name__:  # torch has injected a class of its own.
        plain = plain.__bases__[0]
    found: type[nn.Module] = getattr(plain, PLAIN_CLASS, plain)
    return found


def change_class(module: nn.Module, kind: type[nn.Module]) -> None:
    """Makes a module an instance of another class of its library, with what is attached."""
    module.__class__ = kind
    watch(module)


def _inject(module: nn.Module) -> None:
    """Gives a module the class that its present parametrizations need, or its plain one."""
    plain: Any = own_class(module)
    names = frozenset(parametrizations_of(module))
    if names or _values_of(module):
        records = frozenset(n for n, part in module._modules.items() if isinstance(part, Record))
        module.__class__ = _class_for(plain, names, records)
    else:
        module.__class__ = plain


def watch(neuron: nn.Module) -> None:
    """Watches the values of a neuron module and of its records, which have just changed."""
    neuron.__dict__.pop(PROVEN, None)
    if not isinstance(neuron, Record):
        _inject(neuron)


def add_parameter(owner: nn.Module, name: str, parameter: NeuronParameter) -> None:
    """Makes `owner.name` the value of `parameter`; the plain attribute must be gone."""
    new = _Lists().train(owner.training)
    lists: Any = owner._modules.setdefault("parametrizations", new)
    lists.__class__ = _Lists  # torch's own parametrizations may have made it.
    lists._modules[name] = parameter
    parameter.train(owner.training)
    _inject(owner)


def remove_parameter(owner: nn.Module, name: str) -> None:
    """Takes the value `owner.name` away again."""
    lists: Any = owner._modules["parametrizations"]
    parameter: Any = lists._modules.pop(name)
    # Its raw Parameter may become the module's own again.
    alive.discard(parameter)
    parameter.stop_listening()
    if not lists._modules:
        del owner._modules["parametrizations"]
    elif not any(isinstance(other, NeuronParameter) for other in lists._modules.values()):
        lists.__class__ = nn.ModuleDict
    _inject(owner)
