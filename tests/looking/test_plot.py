"""Pictures of trained values."""

from __future__ import annotations

import math
import pickle

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from rockpool.nn.modules import LIFTorch
from torch import nn

from neuroparam import BoundedSigmoid, Quantity, Recorder, make_trainable, set_values, values
from neuroparam.errors import InvalidArgumentError
from neuroparam.plot import distributions, histories


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


# ------------------------------------------------------------------------- networks and units


def network(**keywords: object) -> nn.Module:
    """Layers of libraries that store rates, decays, steps and seconds."""
    net = nn.ModuleDict(
        {
            "norse": norse.LIFCell(),
            "snntorch": snn.Leaky(beta=0.9),
            "sinabs": sl.LIF(tau_mem=20.0),
            "rockpool": LIFTorch(4, dt=1e-3),
        }
    )
    names = {Quantity.TAU_MEM: BoundedSigmoid(2e-3, 0.1), Quantity.THRESHOLD: None}
    return make_trainable(net, names, init={Quantity.TAU_MEM: 20e-3}, dt=1e-3, **keywords)


def test_a_network_is_shown_in_ms_whatever_its_libraries_store() -> None:
    figure = distributions(network())
    panels = {axes.get_xlabel(): axes for axes in figure.axes}
    shown = [label for label in panels if label.endswith("as time constant (ms)")]
    assert len(shown) == 4
    for label in shown:
        left, right = panels[label].get_xlim()
        assert left < 20.0 < right
        assert right < 50.0
    assert "rockpool.threshold (voltage)" in panels
    assert figure.legends == []  # there is one set


def test_values_of_a_quantity_are_shown_in_ms() -> None:
    taus = values(network(), Quantity.TAU_MEM)
    figure = distributions(taus, taus)
    for axes in figure.axes:
        assert axes.get_xlabel().endswith("(ms)")
        assert axes.get_xlim()[0] < 20.0 < axes.get_xlim()[1] < 50.0


@pytest.mark.parametrize(
    ("quantity", "path", "why"),
    [
        (Quantity.TAU_MEM, "snntorch.beta", "is in s, and is shown in ms without it"),
        (None, "snntorch.beta", "has no unit"),
        (None, "sinabs.tau_mem", "is in steps"),
        (Quantity.THRESHOLD, "norse.p.v_th", "is in voltage"),
    ],
)
def test_what_is_no_rate_is_never_shown_as_one(quantity: Quantity, path: str, why: str) -> None:
    present = values(network(), quantity)
    with pytest.raises(InvalidArgumentError, match=why):
        distributions(present, present, rates_in_ms=[path])


def test_what_is_a_rate_is_shown_in_ms() -> None:
    present = {"norse.p.tau_mem_inv": values(network())["norse.p.tau_mem_inv"]}
    for given in (present, values(network()["norse"])):
        path = next(iter(given))
        figure = distributions(given, rates_in_ms=[path])
        assert figure.axes[0].get_xlim()[0] < 20.0 < figure.axes[0].get_xlim()[1]


def test_the_forbidden_region_of_a_network_is_shaded() -> None:
    net = make_trainable(
        snn.Leaky(beta=0.9), {Quantity.TAU_MEM: BoundedSigmoid(2e-3, 0.1)}, init=20e-3, dt=1e-3
    )
    figure = distributions(net, limits={"beta": (0.0, 120.0)})
    shades = [patch for patch in figure.axes[0].patches if patch.get_zorder() == 0]
    assert [(shade.get_x(), shade.get_x() + shade.get_width()) for shade in shades] == [
        (pytest.approx(figure.axes[0].get_xlim()[0]), pytest.approx(2.0)),
        (pytest.approx(100.0), pytest.approx(figure.axes[0].get_xlim()[1])),
    ]


def test_several_sets_have_their_labels() -> None:
    sets = {f"epoch {n}": {"tau": torch.randn(5) + 10 * n} for n in range(1, 4)}
    figure = distributions(sets)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(sets)
    with pytest.raises(InvalidArgumentError, match="same paths"):
        distributions({"one": {"tau": torch.ones(2)}, "two": {"beta": torch.ones(2)}})
    known = values(network(), Quantity.TAU_MEM)
    with pytest.raises(InvalidArgumentError, match="same unit"):
        distributions({"one": known, "two": dict(known)})


