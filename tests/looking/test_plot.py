"""Pictures of trained values."""

from __future__ import annotations

import pytest
import torch

from neuroparam.plot import distributions


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
