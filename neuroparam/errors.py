"""The errors of neuroparam: each says what was given, what was found, where, and what to do."""

from neuroparam._ground.errors import *  # noqa: F403
from neuroparam._ground.errors import __all__ as __all__
