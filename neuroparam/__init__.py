"""Trainable time constants and thresholds for spiking neural networks in PyTorch."""

from neuroparam import errors
from neuroparam.checkpoints import plain_state_dict
from neuroparam.guard import check_gradients
from neuroparam.inspect import find, neuron_parameters, param_groups, summary, values
from neuroparam.parametrizations import BoundedSigmoid, ExpScaledLog, Parametrization, Softplus
from neuroparam.quantities import Quantity
from neuroparam.scope import cached
from neuroparam.trainable import make_fixed, make_trainable
from neuroparam.units import Decay, Rate, Steps

__all__ = [
    "BoundedSigmoid",
    "Decay",
    "ExpScaledLog",
    "Parametrization",
    "Quantity",
    "Rate",
    "Softplus",
    "Steps",
    "cached",
    "check_gradients",
    "errors",
    "find",
    "make_fixed",
    "make_trainable",
    "neuron_parameters",
    "param_groups",
    "plain_state_dict",
    "summary",
    "values",
]

__version__ = "0.1.0"
