"""The maps under the path that they had in earlier releases; import them from `neuroparam`."""

from neuroparam._maps.base import Parametrization
from neuroparam._maps.bounded_sigmoid import BoundedSigmoid
from neuroparam._maps.exp_scaled_log import ExpScaledLog
from neuroparam._maps.softplus import Softplus

__all__ = ["BoundedSigmoid", "ExpScaledLog", "Parametrization", "Softplus"]
