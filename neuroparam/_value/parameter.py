"""One trainable value: its raw Parameter behind its maps, with checks around them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils import parametrize
from torch.overrides import is_tensor_like

from neuroparam._ground.errors import (
    CheckpointError,
    EvaluationError,
    InvalidArgumentError,
    MisuseWarning,
    OutOfDomainError,
    ParametrizationError,
    UnitWarning,
    placed,
)
from neuroparam._ground.hooks import NotesHooks
from neuroparam._ground.messages import describe, warn
from neuroparam._ground.real import as_real, why_not_real
from neuroparam._ground.torch_state import (
    callers,
    is_compiling,
    is_extended,
    sharded_like,
    transform_level,
)
from neuroparam._maps.base import SHOWN, Parametrization, bounds_of
from neuroparam._maps.fused import MODIFIED, fused, is_fused
from neuroparam._maps.limited import LimitedMap
from neuroparam._maps.time_constants import UnitMap, WithStep
from neuroparam._value.copied import Copied, fingerprint
from neuroparam._value.evidence import Evidence
from neuroparam._value.network import paths_in_networks
from neuroparam._value.once import forget
from neuroparam._value.storage import Storage
from neuroparam._value.writes import Copy

__all__ = ["LEAST_STEPS", "NeuronParameter", "alive", "in_words", "living"]

# Numbers of time steps below which a time constant, given in the unit in which its module stores
# it, is taken for one in seconds. A decay may be small: 0.3 is 0.8 of a step.
LEAST_STEPS = 0.3
_LOST = (
    "through `.data` or with an operation that ends in an underscore. The value is computed anew "
    "from its raw tensor, so that the write is lost and no gradient knows of it. Assign to it "
    "outside of the forward (module.name = value), keep what changes in an attribute of its own, "
    "bound it by its parametrization (BoundedSigmoid(lower, upper)), or give another shape to "
    "make_trainable(..., shape=...)"
)


class _Alive:
    """Every trainable value that is alive, copies included.

    Attributes:
        stamp: another object whenever a value comes, goes, or gets another raw Parameter.
    """

    def __init__(self) -> None:
        # Modules compare by identity, so that they can be keys.
        self._values: weakref.WeakKeyDictionary[NeuronParameter, None] = weakref.WeakKeyDictionary()
        self.stamp = object()

    def add(self, value: NeuronParameter) -> None:
        self._values[value] = None
        self.note_change()

    def __contains__(self, value: object) -> bool:
        return value in self._values

    def note_change(self) -> None:
        """Marks what was found out about the values earlier as too old."""
        self.stamp = object()

    def discard(self, value: NeuronParameter) -> None:
        self._values.pop(value, None)
        self.note_change()

    def all(self) -> list[NeuronParameter]:
        # `keyrefs` copies the dictionary in one step, whatever other threads do meanwhile.
        return living(self._values.keyrefs())


def living(references: Iterable[weakref.ref[NeuronParameter]]) -> list[NeuronParameter]:
    """The values that are not gone yet."""
    return [value for reference in references if (value := reference()) is not None]


alive = _Alive()
_copied = Copied()


class NeuronParameter(NotesHooks, parametrize.ParametrizationList):
    """One trainable value: torch's list of parametrizations, with checks around it.

    It is found where torch keeps it, at `module.parametrizations[name]`, and holds the raw
    tensor as `original`.

    Args:
        maps: the parametrizations; the first one maps raw, the last one yields the value.
        value: the initial value, a tensor that nothing else uses.
        path: where it is attached, from the module given to `make_trainable`.

    Raises:
        OutOfDomainError: `value` leaves the domain of a map.
        ParametrizationError: a map's `right_inverse` does not invert it.
        EvaluationError: a map raises AttributeError.
    """

    path: str
    root: weakref.ref[nn.Module] | None = None
    storage: Storage
    evidence: Evidence
    # Whether values of other places may have the same raw tensor.
    is_tied: bool = False
    # Of the raw numbers, as they were when `_copied` last looked at them.
    fingerprint: float | None = None

    def __init__(self, maps: list[nn.Module], value: Tensor, path: str):
        # torch evaluates the maps while it builds the list, and errors need the path then.
        self.__dict__["path"] = path
        self.__dict__["evidence"] = Evidence(self)
        wanted = value.clone()  # torch puts raw into the memory of the value.
        try:
            if any(_is_foreign(each) for each in maps):
                _invert(maps, wanted)
            super().__init__(maps, nn.Parameter(value))
            for each in maps:
                if isinstance(each, Parametrization):
                    each.get_extra_state()  # Raises if a state dict could not keep it.
                    del each.__dict__[SHOWN]  # Nobody has this tensor.
        except OutOfDomainError as error:
            error.parametrization = in_words(maps)
            raise
        except (EvaluationError, ParametrizationError):
            raise
        except Exception as error:  # A map may be the user's code, and may raise anything.
            raise ParametrizationError(
                f"{in_words(maps)} cannot be attached to {describe(wanted)}: "
                f"{type(error).__name__}: {error}. See to forward and right_inverse, which take "
                f"and give a tensor of the same shape and dtype."
            ) from error
        if not all(isinstance(each, LimitedMap) for each in maps):
            with torch.no_grad():
                self._refuse_unless_inverse(wanted)
        # torch.fx takes modules of torch.nn as leaves, as it does torch's own lists. It cannot
        # trace a map, which looks at the dtype.
        self.__dict__["__module__"] = parametrize.__name__
        self.fingerprint = fingerprint(self.raw)
        alive.add(self)

    def _refuse_unless_inverse(self, wanted: Tensor) -> None:
        """Checks the inverses of maps that somebody else wrote.

        A map that rounds onto a grid cannot give every value back. It gives back what it has
        rounded, and the start is the nearest value on its grid.
        """
        value = self()
        if bool((torch.isfinite(self.raw) & _agree(value, wanted)).all()):
            return
        again: Any = _invert(self, value)
        for each in self:
            again = each(again)
        rounded = torch.isfinite(self.raw) & _agree(again, value)
        rounded &= (value - wanted).abs() <= wanted.abs() / 2
        if not bool(rounded.all()):
            raise ParametrizationError(
                f"forward(right_inverse(value)) must give the value back; for {describe(wanted)} "
                f"the raw tensor is {describe(self.raw)}, and its value {describe(value)}. See to "
                f"right_inverse in {in_words(self)}."
            )
        warn(
            f"{self.path!r}: {in_words(self)} rounds, and starts at {describe(value)} instead of "
            f"{describe(wanted)}.",
            MisuseWarning,
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["evidence"]
        state.pop("_hook", None)
        state.pop("root", None)
        return {**state, "proven": self.evidence.proven}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # This value is a copy, or was unpickled.
        proven = bool(state.get("proven"))
        super().__setstate__({name: entry for name, entry in state.items() if name != "proven"})
        self.__dict__["evidence"] = Evidence(self, proven)
        self._listen()
        alive.add(self)

    def note_hook(self) -> None:
        # Compiled code that calls a map of this list calls the list.
        for each in self._modules.values():
            if isinstance(each, LimitedMap):
                each.note_hook()

    def _listen(self) -> None:
        """Has raw say when a backward pass comes to it: compiled code calls no other hook."""
        self.stop_listening()
        raw = self._parameters["original"]
        if raw is not None and raw.requires_grad and raw.is_leaf:
            self.__dict__["_hook"] = raw.register_post_accumulate_grad_hook(self.evidence.raw_got)

    def stop_listening(self) -> None:
        """Takes the hook from raw, which may become the module's own Parameter again."""
        hook = self.__dict__.pop("_hook", None)
        if hook is not None:
            hook.remove()

    def _raw_changed(self) -> None:
        self._listen()
        alive.note_change()

    def _apply(self, *args: Any, **kwargs: Any) -> NeuronParameter:
        raw = self.raw
        super()._apply(*args, **kwargs)
        forget(self)
        self.fingerprint = fingerprint(self.raw)  # Another dtype rounds them.
        if self.raw is not raw:
            self._raw_changed()
        return self

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, param)
        self._raw_changed()

    def adopt(self, parameter: nn.Parameter) -> None:
        """Makes a Parameter that holds the raw numbers already the raw tensor."""
        parameter.requires_grad_(True)
        self._parameters["original"] = parameter
        self._raw_changed()

    def share(self, other: NeuronParameter) -> None:
        """Takes the raw tensor of another value for its own, so that both train as one."""
        self.is_tied = other.is_tied = True
        self._parameters["original"] = other.raw
        self.fingerprint = other.fingerprint
        self._raw_changed()

    @property
    def raw(self) -> nn.Parameter:
        """The unconstrained Parameter that the optimizer trains."""
        raw = self._parameters.get("original")
        # A replica of nn.DataParallel has its tensors among the attributes.
        return self.__dict__["original"] if raw is None else raw

    @property
    def memory(self) -> nn.Parameter:
        """The Parameter that becomes the module's own again when the value is fixed."""
        return self.raw if self.storage.plain is None else self.storage.plain

    @property
    def last_map(self) -> nn.Module:
        """The map that yields the value."""
        return self[len(self) - 1]

    @property
    def bounds(self) -> tuple[float, float]:
        """The open interval of valid values."""
        return bounds_of(self)

    @property
    def unit(self) -> UnitMap | None:
        """The map from the physical to the stored unit, if there is one."""
        return self.last_map if isinstance(self.last_map, UnitMap) else None

    @property
    def before_unit(self) -> list[nn.Module]:
        """The maps without the unit map: they yield the value in its physical unit."""
        return [self[index] for index in range(len(self) - (self.unit is not None))]

    def physical(self) -> Tensor:
        """The value before the unit map: a time constant in seconds."""
        value: Tensor = self.raw
        for each in self.before_unit:
            value = each(value)
        return value

    def path_in_network(self) -> str:
        """Where the value is in the network that the user runs."""
        return paths_in_networks([self])[0]

    def refuse_written(self, copy: Copy) -> None:
        """Raises because a forward has written into the value, which it computes with.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError(
            "assignment", copy.value, f"a forward has written in place into it, {_LOST}"
        ).at(self.path_in_network())

    def warn_of_write(self, copy: Copy) -> None:
        """Warns, once, that code outside of every forward has written into the value."""
        if self.evidence.is_news("written"):
            warn(
                f"{self.path_in_network()!r}: code has written in place into it, {_LOST}; what was "
                f"written is {describe(copy.value)}.",
                MisuseWarning,
            )

    def raw_of(self, value: object, *, physical: bool = False) -> Tensor:
        """The raw tensor for a value that the user gives.

        Args:
            value: a number for all entries, or a tensor of the shape and dtype of the value.
            physical: whether it is in the unit before the unit map.

        Raises:
            InvalidArgumentError: wrong type, shape or dtype, or a tensor with a gradient history.
            OutOfDomainError: values outside the domain, or NaN.
        """
        with placed(self.path_in_network):
            self._follow()
            tensor = self._assignable(value)
            try:
                with torch.no_grad():
                    maps = self.before_unit if physical else self
                    raw = _invert(maps, tensor.detach())
            except OutOfDomainError as error:
                if self.unit is not None and not physical:
                    self._refuse_stored(tensor.detach(), error)
                error.parametrization = in_words(self)
                raise
            if not bool(torch.isfinite(raw).all()):
                raise InvalidArgumentError(
                    "assignment", tensor, "its right_inverse is not finite there"
                )
        return raw

    def _refuse_stored(self, value: Tensor, error: OutOfDomainError) -> None:
        """Raises in the unit that was given, where the maps have refused it in another."""
        lower, upper = self.bounds
        wrong = ~((value > lower) & (value < upper))
        if bool(wrong.any()):
            domain = f"({lower:g}, {upper:g})"
            raise OutOfDomainError(value, wrong, domain, in_words(self)) from error

    def _assignable(self, value: object) -> Tensor:
        """A value that the user gives as a tensor that can be stored."""
        raw = self.raw
        single = None if isinstance(value, Tensor) else as_real(value)
        if single is not None:
            value = torch.tensor(single, dtype=torch.float64).to(raw).expand_as(raw)
        if not isinstance(value, Tensor):
            raise InvalidArgumentError("assignment", value, "it takes a number or a tensor")
        problem = None
        if (unfit := why_not_real(value)) is not None:
            problem = "; ".join(unfit)
        elif value.shape != raw.shape:
            problem = f"its shape is {tuple(raw.shape)}, and stays so"
        elif value.dtype != raw.dtype:
            problem = f"its dtype is {raw.dtype}; convert with .to(...)"
        elif value.grad_fn is not None and torch.is_grad_enabled():
            problem = (
                "assigning stores numbers, the gradient history would be lost; "
                "assign value.detach()"
            )
        elif value.is_meta:
            problem = "a tensor on the meta device has no numbers"
        if problem is not None:
            raise InvalidArgumentError("assignment", value, problem)
        return value

    def raw_of_entry(self, entry: object) -> Tensor:
        """The raw tensor for what the checkpoint of a plain module holds, in any precision.

        It is on the checkpoint's device, because the module may still be on the meta device.

        Raises:
            CheckpointError: another type or shape, as `raw_of` says.
            OutOfDomainError: as `raw_of`.
        """
        if isinstance(entry, Tensor) and why_not_real(entry) is None:
            entry = entry.to(self.raw.dtype)
            if _is_same_shape(entry, self.raw):
                entry = entry.reshape(self.raw.shape)
            elif entry.numel() == 1:  # one for all neurons
                entry = entry.reshape(()).expand(self.raw.shape)
        try:
            return self.raw_of(entry)
        except InvalidArgumentError as error:
            raise CheckpointError(
                f"the checkpoint of a plain module does not fit, and nothing of it was loaded: "
                f"{error.problem}; it has {describe(entry)}. Load it before make_trainable, or "
                f"give make_trainable its shape."
            ).at(self.path_in_network()) from None
        except OutOfDomainError as error:
            error.hint = (
                "The checkpoint of a plain module holds it, which nothing has kept in that range. "
                "Nothing of it was loaded: clamp it in the checkpoint first."
            )
            raise

    def assign(self, value: object) -> None:
        """Stores a value, through `right_inverse`; the raw Parameter stays the same object.

        Raises:
            InvalidArgumentError: as `raw_of`; also where `functional_call` assigns, or where the
                module is on the meta device.
            OutOfDomainError: as `raw_of`.
        """
        if _called_by_functional_call():
            owner, dot, name = self.path_in_network().rpartition(".")
            raise InvalidArgumentError(
                "assignment",
                value,
                f"functional_call can exchange the raw tensor only, whose key is "
                f"'{owner}{dot}parametrizations.{name}.original' (and raw = right_inverse(value))",
            ).at(self.path_in_network())
        if self.raw.is_meta:
            raise InvalidArgumentError(
                "assignment",
                value,
                "its module is on the meta device, which stores no numbers; materialise it first "
                "(to_empty, load_state_dict)",
            ).at(self.path_in_network())
        self.assign_raw(self.raw_of(value))
        self._warn_of_seconds()

    def _warn_of_seconds(self) -> None:
        """Warns where a time constant of less than a time step has been assigned.

        It is meant in seconds, as it was attached, and read as the module stores it.
        """
        if isinstance(self.unit, WithStep):
            steps = (self.physical().detach() / self.unit.dt).double().median().item()
            if steps < LEAST_STEPS:
                warn(
                    f"{self.path_in_network()!r} is a time constant of {steps:.3g} time steps now: "
                    f"assigning takes what the module stores. In seconds it is set_values(net, "
                    f"Quantity.TAU_MEM, 20e-3).",
                    UnitWarning,
                )

    def assign_raw(self, raw: Tensor) -> None:
        """Stores raw numbers, as `raw_of` gives them."""
        with torch.no_grad():
            self.raw.copy_(sharded_like(self.raw, raw))
        self.fingerprint = fingerprint(self.raw)

    def set_trained(self, is_trained: bool) -> None:
        """Has the raw tensor train, or stay where it is."""
        self.raw.requires_grad_(is_trained)
        if not is_trained:
            self.raw.grad = None  # An optimizer would make one more step with it.
        forget(self)
        self._raw_changed()

    def forward(self) -> Tensor:
        try:
            if is_compiling() or transform_level():
                return super().forward()  # Neither knows hooks for saved tensors.
        except AttributeError as error:
            raise self._failed(error) from error
        return self._computed()

    def _computed(self) -> Tensor:
        """The value in eager code, outside of `torch.func` transforms."""
        try:
            self._follow()
            _copied.look(self, alive)
            value = fused(tuple(self._modules.values()), self.raw)
            if value is not None:
                return value
            # Activation checkpointing must save equally many tensors when it recomputes a
            # region. A value computed in one region and reused in the next breaks the count, so
            # the hooks hide what the evaluation saves.
            with saved_tensors_hooks(_packed, _unpacked):
                return super().forward()
        except AttributeError as error:
            raise self._failed(error) from error

    def _failed(self, error: AttributeError) -> EvaluationError:
        # Inside a property, an AttributeError would mean that the attribute is missing. Modules
        # that define __getattr__ would swallow it.
        return EvaluationError(f"reading it failed: {error}").at(self.path_in_network())

    def evaluated(self) -> Tensor:
        """The value in eager code: a call, without what torch does around a module's forward."""
        return self() if is_extended(self) else self._computed()

    def depends_on_raw_alone(self) -> bool:
        """Whether equal raw numbers give the value that was computed last.

        Somebody else's maps, and hooks, may depend on more.
        """
        maps = self._modules.values()
        return is_fused(maps) and not is_extended(self) and not self._follow()

    def _follow(self) -> bool:
        """Takes over constants that were copied into this value's state dict in place, if any."""
        changed = False
        each: Any
        try:
            for each in self._modules.values():
                # Nearly always nobody has asked for a state dict, and a call costs most.
                if SHOWN in each.__dict__ and each.follow():
                    alive.note_change()
                    self.fingerprint = fingerprint(self.raw)  # It came with its constants.
                    changed = True
        except CheckpointError as error:
            raise error.at(self.path_in_network()) from None
        return changed

    def check_state(
        self, state_dict: Mapping[str, Any], prefix: str, *, assign: bool = False
    ) -> None:
        """Looks at what a checkpoint holds for this value, before anything of it is loaded.

        Args:
            state_dict: the checkpoint, in which this value may be missing.
            prefix: what the keys of this value begin with.
            assign: whether the checkpoint's tensor is to take the place of the raw Parameter.

        Raises:
            CheckpointError: other constants, under which the raw values would mean other values;
                no constants, or ones that make no sense; no raw tensor of this shape, or one
                that is not finite.
        """
        raw = state_dict.get(f"{prefix}original")
        if raw is None:
            return
        with placed(self.path_in_network):
            if not is_tensor_like(raw):
                raise CheckpointError(f"the checkpoint has {describe(raw)} for the raw tensor.")
            if not _is_same_shape(raw, self.raw):
                raise CheckpointError(
                    f"size mismatch for {prefix}original: {tuple(raw.shape)} in the checkpoint, "
                    f"{tuple(self.raw.shape)} here. Call make_trainable with the same names and "
                    f"shape as when the checkpoint was written."
                )
            if (unfit := why_not_real(raw)) is not None:
                raise CheckpointError(f"the checkpoint's raw tensor is unfit: {'; '.join(unfit)}.")
            dtype = raw.dtype if assign else self.raw.dtype
            for index in range(len(self)):
                each: Any = self[index]
                if _keeps_constants(each):
                    key = f"{prefix}{index}._extra_state"
                    if key not in state_dict:
                        raise CheckpointError(
                            f"the checkpoint has raw values and not the constants of {each!r} "
                            f"that give them their meaning; {key!r} is missing."
                        )
                    each.check_extra_state(state_dict[key], dtype)
            if not raw.is_meta and not bool(torch.isfinite(raw.to(dtype)).all()):
                raise CheckpointError(
                    f"the checkpoint holds raw values that are not finite, {describe(raw)}: it "
                    f"was written after training diverged. Load an earlier one."
                )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        assign = bool(local_metadata.get("assign_to_params_buffers"))
        self.check_state(state_dict, prefix, assign=assign)
        # Raw numbers and constants mean a value together, also where a load is interrupted.
        raw, numbers = self.raw, self.raw.detach().clone()
        maps: list[Any] = [each for each in self._modules.values() if _keeps_constants(each)]
        constants = [each.present_constants() for each in maps]
        errors = len(error_msgs)
        try:
            super()._load_from_state_dict(
                *(state_dict, prefix, local_metadata, strict),
                *(missing_keys, unexpected_keys, error_msgs),
            )
            self._load_constants(
                state_dict, prefix, f"{prefix}original" in state_dict and len(error_msgs) == errors
            )
        except BaseException:
            self._parameters["original"] = raw
            with torch.no_grad():
                raw.copy_(numbers)
            for each, kept in zip(maps, constants, strict=True):
                each.restore(kept)
            self._raw_changed()
            raise

    def _load_constants(self, state_dict: dict[str, Any], prefix: str, is_loaded: bool) -> None:
        """Has the maps adopt the constants of a checkpoint, if its raw tensor has been loaded."""
        for index in range(len(self)):
            own = f"{prefix}{index}."
            each: Any = self[index]
            if not is_loaded:
                # Constants give the raw values their meaning. Without a raw tensor, the map
                # loads what it has already.
                kept = each.state_dict(prefix=own)
                state_dict.update({key: kept[key] for key in kept if key in state_dict})
            elif _keeps_constants(each):
                each.adopt_extra_state(state_dict[f"{own}_extra_state"])
        if is_loaded:
            alive.note_change()
            self.fingerprint = fingerprint(self.raw)


