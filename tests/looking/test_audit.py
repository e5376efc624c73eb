"""audit: what each number of a network does, measured, and what it proposes to train."""

from __future__ import annotations

import copy
import random
import threading
from typing import Any

import numpy
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import neuroparam
from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Softplus,
    audit,
    check_gradients,
    errors,
    make_trainable,
)
from tests.support.modules import assert_unchanged, snapshot
from tests.support.published import (
    PLIF,
    BrainCogPLIF,
    Heterogeneous,
    LavaCuba,
    N,
    SiLIF,
    Sparch,
    Stork,
)


def inputs() -> Tensor:
    return 1.5 * torch.rand(12, 3, N, generator=torch.Generator().manual_seed(0))


def verdicts(found: neuroparam.inspect.Audit) -> dict[str, str]:
    return {each.path: each.verdict for each in found}


# network, what it proposes, and some of the other verdicts
PUBLISHED: list[tuple[type[nn.Module], dict[str, nn.Module], dict[str, str]]] = [
    (
        Sparch,
        {
            "alpha": BoundedSigmoid(0.82, 0.96),
            "a": BoundedSigmoid(-1.0, 1.0),
            "b": BoundedSigmoid(0.0, 2.0),
            "threshold": Softplus(),
        },
        # Some of its values lie on the upper bound.
        {"beta": "could train"},
    ),
    (SiLIF, {"theta": Softplus()}, {"alpha": "trains as it is"}),
    (PLIF, {"v_threshold": Softplus()}, {"w": "trains as it is"}),
    (
        Heterogeneous,
        {"alpha": BoundedSigmoid(0.0, 1.0), "beta": BoundedSigmoid(0.0, 1.0), "th": Softplus()},
        {"reset": "could train", "state": "state"},
    ),
    (
        LavaCuba,
        {
            "current_decay": BoundedSigmoid(0.0, 4096.0),
            "voltage_decay": BoundedSigmoid(0.0, 4096.0),
        },
        {"voltage_state": "state"},
    ),
    (BrainCogPLIF, {"threshold": Softplus()}, {"w": "trains as it is"}),
]


@pytest.mark.parametrize(
    ("build", "proposal", "others"), PUBLISHED, ids=[build.__name__ for build, *_ in PUBLISHED]
)
def test_of_a_published_neuron_the_right_values_are_proposed(
    build: type[nn.Module], proposal: dict[str, nn.Module], others: dict[str, str]
) -> None:
    net = build()
    found = audit(net, inputs())
    assert {path: repr(each) for path, each in found.proposal.items()} == {
        path: repr(each) for path, each in proposal.items()
    }
    assert others.items() <= verdicts(found).items()
    # What is proposed can be pasted, and trains.
    names = vars(neuroparam) | {"net": net}
    exec(found.call, names)
    assert all(g.isfinite().all() for g in check_gradients(net, inputs()).values())


def test_a_network_that_is_run_by_a_method() -> None:
    net = Stork()
    found = audit(net, run=lambda net: net.evolve(inputs()))
    assert sorted(found.proposal) == ["dcy_mem", "dcy_syn", "threshold"]
    said = verdicts(found)
    assert (said["tau_mem"], said["tau_syn"]) == ("not read", "not read")
    assert said["time_step"] == "not read"
    with pytest.raises(errors.InvalidArgumentError, match="give one of both"):
        audit(net, inputs(), run=lambda net: net.evolve(inputs()))


def test_modules_of_a_library_keep_their_defaults() -> None:
    net = nn.Sequential(nn.Linear(N, N), snn.Leaky(beta=0.8, init_hidden=True, output=False))

    def run(net: nn.Module) -> Tensor:
        return torch.stack([net(step) for step in 3 * inputs()])

    found = audit(net, run=run)
    assert found.proposal == {"1.beta": None, "1.threshold": None, "1.graded_spikes_factor": None}
    assert "    '1.beta': None," in found.call
    assert verdicts(found)["1.mem"] in ("refused", "state")


