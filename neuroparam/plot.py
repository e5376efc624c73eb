"""Pictures of trained values. matplotlib is imported only when one is drawn."""

from neuroparam._looking.plot import distributions

__all__ = ["distributions"]
