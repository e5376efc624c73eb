"""What people get to read for the commonest slips: the reason, in their words, and the cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import norse.torch as norse
import numpy as np
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import neuron
from torch import nn
from torch.distributions import Normal

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    errors,
    find,
    freeze,
    make_trainable,
    param_groups,
    set_values,
    summary,
    values,
)


def net() -> nn.Module:
    return nn.ModuleDict(
        {"dense": nn.Linear(3, 4), "lif1": snn.Leaky(beta=0.9), "lif2": snn.Leaky(beta=0.9)}
    )


def other_map() -> None:
    saved = make_trainable(net(), {"*.beta": ExpScaledLog()}).state_dict()
    make_trainable(net(), {"*.beta": BoundedSigmoid(0, 1)}).load_state_dict(saved)


def drifted() -> None:
    saved = net().state_dict()
    saved["lif1.beta"] = torch.tensor(1.02)
    make_trainable(net(), "*.beta").load_state_dict(saved)


def both() -> nn.Module:
    return make_trainable(net(), ["*.beta", "*.threshold"])


def _as_pattern(heading: str) -> re.Pattern[str]:
    """A heading of the guide's page as a pattern, with its numbers left open."""
    words = re.split(r"\s*\.\.\.\s*|-?\d[\d.]*|, inf|-inf", heading)
    return re.compile(r"[\s\S]*?".join(map(re.escape, words)))


PAGE = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text()
HEADINGS = [_as_pattern(each) for each in re.findall("^### (.*)$", PAGE, re.MULTILINE)]

