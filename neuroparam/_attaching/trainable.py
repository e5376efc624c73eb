"""make_trainable and make_fixed: everything is refused first, and only then the module changes."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neuroparam._attaching.exchange import Undo, attach, detach, rebuild_records
from neuroparam._attaching.initial import Initial, Shape
from neuroparam._attaching.names import Name
from neuroparam._attaching.request import Names, Tie, requests
from neuroparam._attaching.resolve import attached_places
from neuroparam._attaching.slips import slip, warn_of_slips
from neuroparam._attaching.states import detach_states
from neuroparam._attaching.tie import build_all
from neuroparam._ground.errors import UnsupportedModuleError
from neuroparam._training.checkpoints import stop_watching_loads, watch_loads
from neuroparam._training.forward import stop_watching, watch_forward
from neuroparam._training.optimizers import refuse_not_finite
from neuroparam._training.processes import refuse_sharded, refuse_wrapped
from neuroparam._value.place import refuse_scripted

__all__ = ["make_fixed", "make_trainable"]

_Module = TypeVar("_Module", bound=nn.Module)


def make_trainable(
    module: _Module,
    names: Names,
    init: Initial | Mapping[Name, Initial] = None,
    *,
    shape: Shape | Mapping[Name, Shape] = None,
    dt: float | None = None,
    tie: Tie = None,
    example: Tensor | tuple[Any, ...] | None = None,
) -> _Module:
    """Makes time constants and thresholds of a module trainable, inside their valid range.

    Each named value is taken out of where the module stores it (a Parameter, a buffer, a plain
    tensor or number, a field of a NamedTuple or dataclass) and becomes a parametrized
    attribute in the same place: reading it gives the value, and the optimizer sees an
    unconstrained raw Parameter. The module's forward is left alone.

    Args:
        module: the module, or a whole network; it is changed in place.
        names: a name, several names, or a mapping name -> parametrization. A name is a dotted
            path (`"lif.p.tau_mem_inv"`), the end of one that fits a single place
            (`"tau_mem_inv"`), or a pattern for many (`"lif*.p.tau_mem_inv"`, `"*.beta"`); where
            several fit, a plain name counts before a pattern, and the pattern with more letters
            before the one with fewer. A `Quantity` (`Quantity.TAU_MEM`) means all values that
            the libraries store for it, in seconds whatever they store; a name or a pattern
            counts before it. Without a parametrization, a value gets the one that is right
            for its library, otherwise `ExpScaledLog()`. A list of parametrizations is applied
            from first to last. An instance is a recipe: each value gets a copy of its own.
        init: the initial value, in the unit in which the module stores it, or in seconds where
            the name is a time constant's `Quantity`: None (the present value), a number, a
            tensor or array, a `torch.distributions.Distribution`, or a callable
            `shape -> values`; or a mapping name -> one of these, whose names may also be finer
            than those in `names` (`{"hidden.*": 20e-3, "out.*": 50e-3}`); the most specific one
            counts, in the unit of the name in `names`. Constants that are left open are
            fitted to it; for a distribution to its mean, and for a callable to the present value,
            so that the same code gives the same constants.
        shape: the shape of the trainable value, for example `(100,)` for one value per neuron, or
            `(8, 1, 1)` for one per channel; or, with an `example`, "neuron", "channel" or "layer";
            or a mapping name -> shape, with names as for `init`. None keeps the shape, or takes
            that of `init`.
        dt: the time step of the simulation in seconds, which a `Quantity` needs where the
            library has none of its own (snnTorch, SpikingJelly, Sinabs).
        tie: which places share one trainable value: a name or pattern, whose places do
            (`tie="*.beta"`); several, each with a value of its own (`tie=["hidden*.beta",
            "out*.beta"]`), where a tuple of names counts as one (`[("a.beta", "b.beta")]`); or
            True, for one value for each of `names`. The places need the same parametrization,
            shape and present value; `init` gives them one. Fixing gives each place the value.
        example: an input of the network, as a tensor or a tuple of arguments, that tells how many
            neurons each layer has: copies of the network run with it, and with twice its batch
            and its time steps. A shape that does not fit is refused then.

    Returns:
        The module.

    After any error the module is what it was before. A `UnitWarning` says where a time constant
    that was given is shorter than a time step or longer than 10,000 of them.

    Raises:
        UnsupportedModuleError: not a `torch.nn.Module`, a ScriptModule, or wrapped for
            distributed training already.
        InvalidArgumentError: `names` is not of the kinds above, or empty; or an initial value or
            a shape cannot be used.
        UnknownNameError: names mean nothing here.
        AmbiguousNameError: a name fits several places.
        NotTrainableError: a name means something that cannot be trained, that is parametrized
            already, or that is a Parameter which other places hold too.
        EvaluationError: a map of the user's raises AttributeError.
        ParametrizationError: a parametrization is a class, has no `right_inverse`, or can leave
            the range in which a neuron module is valid.
        TimeStepError: a quantity needs `dt`, or it contradicts a module's own.
        OutOfDomainError: an initial value outside the domain of its parametrization.

    Examples:
        >>> import torch
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tau, self.threshold = 20.0, 1.0
        ...     def forward(self, x):
        ...         return x / self.tau - self.threshold
        >>> from neuroparam import ExpScaledLog, Softplus
        >>> leaky = make_trainable(
        ...     Leaky(), {"tau": ExpScaledLog(), "threshold": Softplus()}, shape=(3,)
        ... )
        >>> leaky.tau
        tensor([20., 20., 20.], grad_fn=<ChainBackward>)
        >>> [tuple(p.shape) for p in leaky.parameters()]
        [(3,), (3,)]
    """
    refuse_scripted(module)
    refuse_wrapped(module)
    asked = requests(module, names, init, shape, dt, tie, example)
    built, slips = [], []
    for request, parameter in zip(asked, build_all(module, asked), strict=True):
        if parameter.raw.dtype in (torch.float16, torch.bfloat16):
            warnings.warn(
                f"{parameter.path!r} is stored in {parameter.raw.dtype}: updates smaller than its "
                f"rounding are lost. Keep neuron parameters in float32.",
                stacklevel=2,
            )
        if request.init is not None or request.dt is not None:
            slips.append(slip(request.place, parameter, request.name, request.dt, request.init))
        parameter.root = weakref.ref(module)
        built.append((request.place, parameter))
    warn_of_slips(slips)
    # Everything that can be refused has been refused. From here on the module changes.
    values = [parameter for _, parameter in built]
    plain = [place.value for place, _ in built if isinstance(place.value, nn.Parameter)]
    undo = Undo(module, values, plain)
    try:
        detach_states(module, plain)
        for place, parameter in built:
            attach(place, parameter)
        watch_forward(module)
        watch_loads(module)
    except BaseException:
        undo()
        raise
    return module


def make_fixed(module: _Module, names: Name | Iterable[Name] | None = None) -> _Module:
    """Gives back the library's own module, with the trained values inside.

    The class, the record type and the kind of storage are what they were before
    `make_trainable`; a number stays a number unless it was made one value per neuron.
    To keep the trainable network, fix a copy: `make_fixed(copy.deepcopy(net))`.

    Args:
        module: a module with attached values; it is changed in place.
        names: which values to fix, as for `make_trainable`; None fixes all.

    Returns:
        The module.

    Raises:
        UnsupportedModuleError: not a `torch.nn.Module`, numbers on the meta device, or sharded.
        InvalidArgumentError: `names` is no name, and no list of names.
        UnknownNameError: names mean no attached value.
        AmbiguousNameError: a name fits several attached values.
        NonFiniteError: training has diverged, and there is no value to put back.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tau = 20.0
        >>> leaky = make_trainable(Leaky(), "tau")
        >>> leaky.tau = 5.0
        >>> make_fixed(leaky).tau
        5.0
    """
    refuse_scripted(module)
    refuse_sharded(
        module,
        "Load its full state dict (torch.distributed.checkpoint.state_dict.get_model_state_dict "
        "with full_state_dict=True) into a network that is not sharded, and fix that.",
    )
    chosen = attached_places(module, names)
    for place in chosen:
        if place.parameter.raw.is_meta and place.parameter.storage.is_number:
            raise UnsupportedModuleError(
                "it is to be a number again, and on the meta device there is none; materialise "
                "the module first (to_empty, load_state_dict)."
            ).at(place.path)
    refuse_not_finite([place.parameter for place in chosen], "at make_fixed")
    values = [place.parameter for place in chosen]
    undo = Undo(module, values, [value.memory for value in values])
    try:
        # The position of each value counts from when it was taken: the last one goes back first.
        for place in reversed(chosen):
            detach(place)
        rebuild_records(module)
        stop_watching(module)
        stop_watching_loads(module)
    except BaseException:
        undo()
        raise
    return module