def test_many_values_stand_in_a_grid() -> None:
    figure = distributions({f"layer{n}.tau": torch.rand(5) for n in range(10)})
    assert len(figure.axes) == 10
    width, height = figure.get_size_inches()
    assert width <= 14
    assert height > 8


def test_a_history_shows_the_median_and_the_spread() -> None:
    net = make_trainable(snn.Leaky(beta=0.9), Quantity.TAU_MEM, dt=1e-3, shape=(11,))
    recorder = Recorder(net, Quantity.TAU_MEM)
    for epoch in (0, 5, 10):
        set_values(net, Quantity.TAU_MEM, torch.linspace(1, 2, 11) * (10e-3 + epoch * 1e-3))
        recorder.record(epoch)
    (axes,) = histories(recorder).axes
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [0, 5, 10]
    assert line.get_ydata() == pytest.approx([15.0, 22.5, 30.0], rel=1e-5)
    assert (axes.get_title("left"), axes.get_ylabel()) == ("beta", "time constant (ms)")
    for bad in (Recorder(net), "recorder"):
        with pytest.raises(InvalidArgumentError, match="Recorder with a record"):
            histories(bad)
    with pytest.raises(InvalidArgumentError, match="labels"):
        histories(recorder, labels={"tau": "tau"})


class Writer:
    """What a recorder needs of TensorBoard's writer."""

    def __init__(self) -> None:
        self.scalars: dict[str, tuple[float, float]] = {}
        self.histograms: dict[str, tuple[torch.Tensor, float]] = {}

    def add_scalar(self, name: str, number: float, step: float) -> None:
        self.scalars[name] = number, step

    def add_histogram(self, name: str, numbers: torch.Tensor, step: float) -> None:
        self.histograms[name] = numbers, step


def test_a_recorder_keeps_copies_and_writes_them_in_ms() -> None:
    net = make_trainable(snn.Leaky(beta=0.9), ["beta", "threshold"], shape={"beta": (3,)})
    recorder, writer = Recorder(net, Quantity.TAU_MEM, dt=1e-3), Writer()
    recorder.write(writer)  # there is nothing yet
    assert recorder.history == recorder.scalars() == writer.scalars == {}
    recorder.record()
    set_values(net, Quantity.TAU_MEM, torch.tensor([10e-3, 20e-3, 40e-3]), dt=1e-3)
    recorder.record()
    assert recorder.steps == [0, 1]
    assert recorder.history["beta"].shape == (2, 3)
    assert recorder.history["beta"][0].unique().numel() == 1
    assert recorder.scalars()["beta/median (ms)"] == pytest.approx(20.0, rel=1e-4)
    recorder.write(writer)
    assert writer.scalars["beta/max (ms)"] == (pytest.approx(40.0, rel=1e-4), 1)
    torch.testing.assert_close(writer.histograms["beta (ms)"][0], torch.tensor([10.0, 20.0, 40.0]))


def test_a_recorder_becomes_a_frame() -> None:
    pytest.importorskip("pandas")
    net = make_trainable(snn.Leaky(beta=0.9), "beta", shape=(2,))
    recorder = Recorder(net)
    for step in (0, 10):
        recorder.record(step)
    frame = recorder.to_frame()
    assert list(frame.columns) == ["step", "name", "entry", "value", "unit"]
    assert frame["step"].tolist() == [0, 0, 10, 10]
    assert frame["value"].tolist() == pytest.approx([0.9] * 4)


def test_a_notebook_shows_a_figure() -> None:
    figure = distributions({"tau": torch.rand(5)})
    assert figure._repr_png_().startswith(b"\x89PNG")
    copied = pickle.loads(pickle.dumps(figure))
    assert copied._repr_png_().startswith(b"\x89PNG")


def test_a_recorder_of_nothing_is_refused() -> None:
    own = nn.Module()
    own.tau_mem = 20.0
    make_trainable(own, "tau_mem")
    Recorder(own)
    with pytest.raises(InvalidArgumentError, match="knows no membrane time constant"):
        Recorder(own, Quantity.TAU_MEM)
    with pytest.raises(InvalidArgumentError, match="knows no attached value"):
        Recorder(nn.Linear(2, 2))
