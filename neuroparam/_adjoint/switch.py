"""use_adjoint and use_autograd: the class of a network's layers says who computes the gradients."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping
from typing import Any, Literal, TypeVar

from torch import nn

from neuroparam._ground.errors import (
    InvalidArgumentError,
    MisuseWarning,
    UnsupportedModuleError,
)
from neuroparam._ground.messages import listing, warn
from neuroparam._value.injected import change_class, own_class, parametrizations_of
from neuroparam._value.parameter import NeuronParameter
from neuroparam._value.place import refuse_non_module

__all__ = ["use_adjoint", "use_autograd"]

Rule = Literal["surrogate", "event"]
_Module = TypeVar("_Module", bound=nn.Module)

# Time steps in seconds up to which EventProp's gradient on a grid is mostly near the exact one.
_FINE = 2e-4
_OPTIONS = ("lean", "rule")
_WEIGHTS = ("input_weights", "recurrent_weights")


def use_adjoint(module: _Module, *, lean: bool = False, rule: Rule = "surrogate") -> _Module:
    """Computes each sequence of Norse's LIF layers as one autograd function.

    Every `LIF`, `LIFRecurrent`, `LIFCell` and `LIFRecurrentCell` of Norse in the network becomes
    an instance of a subclass of itself. Its forward is the same, bit for bit. Its backward is the
    adjoint recursion, which gives the gradients that autograd gives, up to rounding, for inputs,
    weights, states and all neuron parameters: attached values, plain Parameters and numbers.
    Values can be attached and fixed before and after. State dicts are the same.

    Norse itself runs, with equal results, under `torch.compile`, `torch.func`, autocast and
    `no_grad`, for sparse inputs and with `record_states=True`.

    Args:
        module: a network with layers of Norse, or one of them.
        lean: Whether to keep the states of about sqrt(time) steps only, and to compute the others
            again in the backward pass. Cells, which compute one step, do not change by it.
        rule: How a gradient goes through a spike. "surrogate" is the surrogate derivative that
            Norse defines. "event" is experimental: EventProp's gradient of the time of the spike
            (Wunderlich and Pehle, Scientific Reports 11, 12829, 2021), taken on the time grid. The
            guide's page on it says when it is near the exact gradient, and what its loss needs.

    Returns:
        The same module.

    Raises:
        UnsupportedModuleError: it is no module, it holds none of these layers, or one of its
            layers uses Norse's own adjoint, has parametrized weights, or is a cell where the rule
            is "event". Nothing has changed then.
        InvalidArgumentError: `lean` is neither True nor False, or there is no such rule.

    Examples:
        >>> import norse.torch as norse
        >>> import torch
        >>> from neuroparam import make_trainable, neuron_parameters
        >>> from neuroparam.adjoint import use_adjoint
        >>> layer = make_trainable(norse.LIFRecurrent(4, 3), ["tau_mem_inv", "v_th"], shape=(3,))
        >>> layer = use_adjoint(layer)
        >>> spikes, state = layer(torch.ones(100, 2, 4))
        >>> spikes.sum().backward()
        >>> [tuple(raw.grad.shape) for raw in neuron_parameters(layer)]
        [(3,), (3,)]
    """
    refuse_non_module(module)
    if not isinstance(lean, bool):
        raise InvalidArgumentError("lean", lean, "must be True or False")
    if rule not in ("surrogate", "event"):
        raise InvalidArgumentError("rule", rule, "must be 'surrogate' or 'event'")
    known = _norse_classes()
    layers = _layers(module, {**known, **{kind: kind for kind in known.values()}})
    if not layers:
        raise _nothing_found(module, known)
    if rule == "event":
        _check_for_events(module, layers)
    _change(layers, {"lean": lean, "rule": rule})
    return module


def use_autograd(module: _Module) -> _Module:
    """Gives the layers that `use_adjoint` changed back to Norse and autograd.

    Args:
        module: a network, or a layer. Layers with autograd stay as they are.

    Returns:
        The same module.

    Raises:
        UnsupportedModuleError: it is no module, or a layer with the adjoint has parametrized
            weights. Nothing has changed then.

    Examples:
        >>> import norse.torch as norse
        >>> from neuroparam.adjoint import use_adjoint, use_autograd
        >>> use_autograd(use_adjoint(norse.LIF()))  # doctest: +ELLIPSIS
        LIF(p=LIFParameters(...), dt=0.001)
    """
    refuse_non_module(module)
    _change(_layers(module, {kind: plain for plain, kind in _norse_classes().items()}), {})
    return module


_Classes = Mapping[type[nn.Module], type[nn.Module]]


def _norse_classes() -> _Classes:
    """Norse's class -> the one with the adjoint; empty where Norse is not in use."""
    if "norse" not in sys.modules:
        return {}
    from neuroparam._adjoint.norse_layers import WITH_ADJOINT

    return WITH_ADJOINT


