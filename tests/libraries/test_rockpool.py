"""What is special about Rockpool: two views of the parameters, leak modes, its own time step."""

from __future__ import annotations

import copy

import pytest
import torch
from rockpool.nn.combinators import Sequential
from rockpool.nn.modules import LIFTorch, LinearTorch
from torch import Tensor, nn

from neuroparam import (
    Quantity,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    param_groups,
    summary,
    values,
)

N = 3
TAUS = ["tau_mem", "tau_syn", "threshold"]


def x(steps: int = 8) -> Tensor:
    return (torch.rand(2, steps, N, generator=torch.Generator().manual_seed(0)) < 0.5).float()


def test_attached_parameters_are_those_that_torch_sees() -> None:
    module = make_trainable(LIFTorch(N), TAUS)
    seen = {id(parameter) for parameter in nn.Module.parameters(module)}
    assert {id(raw) for raw in neuron_parameters(module)} <= seen
    assert {id(p) for group in param_groups(module, lr=1e-3) for p in group["params"]} == seen
    assert {id(p) for p in module.to_torch().parameters()} == seen


def test_rockpools_own_view_holds_values_which_no_optimizer_takes() -> None:
    module = make_trainable(LIFTorch(N), TAUS)
    tree = module.parameters()
    assert torch.equal(tree["tau_mem"], module.tau_mem)
    with pytest.raises(ValueError, match="non-leaf"):
        torch.optim.Adam(tree.astorch())


@pytest.mark.parametrize("as_torch", [False, True])
def test_a_network_of_rockpool_trains(as_torch: bool) -> None:
    torch.manual_seed(0)
    net = Sequential(LinearTorch((N, N)), LIFTorch(N), LinearTorch((N, N)), LIFTorch(N))
    if as_torch:
        net = net.to_torch()
    make_trainable(net, [Quantity.TAU_MEM, Quantity.THRESHOLD])
    assert len(summary(net).splitlines()) == 1 + 4
    optimizer = torch.optim.Adam(param_groups(net, lr=1e-2))
    before = values(net)
    for _ in range(5):
        net.reset_state()
        output = net(3.0 * x())
        output = output[0] if isinstance(output, tuple) else output
        optimizer.zero_grad()
        (output.mean() - 1.0).square().backward()
        optimizer.step()
    for path, value in values(net).items():
        assert value.isfinite().all()
        assert not torch.equal(value, before[path]), path
    fixed = make_fixed(copy.deepcopy(net))
    assert {type(part) for part in nn.Module.modules(fixed) if "LIF" in type(part).__name__} == {
        LIFTorch
    }


@pytest.mark.parametrize(
    ("leak_mode", "other"),
    [("taus", "alpha"), ("taus", "dash_mem"), ("decays", "tau_mem"), ("bitshifts", "beta")],
)
def test_what_a_leak_mode_only_computes_is_refused(leak_mode: str, other: str) -> None:
    module = LIFTorch(N, leak_mode=leak_mode)
    with pytest.raises(errors.NotTrainableError, match="computed when read"):
        make_trainable(module, other)


def test_assigning_a_value_goes_through_the_parametrization() -> None:
    module = make_trainable(LIFTorch(N), "tau_mem")
    (raw,) = neuron_parameters(module)
    module.tau_mem = torch.full((N,), 5e-3)
    assert neuron_parameters(module)[0] is raw
    torch.testing.assert_close(values(module)["tau_mem"], torch.full((N,), 5e-3))
    with pytest.raises(errors.OutOfDomainError):
        module.tau_mem = torch.full((N,), -5e-3)


def test_a_failure_in_a_map_is_not_swallowed() -> None:
    """LIFTorch reads its time constants with a default of NaN for what it does not find."""

    class Broken(nn.Module):
        fail = False

        def forward(self, raw: Tensor) -> Tensor:
            return raw.no_such_attribute if self.fail else raw

        def right_inverse(self, value: Tensor) -> Tensor:
            return value.clone()

    module = make_trainable(LIFTorch(N), {"tau_mem": Broken()})
    module.parametrizations["tau_mem"][0].fail = True
    with pytest.raises(errors.EvaluationError, match="tau_mem"):
        module(x())