class Smooth(nn.Module):
    """Every kind of number, in a network without spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = torch.linspace(5.0, 9.0, N)
        self.gain, self.offset = numpy.float32(2.0), 0.0
        self.steps, self.seed = 3, 4
        self.cast, self.detached, self.unread = 1.5, torch.tensor(0.5), 7.0
        self.log_rate = nn.Parameter(torch.zeros(N))
        self.saturated = 2.0
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        v = torch.zeros_like(x[0])
        for step in x:
            v = v + (self.gain * step - v) / self.tau + self.offset
        v = v * float(self.cast) + self.detached.detach()
        v = v + torch.relu(-self.saturated * torch.ones(())) * v
        return v * self.log_rate.exp()


def test_each_kind_of_number_has_its_verdict() -> None:
    found = {each.path: each for each in audit(Smooth(), inputs())}
    assert {path: each.verdict for path, each in found.items()} == {
        "tau": "train",
        "gain": "could train",
        "offset": "could train",
        "cast": "no gradient",
        "detached": "no gradient",
        "unread": "not read",
        "log_rate": "trains as it is",
        "saturated": "no effect",
        "calls": "state",
    }
    assert "maps it by exp" in found["log_rate"].why
    for path in ("tau", "gain", "offset", "log_rate"):
        assert found[path].agreement == pytest.approx(1.0, rel=1e-2)
        assert found[path].moved > 0
    assert found["cast"].moved > 0  # It moves the output, and gets no gradient.
    assert found["tau"].parametrization is not None
    assert isinstance(found["tau"].parametrization, ExpScaledLog)


def test_a_network_and_the_generators_stay_as_they_are() -> None:
    net = nn.Sequential(Heterogeneous(), nn.Dropout(0.3), LavaCuba())
    net(inputs()).sum().backward()
    x = inputs().requires_grad_()
    before, given = snapshot(net), x.detach().clone()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    generators = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].copy()
    audit(net, x)
    assert_unchanged(net, before)
    assert torch.equal(x.detach(), given)
    assert x.grad is None
    assert {name: p.grad for name, p in net.named_parameters()} == gradients
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert (numpy.random.get_state()[1] == generators[2]).all()


def test_two_audits_of_a_random_network_agree() -> None:
    net = nn.Sequential(Heterogeneous(), nn.Dropout(0.5))
    assert str(audit(net, inputs())) == str(audit(net, inputs()))


def test_an_attached_network_is_asked_for_what_is_left() -> None:
    net = make_trainable(Heterogeneous(), "alpha")
    assert sorted(audit(net, inputs()).proposal) == ["beta", "th"]


def test_states_with_a_graph_are_copied_without_it() -> None:
    net = Stork()
    net.mem = net.evolve(inputs().requires_grad_())
    assert "dcy_mem" in audit(net, run=lambda net: net.evolve(inputs())).proposal
    assert net.mem.grad_fn is not None


def test_what_the_forward_raises_is_raised() -> None:
    with pytest.raises(TypeError, match="argument"):
        audit(Heterogeneous(), inputs(), 3)


def test_what_cannot_be_copied_is_refused() -> None:
    net = nn.Sequential(Heterogeneous())
    net[0].lock = threading.Lock()
    with pytest.raises(errors.UnsupportedModuleError, match=r"cannot pickle .* object"):
        audit(net, inputs())


def test_a_module_that_shares_tensors_with_its_copies_stays_as_it_is() -> None:
    class Sharing(Heterogeneous):
        def __deepcopy__(self, memo: Any) -> Any:
            made = type(self)()
            made.__dict__ |= self.__dict__
            return made

    net = Sharing()
    before = snapshot(net)
    audit(net, inputs())
    assert_unchanged(net, before)


def test_an_audit_prints_and_shows_as_html() -> None:
    found = audit(Sparch(), inputs())
    assert str(found).endswith(found.call)
    assert repr(found) == str(found)
    assert found._repr_html_().startswith("<table>")
    assert "BoundedSigmoid(0.82, 0.96)" in found._repr_html_()
    assert str(audit(nn.Linear(2, 2), torch.ones(1, 2))).endswith("nothing is proposed")
    assert copy.copy(found) == found
    pytest.importorskip("pandas")
    assert list(found.to_frame()["path"]) == [each.path for each in found]


def test_silent_neurons_are_said_and_a_time_step_is_not_offered() -> None:
    class Stepped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tau, self.dt = 20.0, 1.0

        def forward(self, x: Tensor) -> Tensor:
            v = torch.zeros_like(x[0])
            for step in x:
                v = v + self.dt / self.tau * (step - v)
            return v

    found = audit(Stepped(), inputs())
    assert verdicts(found) == {"tau": "train", "dt": "not offered"}
    assert "spike" not in str(found)
    assert "give an input that makes the neurons spike" in str(audit(Stepped(), 0 * inputs()))
