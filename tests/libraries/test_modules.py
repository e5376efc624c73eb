"""Every module of the five libraries is in one of two states: it trains, or it is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from neuroparam import (
    audit,
    check_gradients,
    errors,
    find,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from tests.support.cases import Case, N, all_cases, built, spikes
from tests.support.inside import attached, survey
from tests.support.modules import assert_unchanged, snapshot

CASES = all_cases()
SHORT = 5  # time steps of a training run
every_module = pytest.mark.parametrize("case", CASES, ids=str)
TRAINED = [case for case in CASES if case.trains]
every_trained = pytest.mark.parametrize("case", TRAINED, ids=str)


def trained(case: Case) -> nn.Module:
    return make_trainable(built(case), case.trains)


def loss_of(output: Tensor) -> Tensor:
    """Weighted, so that gradients of different neurons do not cancel."""
    weights = torch.linspace(0.5, 1.5, output.numel()).reshape(output.shape)
    return (weights * output).square().sum()


# ------------------------------------------------------------------------------- two states


@every_module
def test_find_lists_exactly_what_trains(case: Case) -> None:
    found = find(built(case))
    assert sorted(candidate.path for candidate in found) == sorted(case.trains)
    assert all(candidate.meaning for candidate in found)


@every_module
def test_an_audit_leaves_it_as_it_was(case: Case) -> None:
    module = built(case)
    before, output = snapshot(module), case.run(built(case), spikes())
    asked = [p.requires_grad for p in nn.Module.parameters(module)]
    audit(module, run=lambda tried: case.run(tried, spikes()))
    assert_unchanged(module, before)
    assert asked == [p.requires_grad for p in nn.Module.parameters(module)]
    # Defaults of constructors are shared by all that are built later.
    torch.testing.assert_close(case.run(built(case), spikes()), output, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CASES for name in case.refused],
    ids=lambda part: str(part),
)
def test_what_does_not_train_is_refused_with_a_reason(case: Case, name: str) -> None:
    module = built(case)
    before = snapshot(module)
    with pytest.raises(errors.NotTrainableError) as caught:
        make_trainable(module, name)
    assert case.refused[name] in caught.value.reason
    assert caught.value.instead
    assert_unchanged(module, before)


@every_trained
def test_attached_computes_what_the_plain_module_computes(case: Case) -> None:
    module = trained(case)
    torch.manual_seed(1)
    expected = case.run(built(case), spikes())
    torch.manual_seed(1)
    torch.testing.assert_close(case.run(module, spikes()), expected, rtol=1e-5, atol=1e-6)


@every_trained
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    module = trained(case)
    loss_of(case.run(module, spikes())).backward()
    for name, raw in zip(values(module), neuron_parameters(module), strict=True):
        assert raw.grad is not None, name
        assert raw.grad.isfinite().all(), name
        assert raw.grad.abs().sum() > 0, name


@every_trained
def test_one_value_per_neuron(case: Case) -> None:
    shared = [c.path for c in find(built(case)) if not c.shape and c.path not in case.one_number]
    if not shared:
        assert case.one_number or all(c.shape for c in find(built(case)))
        return
    module = make_trainable(built(case), shared, shape=(N,))
    loss_of(case.run(module, spikes())).backward()
    assert all(raw.grad.shape == (N,) for raw in neuron_parameters(module))


def other_places(case: Case) -> Iterator[str]:
    """What a module stores beside the parameters of the case."""
    for place in survey(built(case)):
        if place.path not in case.trains and place.path not in case.refused:
            yield place.path


@every_module
def test_nothing_else_looks_trainable_and_is_not(case: Case) -> None:
    """Whatever else is named: refused, or an error or a warning within ten steps, or a gradient."""
    for name in other_places(case):
        module = built(case)
        try:
            make_trainable(module, name)
        except errors.NeuroparamError:
            continue
        (raw,) = neuron_parameters(module)
        optimizer = torch.optim.SGD(nn.Module.parameters(module), lr=0.0)
        try:
            for _ in range(10):
                optimizer.zero_grad()
                output = case.run(module, spikes())
                loss_of(output[0] if isinstance(output, tuple) else output).backward()
                optimizer.step()
        except (errors.NeuroparamError, errors.NoGradientWarning):
            continue  # said by us
        except (RuntimeError, TypeError, ValueError):
            continue  # said by the library
        assert raw.grad is not None, name


# --------------------------------------------------------------------------------- gradients

WITH_MEMBRANE = [case for case in CASES if case.membrane]


@pytest.fixture
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("case", WITH_MEMBRANE, ids=str)
def test_gradient_equals_central_differences_below_threshold(case: Case) -> None:
    assert case.membrane is not None
    build, membrane = case.membrane
    module = built(case, build).double()
    shapes = {
        c.path: (N,)
        for c in find(module)
        if c.path in case.smooth and not c.shape and c.path not in case.one_number
    }
    make_trainable(module, case.smooth, shape=shapes).double()
    x = spikes().double()

    def loss() -> Tensor:
        return loss_of(membrane(module, x))

    assert loss().dtype == torch.float64
    raws = [a.parameter.raw for a in attached(module)]
    gradients = torch.autograd.grad(loss(), raws)
    step = 1e-4
    for path, raw, gradient in zip(values(module), raws, gradients, strict=True):
        flat = raw.detach().view(-1)
        for index in range(flat.numel()):
            sides = []
            for shift in (-2, -1, 1, 2):
                kept = flat[index].item()
                flat[index] = kept + shift * step
                with torch.no_grad():
                    sides.append(loss().item())
                flat[index] = kept
            # the five-point stencil: its error is of the order of step ** 4
            central = (sides[0] - 8 * sides[1] + 8 * sides[2] - sides[3]) / (12 * step)
            found = gradient.view(-1)[index].item()
            assert found == pytest.approx(central, rel=1e-6, abs=1e-10), path


# ---------------------------------------------------------------------------------- training


# one of the two modes of SpikingJelly's nodes: the tests above show that they compute the same
TO_TRAIN = [case for case in TRAINED if not case.name.endswith("(s)")]


# the long run goes with the thorough profile of hypothesis
TRAINING = 200 if settings().max_examples > 1000 else 50


@pytest.mark.parametrize("learning_rate", [1e-3, 1e-2, 1e-1, 1.0])
@pytest.mark.parametrize("case", TO_TRAIN, ids=str)
def test_no_training_leaves_the_domain(case: Case, learning_rate: float) -> None:
    module = trained(case)
    optimizer = torch.optim.Adam(neuron_parameters(module), lr=learning_rate)
    for step in range(TRAINING):
        output = case.run(module, spikes(step % 4)[: None if case.fixed_length else SHORT])
        optimizer.zero_grad()
        # towards ever more output, then towards none
        ((output.mean() - (2.0 if step < TRAINING // 2 else 0.0)) ** 2).backward()
        optimizer.step()
        assert output.isfinite().all()
        if step % 10 == 9:
            for a in attached(module):
                assert a.parameter.raw.isfinite().all(), a.path
                assert not a.parameter.last_map.outside(a.parameter()).any(), a.path


# ----------------------------------------------------------------------- copying and fixing


# snnTorch keeps every neuron that was ever built, and all of them get the same raw numbers here.
@pytest.mark.filterwarnings("ignore:the raw numbers of .* are a copy")
@every_trained
def test_copies_after_a_forward_and_fixing_give_the_librarys_own_module(case: Case) -> None:
    plain = built(case)
    module = trained(case)
    case.run(module, spikes())
    with torch.no_grad():
        for raw in neuron_parameters(module):
            raw.add_(0.1)
    copied = copy.deepcopy(module)
    for mine, its in zip(neuron_parameters(module), neuron_parameters(copied), strict=True):
        assert mine is not its
        assert torch.equal(mine, its)
    torch.manual_seed(1)
    expected = case.run(module, spikes()).detach()
    fixed = make_fixed(copied)
    assert [type(part) for part in nn.Module.modules(fixed)] == [
        type(part) for part in nn.Module.modules(plain)
    ]
    assert list(fixed.state_dict()) == list(plain.state_dict())
    kinds = {place.path: place.kind for place in survey(plain)}
    for place in survey(fixed):
        if place.path in case.trains:
            assert place.kind is kinds[place.path], place.path
    torch.manual_seed(1)
    try:
        actual = case.run(fixed, spikes()).detach()
    except Exception as error:  # a library may refuse what its constructor would
        raise AssertionError(f"{case}: the fixed module does not run") from error
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    # and the source goes on training
    loss_of(case.run(module, spikes())).backward()
    assert all(raw.grad is not None for raw in neuron_parameters(module))


@pytest.mark.parametrize("name", ["snntorch-Leaky", "spikingjelly-IFNode-(s)"])
def test_check_gradients_runs_on_single_steps(name: str) -> None:
    (case,) = (case for case in TRAINED if str(case) == name)
    assert set(check_gradients(trained(case), spikes()[0])) == set(case.trains)


# ------------------------------------------------------------------------------ nothing missed

# modules of the libraries that are no neurons with a time constant or a threshold to train
OTHERS = {
    "snntorch": {"SpikingNeuron", "LIF"},  # bases
    "spikingjelly": {
        *("BaseNode", "SimpleBaseNode", "NonSpikingBaseNode", "AdaptBaseNode", "ILCBaseNode"),
        *("MPBNBaseNode", "NoisyBaseNode", "NoisyILCBaseNode", "NoisyNonSpikingBaseNode"),
        *("NonSpikingIFNode", "NoisyNonSpikingIFNode"),  # neither leak nor threshold
        *("PSN", "MaskedPSN", "SlidingPSN"),  # a matrix over time steps in place of a leak
        *("FlexSN",),  # made of a function that the user writes
        # converted from networks without spikes
        *("FewSpikeNode", "FewSpikeTable", "HGNode", "OutlierAwareThresholdNode"),
        *("ActivationAwareIFNode", "STBIFNode"),
    },
    "sinabs": {"StatefulLayer"},
    "rockpool": {
        *("TorchModule", "LinearTorch", "InstantTorch"),
        *("BooleanState", "UnitDropout", "TimeStepDropout"),
        "LIFSinabs",  # Rockpool 3.1 cannot build it: it wants the arguments of Sinabs 0.3
        *("LIFExodus", "LIFMembraneExodus", "LIFSlayer", "ExpSynExodus"),  # need CUDA
    },
}


def neurons_of(library: str) -> set[str]:
    """The classes of modules that a library offers as neurons."""
    import rockpool.nn.modules
    import sinabs.layers
    import snntorch
    from spikingjelly.activation_based import neuron

    namespace = {
        "snntorch": snntorch._neurons,
        "spikingjelly": neuron,
        "sinabs": sinabs.layers,
        "rockpool": rockpool.nn.modules,
    }[library]
    wanted = {"sinabs": sinabs.layers.StatefulLayer}.get(library, nn.Module)
    return {
        kind.__name__
        for kind in vars(namespace).values()
        if isinstance(kind, type) and issubclass(kind, wanted)
    }


@pytest.mark.parametrize("library", OTHERS)
def test_every_neuron_of_a_library_is_in_the_list(library: str) -> None:
    """A new release may bring new ones; the list must say what becomes of them."""
    listed = {type(built(case)).__name__ for case in CASES if case.library == library}
    assert neurons_of(library) - OTHERS[library] == listed
