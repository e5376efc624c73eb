"""Distributions of initial values for `make_trainable(..., init=...)` and `set_values`."""

from neuroparam._attaching.starts import gamma, log_normal, log_uniform

__all__ = ["gamma", "log_normal", "log_uniform"]
