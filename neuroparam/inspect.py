"""What `find` returns, and what looks at a module, under the path of earlier releases."""

from neuroparam._looking.candidates import Candidate, Candidates, find
from neuroparam._looking.groups import neuron_parameters, param_groups
from neuroparam._looking.summary import summary
from neuroparam._looking.values import values

__all__ = [
    "Candidate",
    "Candidates",
    "find",
    "neuron_parameters",
    "param_groups",
    "summary",
    "values",
]
