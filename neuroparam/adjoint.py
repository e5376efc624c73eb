"""Whole sequences of LIF neurons as one autograd function, with the gradient of every parameter."""

from neuroparam._adjoint.snntorch_sequence import sequence
from neuroparam._adjoint.switch import use_adjoint, use_autograd

__all__ = ["sequence", "use_adjoint", "use_autograd"]
