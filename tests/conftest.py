"""Profiles of hypothesis: `pytest --hypothesis-profile thorough` for the long run."""

import os
import sys

import pytest
import torch
from hypothesis import HealthCheck, settings

# pytest shows what an assertion compared; here also in what the tests share
pytest.register_assert_rewrite("tests.support")

# the tensors of the tests are small: more threads only wait for each other
torch.set_num_threads(1)

# importing Rockpool imports a stub that calls pip to replace itself; this makes it fail at once
os.environ.setdefault("PIP_NO_INDEX", "1")

settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough", deadline=None, max_examples=3000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def no_neurons_of_other_tests() -> None:
    """snnTorch keeps a list of all neurons ever built, and its `utils.reset` goes through it."""
    snntorch = sys.modules.get("snntorch")
    if snntorch is not None:
        snntorch.SpikingNeuron.init()
