"""Norse itself runs where the adjoint computes something else, with results that are Norse's."""

from __future__ import annotations

import warnings

import norse.torch as norse
import pytest
import torch
from norse.torch.functional.lif import LIFParameters
from torch import Tensor, nn

from neuroparam.adjoint import use_adjoint
from tests.adjoint.networks import X, attached
from tests.support import inside

STEP = LIFParameters(method="heaviside")


def both() -> tuple[nn.Module, nn.Module]:
    return attached(), use_adjoint(attached())


@pytest.fixture(autouse=True)
def no_sequence_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequence function must not run at all."""

    def refuse(*args, **keywords) -> None:
        raise AssertionError("the adjoint ran")

    monkeypatch.setattr(inside.norse_layers, "run_sequence", refuse)


def test_no_grad_and_inference_mode() -> None:
    own, mine = both()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(mine(X)[0], own(X)[0])


def test_autocast() -> None:
    own, mine = both()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mine(X)[0], own(X)[0])


def test_recorded_states() -> None:
    own = norse.LIF(record_states=True)
    mine = use_adjoint(norse.LIF(record_states=True))
    for found, expected in zip(mine(X)[1], own(X)[1], strict=True):
        assert found.shape == X.shape
        assert torch.equal(found, expected)


def test_sparse_input() -> None:
    torch.manual_seed(0)
    own = norse.LIFRecurrentCell(12, 9)
    mine = use_adjoint(norse.LIFRecurrentCell(12, 9))
    mine.load_state_dict(own.state_dict())
    x = X[0].to_sparse()
    (found, _), (expected, _) = mine(x), own(x)
    assert found.is_sparse
    assert torch.equal(found.to_dense(), expected.to_dense())


def test_torch_func() -> None:
    def gradients(net: nn.Module) -> dict[str, Tensor]:
        def loss(parameters: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(net, parameters, (X,))[0].square().sum()

        return torch.func.grad(loss)(dict(net.named_parameters()))

    own, mine = both()
    expected = gradients(own)
    for name, found in gradients(mine).items():
        assert torch.equal(found, expected[name])


def test_vmap() -> None:
    # of Norse's spike functions only this one has rules for vmap and forward mode
    own, mine = norse.LIF(STEP), use_adjoint(norse.LIF(STEP))
    x = torch.stack((X, 2 * X))

    def outputs(layer: nn.Module) -> Tensor:
        return torch.func.vmap(lambda each: layer(each)[0])(x)

    assert torch.equal(outputs(mine), outputs(own))


def test_forward_mode() -> None:
    from torch.autograd import forward_ad

    def tangent(layer: nn.Module) -> Tensor:
        with forward_ad.dual_level():
            x = forward_ad.make_dual(X, torch.ones_like(X))
            state = layer(x)[1]
            return forward_ad.unpack_dual(state.i).tangent

    assert torch.equal(tangent(use_adjoint(norse.LIF(STEP))), tangent(norse.LIF(STEP)))


# what torch.compile itself warns of, with plain modules too
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # 2.6
@pytest.mark.filterwarnings("ignore:Skipping serialization of skipfiles")  # 2.6
def test_compiled() -> None:
    own, mine = both()
    compiled = torch.compile(mine, backend="eager")
    short = X[:3]
    found = compiled(short)[0]
    assert torch.equal(found, own(short)[0])
    found.square().sum().backward()
    own(short)[0].square().sum().backward()
    for (name, p), (_, q) in zip(mine.named_parameters(), own.named_parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, msg=name)
    torch._dynamo.reset()


def test_traced() -> None:
    mine = use_adjoint(norse.LIF())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        traced = torch.jit.trace(lambda x: mine(x)[0], X[:3], check_trace=False)
    assert torch.equal(traced(X[:3]), norse.LIF()(X[:3])[0])


def test_another_activation() -> None:
    def doubled(x, state, p, dt):
        return 2 * x, state

    layer = use_adjoint(norse.LIF())
    layer.activation = doubled
    assert torch.equal(layer(X)[0], 2 * X)


def test_no_steps_is_norses_own_error() -> None:
    with pytest.raises(RuntimeError, match="non-empty"):
        use_adjoint(norse.LIF())(X[:0])
