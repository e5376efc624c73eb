"""Looking at what is trained: values, tables, optimizer groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroparam.attachment import attached
from neuroparam.parametrizations import Parametrization

__all__ = ["neuron_parameters", "param_groups", "summary", "values"]


def values(module: nn.Module) -> dict[str, Tensor]:
    """The present values of all attached parameters.

    Args:
        module: a module with attached parameters.

    Returns:
        Path -> value in the unit in which the module stores it; a copy without gradient.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> values(make_trainable(module, "tau"))
        {'tau': tensor(20.)}
    """
    with torch.no_grad():
        return {a.path: a.parameter().detach().clone() for a in attached(module)}


def neuron_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The raw Parameters of all attached values, for an optimizer.

    Args:
        module: a module with attached parameters.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> neuron_parameters(make_trainable(module, "tau"))
        [Parameter containing:
        tensor(0., requires_grad=True)]
    """
    return [a.parameter.raw for a in attached(module)]


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
        neuron_lr: learning rate of the raw neuron parameters; None: the same.
        weight_decay: of all other parameters.
        neuron_weight_decay: of the raw neuron parameters; it pulls each value to its
            parametrization's reference, not to zero.

    Returns:
        Groups that have parameters, each with `params`, `lr`, `weight_decay` and `name`.

    Examples:
        >>> import torch
        >>> from neuroparam import make_trainable
        >>> module = torch.nn.Linear(2, 2)
        >>> module.tau = 20.0
        >>> groups = param_groups(make_trainable(module, "tau"), lr=2e-3, neuron_lr=2e-2)
        >>> optimizer = torch.optim.Adam(groups)
        >>> [(group["name"], len(group["params"]), group["lr"]) for group in groups]
        [('weights', 2, 0.002), ('neuron parameters', 1, 0.02)]
    """
    neuron = neuron_parameters(module)
    own = {id(parameter) for parameter in neuron}
    groups: list[dict[str, Any]] = [
        {
            "name": "weights",
            "params": [p for p in module.parameters() if id(p) not in own],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {
            "name": "neuron parameters",
            "params": neuron,
            "lr": lr if neuron_lr is None else neuron_lr,
            "weight_decay": neuron_weight_decay,
        },
    ]
    return [group for group in groups if group["params"]]


def summary(module: nn.Module) -> str:
    """A table of all attached values.

    Args:
        module: a module with attached parameters.

    Returns:
        A table with a line per value: path, parametrization, shape, minimum, median and
        maximum of the value, its domain, and how many entries lie inside.

    Examples:
        >>> import torch
        >>> from neuroparam import ExpScaledLog, make_trainable
        >>> module = torch.nn.Module()
        >>> module.tau = 20.0
        >>> print(summary(make_trainable(module, {"tau": ExpScaledLog()})))
        name  parametrization                        shape  min  median  max  domain    inside
        tau   ExpScaledLog(scale=1, reference=20)    ()      20      20   20  (0, inf)     1/1
    """
    header = ("name", "parametrization", "shape", "min", "median", "max", "domain", "inside")
    rows: list[tuple[str, ...]] = [header]
    present = values(module)
    for a in attached(module):
        value = present[a.path]
        last = a.parameter.last
        inside, domain = int(torch.isfinite(value).sum()), ""
        if isinstance(last, Parametrization):
            domain = last.domain_in_words()
            inside = int((~last.outside(value)).sum())
        rows.append(
            (
                a.path,
                " -> ".join(repr(link) for link in a.parameter),
                str(tuple(value.shape)),
                *(f"{s.item():.4g}" for s in (value.min(), value.median(), value.max())),
                domain,
                f"{inside}/{value.numel()}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    numeric = {3, 4, 5, 7}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
