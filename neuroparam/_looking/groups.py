"""neuron_parameters and param_groups: what an optimizer is given."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

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
    neuron_lr: float | None = None,
    *,
    weight_decay: float = 0.0,
    neuron_weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Two groups for a torch optimizer: the weights, and the neuron parameters.

    Args:
        module: a module with attached parameters.
        lr: learning rate of all other parameters.
        neuron_lr: learning rate of the raw neuron parameters; None: the same. With Adam and a
            rate that is tuned for the weights, the same was the best of 0.03 to 30 times over
            eight tasks and three units, and 3 times cost 0.7 points more; with weights that train
            too slowly, 3 to 10 times was better (examples/evidence/regret.py, and the guide's
            page "What training time constants buys").
        weight_decay: of all other parameters.
        neuron_weight_decay: of the raw neuron parameters; it pulls each value to its
            parametrization's reference, not to zero.

    Returns:
        Groups that have parameters, each with `params`, `lr`, `weight_decay` and `name`.

    Raises:
        UnsupportedModuleError: it is no module.
        InvalidArgumentError: a learning rate or weight decay is no finite number >= 0.

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
    rates = {
        "lr": lr,
        "neuron_lr": lr if neuron_lr is None else neuron_lr,
        "weight_decay": weight_decay,
        "neuron_weight_decay": neuron_weight_decay,
    }
    for argument, given in rates.items():
        found = as_real(given)
        if found is None or not 0 <= found < math.inf:
            raise InvalidArgumentError(
                argument, given, "must be a finite number >= 0, such as 1e-3"
            )
    neuron = neuron_parameters(module)
    own = {id(parameter) for parameter in neuron}
    groups: list[dict[str, Any]] = [
        {
            "name": "weights",
            "params": [p for p in nn.Module.parameters(module) if id(p) not in own],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {
            "name": "neuron parameters",
            "params": neuron,
            "lr": rates["neuron_lr"],
            "weight_decay": neuron_weight_decay,
        },
    ]
    return [group for group in groups if group["params"]]
