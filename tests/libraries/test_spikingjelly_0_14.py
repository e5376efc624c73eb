"""SpikingJelly 0.0.0.0.14 is refused by name: its TorchScript functions take floats.

It cannot be installed beside 2.0; `.ci/run` puts it before it on the path for this file.
"""

from __future__ import annotations

from importlib.metadata import version

import pytest
from torch import nn

from neuroparam import Quantity, errors, find, make_trainable
from tests.support.modules import assert_unchanged, snapshot

if version("spikingjelly") != "0.0.0.0.14":
    pytest.skip("needs SpikingJelly 0.0.0.0.14", allow_module_level=True)

from spikingjelly.activation_based import neuron

NODES = (
    neuron.IFNode,
    neuron.LIFNode,
    neuron.ParametricLIFNode,
    neuron.QIFNode,
    neuron.EIFNode,
    neuron.IzhikevichNode,
    neuron.KLIFNode,
)


@pytest.mark.parametrize("kind", NODES)
def test_every_node_is_refused_by_name(kind: type[nn.Module]) -> None:
    node = kind()
    before = snapshot(node)
    with pytest.raises(errors.NotTrainableError, match=r"Upgrade to SpikingJelly 2\.0"):
        make_trainable(node, "v_threshold")
    network = nn.Sequential(nn.Linear(2, 2), node)
    with pytest.raises(errors.NotTrainableError, match=r"'1\.v_threshold' .* Upgrade"):
        make_trainable(network, Quantity.THRESHOLD)
    assert not find(node)
    assert_unchanged(node, before)
