"""Pictures of values. matplotlib is imported only when one is drawn."""

from neuroparam._looking.plot import distributions, histories

__all__ = ["distributions", "histories"]
