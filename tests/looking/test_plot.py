"""Pictures of trained values."""

from __future__ import annotations

import math

import pytest
import torch

from neuroparam.errors import InvalidArgumentError
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


def test_the_end_bins_of_a_limited_axis_count_what_lies_beyond() -> None:
    # 100, 200 1/s are 10, 5 ms; 10 and 0 1/s are beyond 20 ms, a negative rate is below 0
    before = {"rate": torch.tensor([100.0, 200.0, 100.0, 100.0])}
    after = {"rate": torch.tensor([10.0, 0.0, -50.0, 100.0])}
    figure = distributions(
        before, after, rates_in_ms=["rate"], labels={"rate": "ms"}, limits={"rate": (0, 20)}, bins=4
    )
    (axes,) = figure.axes
    assert axes.get_xlabel() == "ms\n(end bins: and beyond)"
    assert [bar.get_x() for bar in axes.patches[:4]] == [0, 5, 10, 15]
    assert [bar.get_height() for bar in axes.patches[:4]] == [0, 1, 3, 0]
    steps = axes.patches[4].get_xy()
    assert [max(y for x, y in steps if x == edge) for edge in (0, 20)] == [1, 2]


@pytest.mark.parametrize(
    ("domain", "shaded"),
    [
        ((1.0, math.inf), [(0.0, 1.0)]),
        ((-math.inf, 3.0), [(3.0, 4.0)]),
        ((1.0, 3.0), [(0.0, 1.0), (3.0, 4.0)]),
        ((-1.0, 5.0), []),
        ((5.0, 6.0), [(0.0, 4.0)]),
    ],
)
def test_what_lies_outside_the_domain_is_shaded(domain, shaded) -> None:
    ends = {"v": torch.tensor([0.0, 4.0])}
    (axes,) = (figure := distributions(ends, ends, forbidden={"v": domain}, bins=4)).axes
    left, right = axes.get_xlim()
    spans = axes.patches[5:]  # after four bars and one outline
    # the shade reaches up to the ends of the axis
    ends_of_shade = [
        (left if low == 0 else low, right if high == 4 else high) for low, high in shaded
    ]
    assert [(span.get_x(), span.get_x() + span.get_width()) for span in spans] == ends_of_shade
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names.count("outside the domain") == bool(shaded)


@pytest.mark.parametrize("argument", ["limits", "forbidden"])
@pytest.mark.parametrize(
    "given", [3, "v", {"w": (0, 1)}, {"v": 1}, {"v": (1, 0)}, {"v": (0, math.nan)}, {"v": (0, "1")}]
)
def test_a_bad_range_is_refused(argument: str, given: object) -> None:
    values = {"v": torch.ones(2)}
    with pytest.raises(InvalidArgumentError, match=f"{argument}.* must .*two .*got"):
        distributions(values, values, **{argument: given})


def test_an_axis_has_finite_limits() -> None:
    values = {"v": torch.ones(2)}
    with pytest.raises(InvalidArgumentError, match="two finite numbers"):
        distributions(values, values, limits={"v": (0, math.inf)})
