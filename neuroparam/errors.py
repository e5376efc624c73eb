"""The errors of neuroparam: each says what was given, what was found, where, and what to do."""

# `__all__` of that module says which names are public, and is the only list of them.
from neuroparam._ground.errors import *  # noqa: F403
from neuroparam._ground.errors import __all__ as __all__
