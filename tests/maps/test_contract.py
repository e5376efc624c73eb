"""A user's subclass of `Parametrization` with `forward`, `right_inverse` and `domain` is enough."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.distributions import constraints

from neuroparam import (
    BoundedSigmoid,
    Decay,
    ExpScaledLog,
    Parametrization,
    Rate,
    Softplus,
    check_gradients,
    errors,
    make_fixed,
    make_trainable,
    neuron_parameters,
    plain_state_dict,
    summary,
    values,
)
from neuroparam.testing import check_parametrization, values_of


class Square(Parametrization):
    """Three members, and no more."""

    domain = constraints.positive

    def forward(self, raw: Tensor) -> Tensor:
        return nn.functional.softplus(raw).square()

    def right_inverse(self, value: Tensor) -> Tensor:
        return torch.log(torch.expm1(value.sqrt()))


class Scaled(Parametrization):
    """A constant that travels, and a domain that depends on another one."""

    constant_names = ("factor", "lower")

    def __init__(self, factor: float, lower: float = 0.0):
        super().__init__()
        self.factor, self.lower = factor, lower
        self.domain = constraints.greater_than(lower)

    def forward(self, raw: Tensor) -> Tensor:
        return self.lower + self.factor * torch.exp(raw)

    def right_inverse(self, value: Tensor) -> Tensor:
        return torch.log((value - self.lower) / self.factor)


class Leaky(nn.Module):
    def __init__(self, tau: Tensor | float = 4.0):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("tau", torch.as_tensor(tau))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) / self.tau


MAPS: list[Callable[[], Parametrization]] = [Square, lambda: Scaled(2.0), lambda: Scaled(0.5, 1.0)]

each_map = pytest.mark.parametrize("build", MAPS, ids=lambda build: repr(build()))


def trained(module: nn.Module, steps: int = 5) -> nn.Module:
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    return module


@each_map
def test_it_keeps_the_contract(build: Callable[[], Parametrization]) -> None:
    check_parametrization(build())


@each_map
def test_it_trains(build: Callable[[], Parametrization]) -> None:
    module = make_trainable(Leaky(), {"tau": build()}, shape=(3,))
    assert torch.allclose(module.tau, torch.full((3,), 4.0))
    before = values(module)["tau"]
    trained(module)
    assert (values(module)["tau"] != before).all()
    assert check_gradients(module, torch.ones(2, 3))["tau"].isfinite().all()


@each_map
def test_it_is_in_the_summary(build: Callable[[], Parametrization]) -> None:
    lines = summary(make_trainable(Leaky(), {"tau": build()}, shape=(3,))).splitlines()
    low = 1 if "lower=1" in repr(build()) else 0
    assert repr(build()) in lines[1]
    assert f"({low}, inf)" in lines[1]
    assert "3/3" in lines[1]


def test_its_constants_are_printed() -> None:
    assert repr(Scaled(2.0, 0.25)) == "Scaled(factor=2, lower=0.25)"


@each_map
def test_it_is_copied_and_pickled(build: Callable[[], Parametrization]) -> None:
    module = trained(make_trainable(Leaky(), {"tau": build()}, shape=(3,)))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other.tau, module.tau)
        trained(other)
        assert not torch.equal(other.tau, module.tau)


@each_map
def test_its_checkpoint_loads(build: Callable[[], Parametrization]) -> None:
    module = trained(make_trainable(Leaky(), {"tau": build()}, shape=(3,)))
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh = make_trainable(Leaky(), {"tau": build()}, shape=(3,))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh.tau, module.tau)
    plain = Leaky(torch.zeros(3))
    plain.load_state_dict(plain_state_dict(module))
    assert torch.equal(plain.tau, module.tau)
    fixed = make_fixed(module)
    assert type(fixed) is Leaky
    assert torch.equal(fixed.tau, plain.tau)


def test_a_checkpoint_with_other_constants_is_refused_and_changes_nothing() -> None:
    source = trained(make_trainable(Leaky(), {"tau": Scaled(2.0)}))
    module = make_trainable(Leaky(), {"tau": Scaled(3.0)})
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(errors.CheckpointError, match=r"factor=2\.0.*factor=3\.0"):
        module.load_state_dict(source.state_dict())
    for key, entry in module.state_dict().items():
        same = (
            torch.equal(entry, before[key]) if isinstance(entry, Tensor) else entry == before[key]
        )
        assert same, key


def test_values_outside_its_domain_are_refused_though_its_inverse_takes_them() -> None:
    class Careless(Scaled):
        def right_inverse(self, value: Tensor) -> Tensor:
            return torch.log(value.abs() / self.factor)

    module = Leaky(-1.0)
    with pytest.raises(errors.OutOfDomainError, match=r"'tau': -1 is outside .*\(0, inf\)"):
        make_trainable(module, {"tau": Careless(2.0)})
    assert type(module) is Leaky
    make_trainable(module, {"tau": Careless(2.0)}, init=2.0)
    with pytest.raises(errors.OutOfDomainError, match="-3 is outside"):
        module.tau = -3.0
    assert module.tau.item() == pytest.approx(2.0)


def test_a_distribution_that_leaves_its_domain_is_refused() -> None:
    with pytest.raises(errors.InitialValueError, match="leaves the domain"):
        make_trainable(
            Leaky(), {"tau": Scaled(2.0)}, init=torch.distributions.Normal(4.0, 1.0), shape=(3,)
        )


@pytest.mark.parametrize("unit", [Rate(), Decay(1e-3)], ids=repr)
def test_it_goes_before_a_unit_map(unit: nn.Module) -> None:
    start = 50.0 if isinstance(unit, Rate) else 0.95
    module = make_trainable(Leaky(start), {"tau": [Square(), unit]}, shape=(3,))
    assert torch.allclose(module.tau, torch.full((3,), start), rtol=1e-4)
    trained(module)
    lower, upper = (0.0, torch.inf) if isinstance(unit, Rate) else (0.0, 1.0)
    assert ((module.tau > lower) & (module.tau < upper)).all()


def test_its_limits_are_the_floats_inside_its_domain_unless_it_states_others() -> None:
    assert Scaled(2.0, 1.0).limits(torch.float32)[0] == 1.0 + 2.0**-23
    assert Scaled(2.0).limits(torch.float64)[1] == torch.finfo(torch.float64).max

    class Narrow(Scaled):
        def limits(self, dtype: torch.dtype) -> tuple[float, float]:
            return 0.1, 10.0

    @given(values_of(Narrow(2.0), (2,)))
    def all_between(drawn: Tensor) -> None:
        assert ((drawn >= 0.1) & (drawn <= 10.0)).all()

    all_between()
    module = make_trainable(Leaky(), {"tau": Narrow(2.0)})
    with pytest.raises(errors.OutOfDomainError, match="20 is outside"):
        module.tau = 20.0


def test_without_a_domain_it_is_refused() -> None:
    class NoDomain(Parametrization):
        def forward(self, raw: Tensor) -> Tensor:
            return raw

        def right_inverse(self, value: Tensor) -> Tensor:
            return value

    module = Leaky()
    with pytest.raises(errors.ParametrizationError, match=r"'tau': NoDomain\(\) states no domain"):
        make_trainable(module, {"tau": NoDomain()})
    assert type(module) is Leaky


@pytest.mark.parametrize(
    "build",
    [
        Softplus,
        lambda: Softplus(0.5, 2.0),
        ExpScaledLog,
        lambda: ExpScaledLog(0.3, 50.0),
        lambda: BoundedSigmoid(0.0, 1.0),
        lambda: BoundedSigmoid(1.0, 100.0, "log"),
        lambda: BoundedSigmoid(-3.0, 2.0),
    ],
    ids=lambda build: repr(build()),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_maps_of_the_library_keep_it(
    build: Callable[[], Parametrization], dtype: torch.dtype
) -> None:
    check_parametrization(build(), (), dtype)


# What `check_parametrization` finds: each of these breaks one clause.


class Narrower(Square):
    domain = constraints.interval(0.0, 1.0)


class NoInverse(Square):
    def right_inverse(self, value: Tensor) -> Tensor:
        return value


class Folded(Square):
    def forward(self, raw: Tensor) -> Tensor:
        return raw.abs() + 1.0

    def right_inverse(self, value: Tensor) -> Tensor:
        return value - 1.0


class Normalised(Square):
    def forward(self, raw: Tensor) -> Tensor:
        return torch.exp(raw - raw.mean())

    def right_inverse(self, value: Tensor) -> Tensor:
        return torch.log(value)


class Detached(Square):
    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(raw.detach())


class WrongSlope(Square):
    def forward(self, raw: Tensor) -> Tensor:
        value = super().forward(raw)
        return 2 * value - value.detach()


class InDouble(Square):
    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(raw.double())


class Buffered(Square):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))


class Misnamed(Square):
    constant_names = ("scale",)


class TensorConstant(Square):
    constant_names = ("scale",)

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(())


class Unlimited(Square):
    def limits(self, dtype: torch.dtype) -> tuple[float, float]:
        return 1.0, 2.0


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (Narrower, "values leave the domain"),
        (NoInverse, r"forward\(right_inverse\(value\)\) differs"),
        (Folded, "not strictly monotone"),
        (Normalised, "does not compute elementwise"),
        (Detached, "no gradient reaches the raw tensor"),
        (WrongSlope, "differs from finite differences"),
        (InDouble, "changes shape, dtype or device"),
        (Buffered, "has buffers"),
        (Misnamed, "names a constant 'scale' that it has not"),
        (TensorConstant, "'scale' is no python number"),
        (Unlimited, "leave the limits 1 to 2"),
    ],
)
def test_the_check_finds_what_breaks_the_contract(
    build: Callable[[], Parametrization], problem: str
) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_parametrization(build())


def test_the_check_leaves_the_map_as_it_was() -> None:
    fitted = ExpScaledLog()
    check_parametrization(fitted)
    assert fitted.reference is None
    assert len(neuron_parameters(make_trainable(Leaky(), {"tau": fitted}))) == 1
