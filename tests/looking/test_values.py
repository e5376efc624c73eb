"""values, summary, neuron_parameters, param_groups and the picture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Softplus,
    make_trainable,
    neuron_parameters,
    param_groups,
    summary,
    values,
)
from neuroparam.plot import distributions
from tests.support.modules import FromRecord, Pair


def build() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3), FromRecord(Pair()))
    return make_trainable(
        network,
        {"tau": BoundedSigmoid(1.0, 100.0, spacing="log"), "gain": Softplus(lower=0.5)},
        init={"tau": torch.tensor([2.0, 4.0, 60.0])},
    )


def test_values_are_copies() -> None:
    network = build()
    present = values(network)
    assert list(present) == ["1.p.tau", "1.p.gain"]
    assert not present["1.p.tau"].requires_grad
    present["1.p.tau"].zero_()
    torch.testing.assert_close(network[1].p.tau.detach(), torch.tensor([2.0, 4.0, 60.0]))
    assert values(nn.Linear(2, 2)) == {}


def test_summary_says_what_is_where() -> None:
    lines = summary(build()).splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:2] == ["name", "parametrization"]
    assert lines[1].split()[0] == "1.p.tau"
    assert "BoundedSigmoid(lower=1, upper=100, spacing='log')" in lines[1]
    assert lines[1].split()[-7:] == ["(3,)", "2", "4", "60", "(1,", "100)", "3/3"]
    assert "Softplus(lower=0.5, scale=1.5)" in lines[2]
    assert len(summary(nn.Linear(2, 2)).splitlines()) == 1


def test_param_groups_hold_each_parameter_once() -> None:
    network = build()
    weights, neuron = param_groups(network, lr=1e-3, neuron_lr=1e-2, weight_decay=1e-4)
    assert {id(p) for p in neuron["params"]} == {id(p) for p in neuron_parameters(network)}
    together = [*weights["params"], *neuron["params"]]
    assert {id(p) for p in together} == {id(p) for p in network.parameters()}
    assert len(together) == len(list(network.parameters())) == 4
    assert (weights["lr"], weights["weight_decay"]) == (1e-3, 1e-4)
    assert (neuron["lr"], neuron["weight_decay"]) == (1e-2, 0.0)
    assert param_groups(network, 1e-3)[1]["lr"] == 1e-3
    assert param_groups(network, 1e-3, neuron_weight_decay=0.1)[1]["weight_decay"] == 0.1
    optimizer = torch.optim.Adam([weights, neuron])
    network(torch.ones(2, 3)).sum().backward()
    before = values(network)
    optimizer.step()
    assert all((value != before[path]).all() for path, value in values(network).items())


def test_param_groups_leave_out_empty_groups() -> None:
    (group,) = param_groups(nn.Linear(2, 2), 1e-3)
    assert group["name"] == "weights"
    (group,) = param_groups(make_trainable(FromRecord(Pair()), "tau"), 1e-3)
    assert group["name"] == "neuron parameters"


# --------------------------------------------------------------------------------- the picture


def test_the_picture_shows_both_distributions() -> None:
    before = {"p.tau_mem_inv": torch.tensor([100.0, 200.0]), "p.v_th": torch.ones(4)}
    after = {"p.tau_mem_inv": torch.tensor([50.0, 400.0]), "p.v_th": torch.full((4,), 0.5)}
    figure = distributions(
        before, after, rates_in_ms=["p.tau_mem_inv"], labels={"p.v_th": "threshold"}, bins=10
    )
    tau, threshold = figure.axes
    assert tau.get_xlabel() == "p.tau_mem_inv, as time constant (ms)"
    assert threshold.get_xlabel() == "threshold"
    assert tau.get_ylabel() == "number of neurons"
    # 100, 200 1/s are 10, 5 ms; the bins span both sides, 2.5 to 20 ms
    bars = [(p.get_x(), p.get_height()) for p in tau.patches[:10] if p.get_height()]
    assert [height for _, height in bars] == [1, 1]
    assert tau.patches[0].get_x() == pytest.approx(2.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "before training",
        "after training",
    ]


def test_the_picture_of_constants(tmp_path) -> None:
    figure = distributions({"tau": torch.tensor(3.0)}, {"tau": torch.tensor(3.0)})
    figure.savefig(tmp_path / "constant.png")
    assert (tmp_path / "constant.png").stat().st_size > 1000


def test_every_public_name_is_documented() -> None:
    import neuroparam

    for name in neuroparam.__all__:
        assert getattr(neuroparam, name).__doc__, name
    assert ExpScaledLog.__doc__ is not None
