"""What the name of a value in an unknown module says of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuroparam import BoundedSigmoid, ExpScaledLog, Softplus, errors, find, make_trainable, values
from tests.support.modules import assert_unchanged, snapshot

DECAYS = ("beta", "alpha", "decay", "dcy_mem", "rho", "leak", "beta_mem", "decayRate", "alpha_syn")
THRESHOLDS = ("thr", "threshold", "v_th", "theta", "vth", "thresh", "Vthr", "th", "v_threshold")
TIME_CONSTANTS = ("tau", "tau_mem", "tauSyn", "tau_m", "tau_mem_inv", "tau_syn_rise")
MAPPED = ("log_tau", "raw_beta", "beta_logit", "logit_decay", "log_alpha")
# name, value, and a word of the reason
NOT_OFFERED = (
    ("mem", torch.zeros(3), "state"),
    ("v", 0.1, "state"),
    ("spk", torch.ones(1, 3), "state"),
    ("dt", 1e-3, "time step"),
    ("time_step", 1, "time step"),
    ("dropout", 0.5, "dropout"),
    ("slope", 25.0, "surrogate"),
    ("surrogate_alpha", 2.0, "surrogate"),
    ("beta_min", 0.1, "bound"),
    ("eps", 1e-5, "bound"),
    ("weight_decay", 0.1, "optimizer"),
    ("log_tau", torch.ones(3), "any number is valid"),
)


class Holder(nn.Module):
    """A module of nobody's library; what torch's own modules hold is not looked at."""


def holding(name: str, value: float | Tensor) -> nn.Module:
    module = Holder()
    setattr(module, name, value)
    return module


@pytest.mark.parametrize("shape", [(), (4,), (1, 4), (4, 1, 1)], ids=str)
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *((name, 0.9, BoundedSigmoid(0.0, 1.0)) for name in DECAYS),
        *((name, 1.5, ExpScaledLog()) for name in ("beta", "decay", "rho")),  # they are none
        *((name, 0.5, Softplus()) for name in THRESHOLDS),
        *((name, 0.5, ExpScaledLog()) for name in TIME_CONSTANTS),
        *((name, 0.5, ExpScaledLog()) for name in ("gain", "capacity", "through", "three")),
    ],
)
def test_a_value_gets_the_map_that_its_name_and_number_ask_for(
    name: str, value: float, expected: nn.Module, shape: tuple[int, ...]
) -> None:
    module = holding(name, torch.full(shape, value))
    (candidate,) = find(module)
    assert candidate.shape == shape
    assert repr(candidate.parametrization) == repr(expected)
    make_trainable(module, name)
    (found,) = module.parametrizations[name]
    assert type(found) is type(expected)
    torch.testing.assert_close(values(module)[name], torch.full(shape, value))


def test_a_decay_stays_below_one_however_it_is_trained() -> None:
    module = make_trainable(holding("beta", nn.Parameter(torch.full((8,), 0.95))), "beta")
    optimizer = torch.optim.SGD(module.parameters(), lr=1e3)
    for _ in range(10):
        optimizer.zero_grad()
        (-module.beta.sum()).backward()
        optimizer.step()
    assert (module.beta < 1).all()


@pytest.mark.parametrize("name", MAPPED)
def test_what_the_module_maps_itself_is_refused_without_a_map(name: str) -> None:
    module = nn.Sequential(holding(name, nn.Parameter(torch.ones(3))))
    before = snapshot(module)
    with pytest.raises(errors.NotTrainableError, match="maps it itself") as caught:
        make_trainable(module, name)
    assert f"'0.{name}'" in str(caught.value)
    assert "Leave it the Parameter that it is" in caught.value.instead
    assert_unchanged(module, before)
    make_trainable(module, {name: ExpScaledLog()})  # The user knows better.


@pytest.mark.parametrize(("name", "value", "reason"), NOT_OFFERED)
def test_what_is_no_neuron_parameter_is_not_offered_and_has_a_reason(
    name: str, value: float | Tensor, reason: str
) -> None:
    found = find(holding(name, value))
    assert not found
    (other,) = found.not_offered
    assert other.path == name
    assert reason in other.why
    assert other.why in str(found)


def test_a_number_of_a_surrogate_is_known_by_the_class_that_holds_it() -> None:
    class FastSurrogate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = 0.5

    (other,) = find(nn.Sequential(FastSurrogate())).not_offered
    assert other.path == "0.alpha"
    assert "surrogate gradient" in other.why


def test_neuron_parameters_come_first_and_sizes_and_weights_not_at_all() -> None:
    module = Holder()
    module.gain, module.neurons, module.tau = 2.0, 4, 8
    module.weight_matrix, module.mixing = torch.rand(4, 4), nn.Parameter(torch.rand(4, 4))
    module.rest, module.threshold = -0.1, torch.ones(4, 4)
    found = find(module)
    assert [each.path for each in found] == ["tau", "threshold", "gain", "rest"]
    assert found[-1].parametrization is None
    assert "not positive" in found[-1].why


def test_a_whole_number_that_is_named_like_a_time_constant_trains() -> None:
    module = make_trainable(holding("tau", 8), "tau")
    torch.testing.assert_close(values(module)["tau"], torch.tensor(8.0))
