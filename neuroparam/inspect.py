"""What `find` returns, and what looks at a module, under the path of earlier releases."""

from neuroparam._looking.audit import Audit, Audited, audit
from neuroparam._looking.candidates import Candidate, Candidates, find
from neuroparam._looking.groups import neuron_parameters, param_groups
from neuroparam._looking.summary import summary
from neuroparam._looking.values import values

__all__ = [
    "Audit",
    "Audited",
    "Candidate",
    "Candidates",
    "audit",
    "find",
    "neuron_parameters",
    "param_groups",
    "summary",
    "values",
]