MEANT = "did you mean Quantity.TAU_MEM, stored as 'lif1.beta'?"
SLIPS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "a map as the initial value": (
        lambda: make_trainable(net(), "*.beta", BoundedSigmoid(0, 1)),
        ("third argument is the initial value", "{name: parametrization}"),
    ),
    "a shape of -1": (
        lambda: make_trainable(net(), "*.beta", shape=-1),
        ("shape of 'lif1.beta' must be positive integers", "got -1"),
    ),
    "a shape by an unknown word": (
        lambda: make_trainable(net(), "*.beta", shape="auto"),
        ("shape must be positive integers", "'neuron', 'channel', 'layer'"),
    ),
    "a quantity that nothing stores": (
        lambda: make_trainable(net(), Quantity.TAU_SYN, dt=1e-3),
        ("stores no synaptic time constant", "lif1.beta"),
    ),
    "a quantity as a word": (lambda: make_trainable(net(), "TAU_MEM"), (MEANT,)),
    "a quantity as code": (lambda: make_trainable(net(), "Quantity.TAU_MEM"), (MEANT,)),
    "another library's name": (lambda: make_trainable(net(), "tau_mem"), (MEANT,)),
    "a name of the field": (lambda: make_trainable(net(), "tau"), (MEANT,)),
    "a name of the field, mapped": (
        lambda: make_trainable(neuron.ParametricLIFNode(), "tau"),
        ("did you mean Quantity.TAU_MEM, stored as 'w'?",),
    ),
    "a time constant for a decay": (
        lambda: make_trainable(net(), "*.beta", 20),
        ("20 is outside (0, 1)", "membrane decay per step", "in seconds it is Quantity.TAU_MEM"),
    ),
    "a rate beyond the step": (
        lambda: make_trainable(norse.LIFCell(), "tau_mem_inv", 2000),
        ("2000 is outside (0, 1000)", "forward Euler, and the bound is the time step"),
    ),
    "seconds for steps": (
        lambda: make_trainable(neuron.LIFNode(), "tau", 20e-3),
        ("0.02 is outside (1, inf)", "in steps", "in seconds it is Quantity.TAU_MEM"),
    ),
    "a path for values": (
        # The wrong type is what this message is about.
        lambda: values(make_trainable(net(), "*.beta"), "lif1.beta"),  # type: ignore[arg-type]
        ("values(net)['lif1.beta']",),
    ),
    "seconds without a step": (
        lambda: values(make_trainable(net(), "*.beta"), Quantity.TAU_MEM),
        ("'lif1.beta': Leaky has no time step of its own", "dt=1e-3"),
    ),
    "a checkpoint of another map": (
        other_map,
        ("'lif1.beta'", "parametrization='ExpScaledLog'", "has BoundedSigmoid("),
    ),
    "a checkpoint that has drifted": (
        drifted,
        ("'lif1.beta': 1.02 is outside (0, 1)", "clamp it in the checkpoint first"),
    ),
    "one start for seconds and volts": (
        lambda: make_trainable(net(), [Quantity.TAU_MEM, "lif1.threshold"], 20e-3, dt=1e-3),
        ("Quantity.TAU_MEM, in seconds", "'lif1.threshold', in another unit (voltage)"),
    ),
    "one value for seconds and volts": (
        lambda: set_values(both(), [Quantity.TAU_MEM, Quantity.THRESHOLD], 20e-3, dt=1e-3),
        ("{Quantity.TAU_MEM: ..., Quantity.THRESHOLD: ...}",),
    ),
    "a quantity that is not attached": (
        lambda: freeze(make_trainable(net(), "*.beta"), Quantity.THRESHOLD),
        ("ModuleDict has no trainable value named", "none of its attached values is a threshold"),
    ),
    "a shape of another layer": (
        lambda: make_trainable(snn.Leaky(beta=0.9), "beta", shape=(7,))(torch.rand(4, 8)),
        ("'beta' has shape (7,)", "shape=(8,) for one value per neuron"),
    ),
    "a checkpoint of another shape": (
        lambda: make_trainable(net(), "*.beta", shape=(4,)).load_state_dict(
            net().state_dict() | {"lif1.beta": torch.full((3,), 0.9)}
        ),
        ("'lif1.beta'", "its shape is (4,), and stays so", "Load it before make_trainable"),
    ),
    "a misspelt argument": (
        lambda: param_groups(both(), lr=1e-3, neurons_lr=1e-2),
        ("neurons_lr", "did you mean 'neuron_lr'?"),
    ),
    "a misspelt option": (
        lambda: param_groups(both(), 1e-3, {"*.beta": {"lr": 1e-2, "weight_decy": 0.1}}),
        ("weight_decy", "did you mean 'weight_decay'?"),
    ),
    "a start for nothing": (
        lambda: make_trainable(net(), "*.beta", init={"lif3.beta": 0.5}),
        ("'lif3.beta'", "lif1.beta"),
    ),
    "a distribution beyond the domain": (
        lambda: make_trainable(net(), "*.beta", Normal(0.5, 0.1)),
        ("support (-inf, inf) leaves the domain (0, 1)",),
    ),
    "a function of sizes": (
        lambda: make_trainable(net(), "*.beta", np.random.rand, shape=(3,)),
        ("from a shape, as one tuple", "numpy.random.random_sample"),
    ),
    "a function that fills": (
        lambda: make_trainable(net(), "*.beta", nn.init.uniform_, shape=(3,)),
        ("from a shape, as one tuple", "torch.rand(shape)"),
    ),
}


@pytest.mark.parametrize(("slip", "says"), SLIPS.values(), ids=SLIPS)
def test_a_slip_is_answered_in_the_user_s_words(
    slip: Callable[[], Any], says: tuple[str, ...]
) -> None:
    with pytest.raises(errors.NeuroparamError) as caught:
        slip()
    assert any(heading.search(str(caught.value)) for heading in HEADINGS), "is in no heading"
    for part in says:
        assert part in str(caught.value)
    assert "Parametrized" not in str(caught.value)
    assert "dense" not in str(caught.value)  # weights are not offered for neuron parameters


def test_where_nothing_is_attached_or_found_the_tables_say_so() -> None:
    assert "find(net)" in str(summary(net()))
    assert "find(net)" in summary(net())._repr_html_()
    assert str(find(nn.Linear(2, 2))) == "nothing that could be trained was found"
