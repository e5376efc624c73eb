"""neuron_parameters and param_groups: what an optimizer is given."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from neuroparam._attaching.names import Name
from neuroparam._attaching.resolve import claimed_places
from neuroparam._ground.errors import InvalidArgumentError
from neuroparam._ground.real import as_real
from neuroparam._value.place import attached

__all__ = ["neuron_parameters", "param_groups"]


def neuron_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The raw Parameters of all attached values, for an optimizer.

    Args:
        module: a module with attached parameters.

    Returns:
        The Parameters, in the order of `values`, each in the shape of its value.

    Raises:
        UnsupportedModuleError: it is no module.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable, neuron_parameters
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> neuron_parameters(make_trainable(module, "tau"))
        [Parameter containing:
        tensor(0., requires_grad=True)]
    """
    # Values that are tied have one raw tensor.
    found = {id(raw): raw for raw in (place.parameter.raw for place in attached(module))}
    return list(found.values())


def param_groups(
    module: nn.Module,
    lr: float,
    neuron_lr: float | Mapping[Name, float | Mapping[str, Any]] | None = None,
    *,
    weight_decay: float = 0.0,
    neuron_weight_decay: float = 0.0,
    bias_weight_decay: float | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: the weights, and the neuron parameters.

    Args:
        module: a module with attached parameters.
        lr: learning rate of all other parameters.
        neuron_lr: learning rate of the raw neuron parameters; None: the same. With Adam and a
            rate that is tuned for the weights, the same was the best of 0.03 to 30 times over
            eight tasks and three units, and 3 times cost 0.7 points more; with weights that train
            too slowly, 3 to 10 times was better (examples/evidence/regret.py, and the guide's
            page "What training time constants buys"). Or a mapping from names, as for
            `make_fixed`, to the rate of each, or to options (`{"*.beta": {"lr": 1e-2, "betas":
            (0.9, 0.95)}}`): each name is a group, what no name fits has `lr`, and the most
            specific name counts.
        weight_decay: of all other parameters.
        neuron_weight_decay: of the raw neuron parameters; it pulls each value to its
            parametrization's reference, not to zero.
        bias_weight_decay: of those other parameters that have fewer than two dimensions: biases,
            and the parameters of normalisation layers; None: `weight_decay`.
        **options: further options of the optimizer, for every group.

    Returns:
        Groups that have parameters, each with `params`, `lr`, `weight_decay` and `name`.

    Raises:
        UnsupportedModuleError: it is no module.
        InvalidArgumentError: a learning rate or weight decay is no finite number >= 0, or an
            option is a misspelt one.
        UnknownNameError: names mean no attached value.
        AmbiguousNameError: a name fits several attached values.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable, param_groups
        >>> module = torch.nn.Linear(2, 2)
        >>> module.tau = 20.0
        >>> groups = param_groups(make_trainable(module, "tau"), lr=2e-3, neuron_lr=2e-2)
        >>> optimizer = torch.optim.Adam(groups)
        >>> [(group["name"], len(group["params"]), group["lr"]) for group in groups]
        [('weights', 2, 0.002), ('neuron parameters', 1, 0.02)]
    """
    rates: dict[str, object] = {
        "lr": lr,
        "weight_decay": weight_decay,
        "neuron_weight_decay": neuron_weight_decay,
    }
    if neuron_lr is not None and not isinstance(neuron_lr, Mapping):
        rates["neuron_lr"] = neuron_lr
    if bias_weight_decay is not None:
        rates["bias_weight_decay"] = bias_weight_decay
    for argument, given in rates.items():
        _refuse_negative(argument, given)
    _refuse_misspelt(options)
    neuron = neuron_parameters(module)
    own = {id(parameter) for parameter in neuron}
    others = [p for p in nn.Module.parameters(module) if id(p) not in own]
    apart = bias_weight_decay is not None
    groups = [
        {
            "name": "weights",
            "params": [p for p in others if p.ndim > 1 or not apart],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {
            "name": "biases",
            "params": [p for p in others if p.ndim < 2 and apart],
            "lr": lr,
            "weight_decay": bias_weight_decay,
        },
    ]
    of_neurons = {"weight_decay": neuron_weight_decay}
    if isinstance(neuron_lr, Mapping):
        named = _named_groups(module, neuron_lr)
        taken = {id(parameter) for group in named for parameter in group["params"]}
        groups += [{"lr": lr, **of_neurons, **group} for group in named]
        neuron = [parameter for parameter in neuron if id(parameter) not in taken]
    rate = neuron_lr if "neuron_lr" in rates else lr
    groups.append({"name": "neuron parameters", "params": neuron, "lr": rate, **of_neurons})
    return [{**options, **group} for group in groups if group["params"]]


def _named_groups(module: nn.Module, given: Mapping[Name, Any]) -> list[dict[str, Any]]:
    """A group of neuron parameters for each name, with what is given for it."""
    groups: dict[Name, dict[str, Any]] = {}
    for name, options in given.items():
        own = dict(options) if isinstance(options, Mapping) else {"lr": options}
        _refuse_misspelt(own)
        for option in ("lr", "weight_decay"):
            if option in own:
                _refuse_negative(f"neuron_lr[{name!r}]", own[option])
        groups[name] = {**own, "name": f"neuron parameters {name}", "params": []}
    taken: set[int] = set()
    for name, place in claimed_places(module, given):
        raw = place.parameter.raw
        if id(raw) not in taken:  # It may be tied to another.
            groups[name]["params"].append(raw)
            taken.add(id(raw))
    return list(groups.values())


def _refuse_misspelt(options: Mapping[str, object]) -> None:
    """Raises where an option is nearly one that is known. torch takes groups with any.

    Raises:
        InvalidArgumentError: saying which is meant.
    """
    for option, given in options.items():
        if option in _known_options():
            continue
        near = difflib.get_close_matches(option, _known_options(), n=1, cutoff=0.9)
        if near:
            raise InvalidArgumentError(
                option, given, f"is no option of an optimizer of torch; did you mean {near[0]!r}?"
            )


@functools.cache
def _known_options() -> frozenset[str]:
    """The arguments of `param_groups`, and those of every optimizer of torch."""
    known = {*inspect.signature(param_groups).parameters, "name"}
    for kind in vars(torch.optim).values():
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            known |= inspect.signature(kind).parameters.keys()
    return frozenset(known)


def _refuse_negative(argument: str, given: object) -> None:
    """Raises unless it is given a finite number that is not negative.

    Raises:
        InvalidArgumentError: it is something else.
    """
    found = as_real(given)
    if found is None or not 0 <= found < math.inf:
        raise InvalidArgumentError(argument, given, "must be a finite number >= 0, such as 1e-3")
