"""use_adjoint and use_autograd: what changes in a network, what does not, and what is refused."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings

import norse.torch as norse
import pytest
import torch
from norse.torch.functional.lif import LIFParameters
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuroparam import (
    cached,
    check_gradients,
    errors,
    find,
    make_fixed,
    make_trainable,
    neuron_parameters,
    values,
)
from neuroparam.adjoint import use_adjoint, use_autograd
from tests.adjoint.networks import NAMES, SHAPES, X, attached, network
from tests.support.modules import assert_unchanged, snapshot

lean = functools.partial(use_adjoint, lean=True)


def run(net: nn.Module, x: Tensor = X) -> dict[str, Tensor]:
    """The output and the gradient of every Parameter."""
    net.zero_grad()
    output, _ = net(x)
    output.square().sum().backward()
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return {"output": output.detach(), **found}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    assert torch.equal(found["output"], expected["output"])
    for name, each in expected.items():
        assert (found[name] - each).norm() <= rtol * each.norm(), name


@pytest.mark.parametrize("change", [use_adjoint, lean], ids=["full", "lean"])
def test_attached_before_or_after(change) -> None:
    expected = run(attached())
    assert_same(run(change(attached())), expected)
    assert_same(run(make_trainable(change(network()), NAMES, shape=SHAPES)), expected)
    assert_same(run(use_autograd(change(attached()))), expected, rtol=0)


def test_it_returns_the_module_and_changes_only_its_layers() -> None:
    net = network()
    kinds = [type(layer) for layer in net]
    assert use_adjoint(net) is net
    assert [type(layer).__name__ for layer in net] == [
        "AdjointLIFRecurrent",
        "Linear",
        "AdjointLIF",
        "Linear",
        "LI",
    ]
    assert isinstance(net[0], norse.LIFRecurrent)
    assert use_autograd(net) is net
    assert [type(layer) for layer in net] == kinds


def test_lean_is_chosen_anew_with_each_call() -> None:
    layer = use_adjoint(norse.LIF(), lean=True)
    assert layer.lean
    assert "lean=True" in repr(layer)
    assert not use_adjoint(layer).lean
    assert "lean" not in vars(use_autograd(layer))


def test_fixed_before_and_after() -> None:
    fixed = make_fixed(use_adjoint(attached()))
    assert type(fixed[0]).__name__ == "AdjointLIFRecurrent"
    assert type(fixed[0].p) is LIFParameters
    assert not neuron_parameters(fixed)
    assert torch.equal(run(fixed)["output"], run(attached())["output"])
    assert type(use_autograd(fixed)[0]) is norse.LIFRecurrent


@pytest.mark.parametrize("raw", ["tau_mem_inv", "tau_syn_inv", "v_th", "v_reset"])
def test_a_raw_parameter_in_the_record_trains(raw: str) -> None:
    def gradient(change) -> Tensor:
        layer = change(network()[0])
        value = nn.Parameter(getattr(layer.p, raw).expand(9).clone())
        layer.p = layer.p._replace(**{raw: value})
        layer(X)[0].square().sum().backward()
        return value.grad

    expected = gradient(lambda layer: layer)
    assert (gradient(use_adjoint) - expected).norm() <= 2e-5 * expected.norm()


def test_numbers_in_the_record() -> None:
    numbers = LIFParameters(200.0, 90.0, 0.1, 0.4, -0.1)

    def outputs(change) -> Tensor:
        layer = change(norse.LIF())
        layer.p = numbers
        return layer(X)[0]

    assert torch.equal(outputs(use_adjoint), outputs(lambda layer: layer))


def test_state_dicts_load_into_each_other() -> None:
    for one, other in ((use_adjoint, use_autograd), (use_autograd, use_adjoint)):
        source, target = one(attached()), other(attached())
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.add_(0.1)
        assert source.state_dict().keys() == target.state_dict().keys()
        target.load_state_dict(source.state_dict())
        assert_same(run(target), run(source))
        network().load_state_dict(make_fixed(copy.deepcopy(source)).state_dict())


@pytest.mark.parametrize("build", [network, attached])
@pytest.mark.parametrize("change", [use_adjoint, lean], ids=["full", "lean"])
def test_copies_and_pickles(build, change) -> None:
    net = change(build())
    expected = run(net)
    copies = [copy.deepcopy(net), copy.deepcopy(copy.deepcopy(net))]
    if build is attached:  # Norse's own records cannot be pickled.
        saved = io.BytesIO()
        torch.save(net, saved)
        saved.seek(0)
        copies.append(torch.load(saved, weights_only=False))
        copies.append(pickle.loads(pickle.dumps(net)))
    for each in copies:
        assert type(each[0]) is type(net[0])
        assert each[0].lean is net[0].lean
        # The gradients of self-connections are zero here too, which plain Norse forgets in copies.
        assert_same(run(each), expected, rtol=0)


def test_cells_in_a_loop() -> None:
    def gradients(change, build) -> list[Tensor]:
        torch.manual_seed(1)
        cell = build()
        names = ["tau_mem_inv", "tau_syn_inv", "v_th"]
        make_trainable(cell, names, shape=(9,))
        change(cell)
        x = X[..., :9] if isinstance(cell, norse.LIFCell) else 3 * X
        state, total = None, torch.zeros(())
        with cached():
            for step in x:
                spikes, state = cell(step, state)
                total = total + spikes.sum() + state.v.square().sum()
        total.backward()
        return [total.detach(), *(p.grad for p in cell.parameters())]

    for build in (lambda: norse.LIFRecurrentCell(12, 9), norse.LIFCell):
        expected = gradients(lambda cell: cell, build)
        for mine, own in zip(gradients(use_adjoint, build), expected, strict=True):
            assert (mine - own).norm() <= 2e-5 * own.norm()


def test_values_are_evaluated_once_and_proven() -> None:
    net = use_adjoint(attached())
    assert len(check_gradients(net, X)) == len(NAMES)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = {path: each.clone() for path, each in values(net).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(12):
            run(net)
            optimizer.step()
    assert all(bool((values(net)[path] != each).all()) for path, each in before.items())


def test_find_shows_the_same() -> None:
    assert str(find(use_adjoint(network(), lean=True))) == str(find(network()))


def test_a_parametrization_of_weights_after_it() -> None:
    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    for build in (network, attached):
        nets = [build(), use_adjoint(build())]
        for net in nets:
            parametrize.register_parametrization(net[0], "input_weights", Double())
        assert_same(run(nets[1]), run(nets[0]))


def test_within_activation_checkpointing() -> None:
    from torch.utils.checkpoint import checkpoint

    net = use_adjoint(attached())
    expected = run(net)
    for reentrant in (False, True):
        net.zero_grad()
        x = X.clone().requires_grad_()
        checkpoint(lambda each: net(each)[0], x, use_reentrant=reentrant).square().sum().backward()
        assert_same(
            {
                "output": expected["output"],
                **{n: p.grad for n, p in net.named_parameters() if p.grad is not None},
            },
            expected,
        )


def test_it_trains_half_precision_inputs_as_norse_does() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        own, mine = network()[2], use_adjoint(network()[2])
        x = (8 * X).to(dtype)
        assert torch.equal(mine(x)[0], own(x)[0])
        assert mine(x)[0].dtype == own(x)[0].dtype


# ------------------------------------------------------------------------------ what is refused


class Derived(norse.LIF):
    pass


def own_adjoint() -> nn.Module:
    return norse.SequentialState(norse.LIF(LIFParameters(method="adjoint")), norse.LIF())


def lsnn() -> nn.Module:
    return norse.SequentialState(norse.LSNN(adjoint=True), norse.LIF())


def weight_norm() -> nn.Module:
    net = network()
    torch.nn.utils.parametrizations.weight_norm(net[0], "recurrent_weights")
    return net


def attached_and_weight_norm() -> nn.Module:
    net = attached()
    torch.nn.utils.parametrizations.weight_norm(net[0], "recurrent_weights")
    return net


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Linear(2, 3), "Linear holds no LIF, LIFCell, LIFRecurrent or LIFRecurrentCell"),
        (lambda: norse.SequentialState(Derived()), "derived from them(.|\n)*0: Derived"),
        (norse.LSNN, "LSNN holds no LIF"),
        (own_adjoint, r"'0': LIF computes with Norse's own adjoint.*method=\"super\""),
        (lsnn, r"'0': LSNN computes with Norse's own adjoint.*adjoint=False"),
        (weight_norm, "'0': recurrent_weights carries a parametrization.*register it again"),
        (attached_and_weight_norm, "'0': recurrent_weights carries a parametrization"),
        (lambda: norse.LIF, "module must be an instance"),
        (lambda: None, "module must be an instance"),
    ],
)
def test_what_is_refused_is_left_as_it_was(build, message: str) -> None:
    module = build()
    before = snapshot(module) if isinstance(module, nn.Module) else None
    with pytest.raises(errors.UnsupportedModuleError, match=message):
        use_adjoint(module)
    if before is not None:
        assert_unchanged(module, before)


def test_lean_must_be_a_choice() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="lean must be True or False; got 'yes'"):
        use_adjoint(norse.LIF(), lean="yes")


def test_autograd_refuses_parametrized_weights_too() -> None:
    net = use_adjoint(network())
    torch.nn.utils.parametrizations.weight_norm(net[0], "recurrent_weights")
    with pytest.raises(errors.UnsupportedModuleError, match="'0': recurrent_weights"):
        use_autograd(net)


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support import inside

    net = attached()
    before = snapshot(net)
    change, calls = inside.switch.change_class, []

    def interrupted(*args) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        change(*args)

    monkeypatch.setattr(inside.switch, "change_class", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use_adjoint(net)
    assert_unchanged(net, before)


def test_second_derivatives_are_refused_in_words() -> None:
    net = use_adjoint(attached())
    output, _ = net(X)
    (gradient,) = torch.autograd.grad(output.sum(), neuron_parameters(net)[0], create_graph=True)
    with pytest.raises(errors.AdjointError, match="use_autograd"):
        gradient.sum().backward()
    # asking for a graph without using it is fine
    (plain,) = torch.autograd.grad(net(X)[0].sum(), neuron_parameters(net)[0])
    torch.testing.assert_close(gradient, plain)


def test_several_backward_passes_at_once_are_refused_in_words() -> None:
    net = use_adjoint(attached())
    output = net(X)[0]
    with pytest.raises(errors.AdjointError, match="several backward passes at once"):
        torch.autograd.grad(
            output,
            neuron_parameters(net),
            torch.ones(2, *output.shape),
            is_grads_batched=True,
            allow_unused=True,
        )


@pytest.mark.parametrize("change", [use_adjoint, lean], ids=["full", "lean"])
def test_a_graph_that_is_kept_gives_the_same_again(change) -> None:
    net = change(attached())
    loss = net(X)[0].square().sum()
    parameters = list(net.parameters())
    first, second = (
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("change", [use_adjoint, lean], ids=["full", "lean"])
def test_weights_changed_before_the_backward_are_noticed(change) -> None:
    net = change(attached())
    loss = net(X)[0].square().sum()
    with torch.no_grad():
        net[0].recurrent_weights.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_spikes_written_before_the_backward_are_noticed() -> None:
    spikes, _ = use_adjoint(norse.LIF())(torch.rand(5, 2, 3, requires_grad=True))
    spikes.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()