def in_words(maps: Iterable[nn.Module]) -> str:
    """A chain of maps for messages and tables, from the first map to the last."""
    return " -> ".join(map(repr, maps))


def _keeps_constants(each: nn.Module) -> bool:
    """Whether a map writes its constants into the state dict as this library does."""
    base = Parametrization.get_extra_state
    return isinstance(each, Parametrization) and type(each).get_extra_state is base


def _is_same_shape(entry: Any, raw: Tensor) -> bool:
    """Whether torch loads a tensor of a checkpoint: it takes one of shape (1,) for a scalar."""
    return entry.shape == raw.shape or (raw.ndim, tuple(entry.shape)) == (0, (1,))


def _is_foreign(each: nn.Module) -> bool:
    """Whether a map was written outside this library, and states a domain.

    The library's own maps refuse values outside their domain themselves.
    """
    return isinstance(each, Parametrization) and not isinstance(each, LimitedMap)


def _invert(maps: Iterable[Any], value: Tensor) -> Tensor:
    """The raw tensor for a value, through the inverses of the maps from the last to the first.

    Raises:
        OutOfDomainError: a value is outside the domain of its map.
    """
    for each in reversed(list(maps)):
        if _is_foreign(each):
            each.refuse_where(each.outside(value), value)
        value = each.right_inverse(value)
    return value


def _agree(one: Tensor, other: Tensor) -> Tensor:
    """Which entries are the same, as far as the inverse of a user's map must be exact."""
    return torch.isclose(one.double(), other.double(), rtol=1e-2, atol=0.0)


def _packed(saved: Tensor) -> tuple[Tensor, int]:
    # The tensor is detached. Otherwise an output and its graph node keep each other alive.
    return saved.detach(), saved._version


def _unpacked(packed: tuple[Tensor, int]) -> Tensor:
    saved, version = packed
    if saved._version != version:  # With hooks for saved tensors, torch does not check this.
        raise RuntimeError(MODIFIED)
    return saved


def _called_by_functional_call() -> bool:
    """Whether `torch.func.functional_call` makes an assignment when it begins.

    It means to lend the module a tensor, and assigning would store it: the gradient to the
    tensor would be lost, and what it puts back afterwards is the value, not the raw tensor.
    """
    accessor = "torch.nn.utils._named_member_accessor"
    return any(frame.f_globals.get("__name__") == accessor for frame in callers())