def _layers(module: nn.Module, classes: _Classes) -> dict[nn.Module, type[nn.Module]]:
    """The layers whose class is to change, each with its new class.

    Raises:
        UnsupportedModuleError: a layer uses Norse's own adjoint, or has parametrized weights.
    """
    found = {}
    for path, layer in nn.Module.named_modules(module):
        activation = getattr(layer.__dict__.get("activation"), "__module__", None) or ""
        if activation.startswith("norse.torch.functional.adjoint"):
            raise UnsupportedModuleError(
                f"{own_class(layer).__name__} computes with Norse's own adjoint, which gives no "
                f"gradients to neuron parameters and wrong ones to weights. Build it without: "
                f'method="super" in its parameters (the default), or adjoint=False.'
            ).at(path)
        new = classes.get(own_class(layer))
        if new is None:
            continue
        for name, each in parametrizations_of(layer).items():
            if name in _WEIGHTS and not isinstance(each, NeuronParameter):
                raise UnsupportedModuleError(
                    f"{name} carries a parametrization, which is bound to the present class of "
                    f"the layer. Remove it (torch.nn.utils.parametrize.remove_parametrizations), "
                    f"make this call, and register it again."
                ).at(path)
        found[layer] = new
    return found


def _check_for_events(module: nn.Module, layers: Container[nn.Module]) -> None:
    """Refuses cells, and warns of time steps in which EventProp's gradient is far from exact.

    Raises:
        UnsupportedModuleError: one of the layers is a cell. All its gradients would be zero,
            because the rule compares each step with the next.
    """
    coarse = {}
    for path, layer in nn.Module.named_modules(module):
        if layer not in layers:
            continue
        if own_class(layer).__name__.endswith("Cell"):
            raise UnsupportedModuleError(
                f'{own_class(layer).__name__} computes one step, and the rule "event" needs the '
                f"whole sequence. Use LIF or LIFRecurrent."
            ).at(path)
        dt: Any = layer.dt
        if dt > _FINE:
            coarse[path or type(layer).__name__] = f"{1e3 * dt:g} ms"
    if coarse:
        warn(
            f'these layers have time steps on which the gradient of the rule "event" is far from '
            f"that of the times of spikes, and may have the wrong sign:\n"
            f"{listing(f'{path}: {dt}' for path, dt in coarse.items())}\n"
            f'Use {1e3 * _FINE:g} ms or less, or rule="surrogate".',
            MisuseWarning,
        )


def _nothing_found(module: nn.Module, classes: _Classes) -> UnsupportedModuleError:
    message = (
        f"{type(module).__name__} holds no LIF, LIFCell, LIFRecurrent or LIFRecurrentCell of "
        f"Norse, the layers that have an adjoint here."
    )
    derived = [
        f"{path}: {type(layer).__name__}" if path else type(layer).__name__
        for path, layer in nn.Module.named_modules(module)
        if isinstance(layer, tuple(classes))
    ]
    if derived:
        message += (
            f" These are of classes derived from them, whose code may compute something else:\n"
            f"{listing(derived)}\nUse the layers themselves."
        )
    return UnsupportedModuleError(message)


def _change(layers: Mapping[nn.Module, type[nn.Module]], options: Mapping[str, Any]) -> None:
    """Changes the classes and the options of layers: of all, or of none if it is interrupted."""
    before = {layer: (type(layer), dict(layer.__dict__)) for layer in layers}
    try:
        for layer, kind in layers.items():
            change_class(layer, kind)
            for name in _OPTIONS:
                layer.__dict__.pop(name, None)
            layer.__dict__.update(options)
    except BaseException:
        for layer, (kind, attributes) in before.items():
            layer.__class__ = kind
            layer.__dict__.clear()
            layer.__dict__.update(attributes)
        raise
