"""What is asked of torch's inner state has the answers that the other floors rely on."""

from __future__ import annotations

from operator import attrgetter

import torch
from torch import Tensor, nn

from tests.support.inside import (
    all_modules,
    callers,
    is_compiling,
    sharded_like,
    transform_level,
    whole,
)


class OwnModules(nn.Sequential):
    """A library may have a method `modules` of its own, as Rockpool has."""

    def modules(self) -> dict[str, nn.Module]:
        return {}


def test_all_modules_are_found_once_whatever_the_library_overrides() -> None:
    shared = nn.Linear(1, 1)
    outer = OwnModules(shared, nn.Sequential(shared))
    assert all_modules(outer) == [outer, shared, outer[1]]


def test_callers_begin_with_the_function_that_asks() -> None:
    def inner() -> list[str]:
        return list(map(attrgetter("f_code.co_name"), callers()))

    def outer() -> list[str]:
        return inner()

    names = outer()
    assert names[:3] == ["inner", "outer", "test_callers_begin_with_the_function_that_asks"]


def test_the_level_counts_transforms_in_progress() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(transform_level())
        return x.square()

    assert transform_level() == 0
    torch.vmap(look)(torch.ones(2))
    torch.vmap(torch.func.grad(look))(torch.ones(2))
    assert seen == [1, 2]
    assert transform_level() == 0


def test_nothing_is_being_compiled_here() -> None:
    assert not is_compiling()


def test_a_tensor_that_is_not_sharded_is_whole_already() -> None:
    value = torch.ones(2)
    assert whole(value) is value
    assert sharded_like(torch.zeros(2), value) is value
