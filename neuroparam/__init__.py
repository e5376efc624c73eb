"""Trainable time constants and thresholds for spiking neural networks in PyTorch."""

from neuroparam import errors
from neuroparam._attaching.setting import freeze, set_values, unfreeze
from neuroparam._attaching.trainable import make_fixed, make_trainable
from neuroparam._catalogue.quantities import Quantity
from neuroparam._catalogue.registry import register
from neuroparam._looking.audit import audit
from neuroparam._looking.candidates import find
from neuroparam._looking.groups import neuron_parameters, param_groups
from neuroparam._looking.recorder import Recorder
from neuroparam._looking.summary import summary
from neuroparam._looking.values import values
from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.softplus import Softplus
from neuroparam._maps.units import Decay, Rate, Steps
from neuroparam._training.checkpoints import plain_state_dict
from neuroparam._training.gradients import check_gradients
from neuroparam._value.once import cached

__all__ = [
    "BoundedSigmoid",
    "Decay",
    "ExpScaledLog",
    "Parametrization",
    "Quantity",
    "Rate",
    "Recorder",
    "Softplus",
    "Steps",
    "audit",
    "cached",
    "check_gradients",
    "errors",
    "find",
    "freeze",
    "make_fixed",
    "make_trainable",
    "neuron_parameters",
    "param_groups",
    "plain_state_dict",
    "register",
    "set_values",
    "summary",
    "unfreeze",
    "values",
]

__version__ = "1.0.0rc1"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