def test_torchs_methods_by_the_name_of_rockpools_need_to_torch() -> None:
    for module in (LIFTorch(N), make_trainable(LIFTorch(N), TAUS)):
        with pytest.raises(AttributeError):
            module.zero_grad()
        with pytest.raises(AttributeError):
            module.requires_grad_(False)
        module.to_torch().zero_grad()
        module.requires_grad_(False)


def test_one_value_per_neuron_of_what_was_built_as_one(tmp_path) -> None:
    """Rockpool itself holds on to the shape with which a module was built."""

    def built() -> nn.Module:
        return make_trainable(LIFTorch(N, tau_mem=0.01), "tau_mem", shape=(N,))

    module, twin = built(), built()
    module.tau_mem = torch.tensor([4e-3, 5e-3, 6e-3])
    module.save(tmp_path / "lif.json")
    twin.load(tmp_path / "lif.json")
    torch.testing.assert_close(twin.tau_mem, module.tau_mem)
    plain = make_fixed(built())
    plain.load(tmp_path / "lif.json")
    assert plain.tau_mem.shape == (N,)
    module.tau_mem = nn.Parameter(torch.full((N,), 7e-3))
    torch.testing.assert_close(values(module)["tau_mem"], torch.full((N,), 7e-3))


@pytest.mark.parametrize("leak_mode", ["taus", "decays", "bitshifts"])
def test_a_time_step_that_contradicts_the_modules_own_is_refused(leak_mode: str) -> None:
    module = LIFTorch(N, leak_mode=leak_mode)
    for quantity in (Quantity.TAU_MEM, Quantity.TAU_SYN, Quantity.THRESHOLD):
        with pytest.raises(errors.TimeStepError, match=r"0\.001 s, and dt=0\.002"):
            make_trainable(module, quantity, dt=2e-3)
    make_trainable(module, Quantity.TAU_MEM, dt=1e-3)
    with pytest.raises(errors.TimeStepError, match=r"0\.001 s, and dt=0\.002"):
        values(module, Quantity.TAU_MEM, dt=2e-3)


def test_from_25_bits_on_the_decay_is_one() -> None:
    decays = 1 - 2 ** -torch.tensor([24.0, 25.0])
    assert decays[0] < 1
    assert decays[1] == 1


@pytest.mark.parametrize("attach", [False, True])
def test_what_rockpool_saves_of_an_attached_module_loads_into_both(tmp_path, attach: bool) -> None:
    saved = make_trainable(LIFTorch(N), TAUS)
    saved.tau_mem = torch.tensor([4e-3, 5e-3, 6e-3])
    saved.save(tmp_path / "lif.json")
    module = make_trainable(LIFTorch(N), "tau_mem") if attach else LIFTorch(N)
    module.load(tmp_path / "lif.json")
    torch.testing.assert_close(module.tau_mem.detach(), torch.tensor([4e-3, 5e-3, 6e-3]))
    one = make_trainable(LIFTorch(N, tau_mem=0.01), "tau_mem")
    with pytest.raises(errors.AssignmentError, match="shape"):
        one.load(tmp_path / "lif.json")


def test_a_network_of_rockpool_saves_and_loads(tmp_path) -> None:
    def network() -> nn.Module:
        return make_trainable(Sequential(LinearTorch((N, N)), LIFTorch(N)), "*.tau_mem")

    net, other = network(), network()
    with torch.no_grad():
        neuron_parameters(net)[0].add_(0.5)
    net.save(tmp_path / "net.json")
    other.load(tmp_path / "net.json")
    for path, value in values(net).items():
        torch.testing.assert_close(values(other)[path], value)
