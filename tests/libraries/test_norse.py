"""Norse 1.1 as installed: every module with a record of parameters `p`."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import norse.torch as norse
import pytest
import torch
from norse.torch.functional.coba_lif import CobaLIFParameters
from norse.torch.functional.izhikevich import tonic_spiking
from norse.torch.functional.lif import LIFParameters
from norse.torch.module.leaky_integrator_box import LIBoxCell
from norse.torch.module.lif_adex_refrac import (
    LIFAdExRefracCell,
)
from torch import Tensor, nn

from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Softplus,
    cached,
    check_gradients,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.support.cases import Case
from tests.support.cases_norse import CASES
from tests.support.modules import assert_unchanged, snapshot

N, BATCH, STEPS = 4, 2, 6
LIF = ["p.tau_syn_inv", "p.tau_mem_inv", "p.v_th"]


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state] if state.is_floating_point() else []
    return [t for part in state for t in tensors(part)] if isinstance(state, tuple) else []


def run(module: nn.Module, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """Output and last state for x of shape (T, batch, N), whether or not the module has time."""
    if not type(module).__name__.endswith("Cell"):
        return module(x, state)
    outputs = []
    for step in x:
        output, state = module(step, state)
        outputs.append(output)
    return torch.stack(outputs), state


def spikes(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 8.0 * (torch.rand(STEPS, BATCH, N, generator=generator) < 0.6).float()


# ------------------------------------------------------------------------- negative thresholds


def test_a_negative_threshold_needs_bounds() -> None:
    module = norse.CobaLIFCell(N, N)
    before = snapshot(module)
    for wrong in (None, Softplus(), ExpScaledLog()):
        with pytest.raises(errors.OutOfDomainError, match=r"-10 is outside .*BoundedSigmoid"):
            make_trainable(module, {"p.v_thresh": wrong})
    assert_unchanged(module, before)
    names = {
        "p.v_thresh": BoundedSigmoid(-40.0, 0.0),
        "p.tau_syn_exc_inv": None,
        "p.tau_syn_inh_inv": None,
    }
    make_trainable(module, names, shape=(N,))
    with torch.no_grad():
        module.input_weights.mul_(5.0)
    output, state = run(module, spikes(), None)
    sum(t.square().sum() for t in [output, *tensors(state)]).backward()
    threshold, excitatory, inhibitory = neuron_parameters(module)
    assert threshold.grad.abs().sum() > 0
    # norse 1.1 overwrites the input's conductance by the recurrent one (its coba_lif_step assigns
    # g_e twice from the old state), so a silent network gives these a gradient of zero
    assert excitatory.grad is not None
    assert inhibitory.grad is not None
    with torch.no_grad():
        module.recurrent_weights.zero_()
    module.zero_grad()
    run(module, spikes(), None)[1].v.sum().backward()
    assert (excitatory.grad == 0).all()
    assert (inhibitory.grad == 0).all()
    module.p.v_thresh = -20.0
    fixed = make_fixed(module)
    assert type(fixed.p) is CobaLIFParameters
    torch.testing.assert_close(fixed.p.v_thresh, torch.full((N,), -20.0))


@pytest.mark.parametrize(
    ("build", "recurrent"),
    [
        (lambda: norse.IzhikevichCell(tonic_spiking), False),
        (lambda: norse.Izhikevich(tonic_spiking), False),
        (lambda: norse.IzhikevichRecurrentCell(N, N, tonic_spiking), True),
    ],
)
def test_izhikevich(build, recurrent: bool) -> None:
    module = build()
    plain = build()
    plain.load_state_dict(module.state_dict())
    # the behaviour also keeps its parameters, as spiking_method.p: the short name is ambiguous
    with pytest.raises(errors.AmbiguousNameError, match=r"spiking_method\.p\.a"):
        make_trainable(module, "a")
    with pytest.raises(errors.OutOfDomainError):
        make_trainable(module, "p.c")  # the reset potential, -65 mV
    make_trainable(
        module,
        {
            "p.a": ExpScaledLog(),
            "p.c": BoundedSigmoid(-80.0, -40.0),
            "p.v_th": BoundedSigmoid(-60.0, 40.0),
            "p.tau_inv": ExpScaledLog(),
        },
    )
    x = 100.0 * torch.ones(STEPS, BATCH, N)
    output, state = run(module, x)
    torch.testing.assert_close(output, run(plain, x)[0], rtol=1e-5, atol=1e-6)
    sum(t.square().sum() for t in [output, *tensors(state)]).backward()
    assert all(p.grad.isfinite().all() for p in neuron_parameters(module))
    module.p.v_th = -55.0
    assert values(module)["p.v_th"].item() == pytest.approx(-55.0)


# ------------------------------------------------------------------------------------ defaults


def test_rates_of_euler_cells_are_bounded_by_the_step() -> None:
    for dt in (1e-3, 5e-4):
        module = norse.LIFRecurrentCell(N, N, dt=dt)
        make_trainable(module, ["tau_mem_inv", "tau_syn_inv", "v_th"])
        chosen = {name: link[0] for name, link in module.p.parametrizations.items()}
        for name in ("tau_mem_inv", "tau_syn_inv"):
            assert isinstance(chosen[name], BoundedSigmoid)
            assert (chosen[name].lower, chosen[name].upper) == (0.0, pytest.approx(1 / dt))
        assert isinstance(chosen["v_th"], Softplus)
    for rate in (1000.0, 1500.0):
        with pytest.raises(errors.OutOfDomainError, match=r"\(0, 1000\)"):
            make_trainable(norse.LIFCell(), "tau_mem_inv", init=rate)


def test_defaults_hold_in_networks_subclasses_records_and_later_calls() -> None:
    class Mine(norse.LIFCell):
        pass

    for name, module in (
        ("0.p.tau_mem_inv", norse.SequentialState(norse.LIFCell())),
        ("p.tau_mem_inv", Mine()),
        ("p.lif.tau_mem_inv", norse.LIFRefracCell()),
        ("p.lif_adex.tau_ada_inv", LIFAdExRefracCell()),
    ):
        field = name.rpartition(".")[2]
        make_trainable(module, name)
        other = "tau_syn_inv"
        make_trainable(module, other)  # the record is a stand-in by now
        for part in module.modules():
            for key, link in getattr(part, "parametrizations", {}).items():
                assert key in (field, other)
                assert repr(link[0]).startswith("BoundedSigmoid(lower=0, upper=1000")


@pytest.mark.parametrize(
    ("rate", "monotone", "bounded"), [(0.9, True, True), (1.5, False, True), (2.5, False, False)]
)
def test_why_rates_are_bounded(rate: float, monotone: bool, bounded: bool) -> None:
    """Forward Euler at 1.5 / dt overshoots its target, at 2.5 / dt it diverges."""
    module = LIBoxCell(p=norse.LIBoxParameters(tau_mem_inv=torch.tensor(rate * 1000.0)))
    trace, _ = run(module, torch.ones(40, 1, 1))
    assert bool((trace.diff(dim=0) >= 0).all()) == monotone
    assert bool((trace.abs() < 10).all()) == bounded


# ------------------------------------------------------------------------- what must not happen


def test_the_default_record_that_all_layers_share_is_not_changed() -> None:
    default = copy.deepcopy(LIFParameters())
    first, second = norse.LIFCell(), norse.LIFCell()
    make_trainable(nn.Sequential(first, second), [f"0.{n}" for n in LIF])
    first.p.tau_mem_inv = 333.0
    with torch.no_grad():
        for raw in neuron_parameters(first):
            raw.add_(1.0)
    assert LIFParameters() == default
    assert second.p == norse.LIFCell().p


def test_an_adjoint_that_drops_the_gradient_is_found() -> None:
    """norse 1.1 gives the parameters to its adjoint functions where autograd cannot see them."""
    for kind in (norse.LSNNCell, norse.LSNN):
        module = make_trainable(kind(adjoint=True), "tau_mem_inv")
        x = spikes() if kind is norse.LSNN else spikes()[0]
        with pytest.raises(errors.NoGradientError, match=r"p\.tau_mem_inv"):
            check_gradients(module, x.requires_grad_())
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
        for _ in range(2):
            module(x)[0].sum().backward()
            optimizer.step()
        module(x)[0].sum().backward()
        with pytest.raises(errors.NoGradientError, match=r"p\.tau_mem_inv"):
            optimizer.step()


@pytest.mark.parametrize("build", [norse.LSNN, lambda: norse.LSNNRecurrent(N, N)])
def test_a_threshold_of_lsnn_is_one_number(build) -> None:
    """Norse fills its first state from v_th: not ours to change, but it must not be silent."""
    module = make_trainable(build(), "v_th", shape=(N,))
    with pytest.raises((TypeError, RuntimeError)):
        module(spikes())


def test_an_ambiguous_field_is_named_in_full() -> None:
    module = norse.module.lif_correlation.LIFCorrelation(N, N)
    with pytest.raises(errors.AmbiguousNameError) as caught:
        make_trainable(module, "tau_ac_inv")
    assert len(caught.value.matches) == 2
    make_trainable(module, caught.value.matches)
    assert sorted(values(module)) == sorted(caught.value.matches)


# --------------------------------------------------------------------------- fixing and copying


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fixing_gives_the_record_back(case: Case) -> None:
    plain, module = case.build(), case.build()
    make_fixed(make_trainable(module, case.trains))
    assert type(module.p) is type(plain.p)
    for name, part in plain.p._asdict().items():
        assert type(getattr(module.p, name)) is type(part), name
    assert module.__dict__.keys() == plain.__dict__.keys()


def test_per_neuron_values_survive_fixing() -> None:
    module = make_trainable(
        norse.LIFRecurrentCell(N, N), "tau_mem_inv", init=100.0 + torch.arange(4.0)
    )
    assert torch.equal(make_fixed(module).p.tau_mem_inv.round(), 100.0 + torch.arange(4.0))
    assert type(module.p) is LIFParameters


def test_a_norse_network_trains_with_one_call() -> None:
    torch.manual_seed(0)
    network = norse.SequentialState(
        norse.LIFRecurrent(N, 8), nn.Linear(8, 3), norse.LI(), return_hidden=False
    )
    make_trainable(network, {"0.p.tau_mem_inv": None, "0.p.v_th": None, "2.p.tau_mem_inv": None})
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        voltages, _ = network(spikes())
        loss = nn.functional.cross_entropy(voltages.max(0).values, torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_cached_around_a_loop_of_cells_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    module = make_trainable(norse.LIFRecurrentCell(N, N), LIF, shape=(N,))
    run(module, spikes())[1].v.sum().backward()
    expected = [p.grad.clone() for p in neuron_parameters(module)]
    module.zero_grad()
    with cached():
        run(module, spikes())[1].v.sum().backward()
    for raw, gradient in zip(neuron_parameters(module), expected, strict=True):
        torch.testing.assert_close(raw.grad, gradient, rtol=1e-5, atol=1e-9)


def test_moving_a_module_moves_its_record() -> None:
    module = make_trainable(norse.LIFCell(), "tau_mem_inv").double()
    assert module.p.tau_mem_inv.dtype == module.p.v_th.dtype == torch.float64
    assert make_fixed(module).p.v_th.dtype == torch.float64


def test_every_module_of_norse_with_a_record_is_in_the_table() -> None:
    """A new release may bring new modules; the table must say what becomes of them."""
    neurons = re.compile(r"(Coba)?(LIF|LI|LSNN|IAF|Izhikevich)(AdEx|Ex|Refrac|Box|Linear|MC)*")
    exported = {
        name
        for name, kind in vars(norse).items()
        if isinstance(kind, type)
        and issubclass(kind, nn.Module)
        and neurons.fullmatch(name.removesuffix("Cell").removesuffix("Recurrent"))
    }
    tested_apart = {"CobaLIFCell"} | {n for n in exported if n.startswith("Izhikevich")}
    assert len(exported) > 20
    assert exported - tested_apart <= {case.name for case in CASES}


# ----------------------------------------------------- what the guide says of Norse 1.1 itself


def test_alpha_of_the_super_surrogate_gets_no_gradient() -> None:
    module = make_trainable(norse.LIFRecurrentCell(N, N), "p.alpha")
    run(module, spikes()[:1])[0].sum().backward()
    with pytest.raises(errors.NoGradientError, match=r"p\.alpha"):
        run(module, spikes())


def test_the_lif_adjoint_cannot_be_reached_through_a_module() -> None:
    module = norse.LIFCell(p=norse.LIFParameters(method="adjoint"))
    with pytest.raises(ValueError, match="adjoint"):
        module(spikes()[0])


def test_one_leak_per_neuron_is_refused_by_the_modules_with_time() -> None:
    module = make_trainable(norse.LIF(), {"v_leak": BoundedSigmoid(-1.0, 1.0)}, shape=(N,))
    with pytest.raises((TypeError, RuntimeError)):
        module(spikes())
    one = make_trainable(norse.LIF(), {"v_leak": BoundedSigmoid(-1.0, 1.0)})
    one(spikes())[0].sum().backward()
    assert neuron_parameters(one)[0].grad.isfinite()


def test_norses_own_records_cannot_be_pickled() -> None:
    """Attached ones can: tests/value/test_pickle.py."""
    with pytest.raises(pickle.PicklingError, match="LIFParameters"):
        pickle.dumps(norse.LIFCell())


@pytest.mark.parametrize("kind", [norse.LIFRecurrentCell, norse.LSNNRecurrent])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_copy_of_a_recurrent_module_grows_no_autapses(kind, frozen: bool) -> None:
    module = make_trainable(kind(3, 3), "tau_mem_inv")
    module.recurrent_weights.requires_grad_(not frozen)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.recurrent_weights.requires_grad is not frozen
        weights = copied.recurrent_weights.requires_grad_(True)
        (weights * 3.0).sum().backward()
        assert torch.equal(weights.grad, 3.0 * (1.0 - torch.eye(3)))
    allowed = make_trainable(kind(3, 3, autapses=True), "tau_mem_inv")
    weights = copy.deepcopy(allowed).recurrent_weights
    weights.sum().backward()
    assert torch.equal(weights.grad, torch.ones(3, 3))


def test_norses_own_code_replaces_fields_of_an_attached_record() -> None:
    module = make_trainable(norse.LIFCell(), "tau_mem_inv")
    kind = type(norse.LIFCell().p)
    faster = module.p._replace(v_th=torch.tensor(0.5))
    assert type(faster) is kind
    assert isinstance(module.p, kind) or torch.__version__ < "2.14"
    cell, state = norse.LIFCell(p=faster), None
    for _ in range(2):
        _, state = cell(torch.ones(2, 3), state)
    state.v.sum().backward()
    assert module.p.parametrizations.tau_mem_inv.original.grad != 0
