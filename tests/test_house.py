"""The house: floors whose arrows point down, names that mean one thing, doors that are few."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuroparam

ROOT = Path(neuroparam.__file__).parent
TESTS = Path(__file__).parent

# From the ground up: each floor imports floors before it only.
FLOORS = [
    "_ground",
    "_maps",
    "_catalogue",
    "_value",
    "_training",
    "_attaching",
    "_adjoint",
    "_looking",
]
# The public modules stand above all floors. Only these import anything but torch.
BESIDE_TORCH = {
    "testing.py": {"hypothesis"},
    "_looking/plot.py": {"matplotlib"},
    "_adjoint/norse_layers.py": {"norse"},
}

MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its head or inside a function."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            for alias in node.names:
                # `from neuroparam import errors` imports a module too
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT.parent / (inner.replace(".", "/") + ".py")).exists()
                yield inner if is_module else node.module


def floor_of(module: str) -> int:
    """The number of a module's floor; public modules are on top."""
    part = module.removeprefix("neuroparam").lstrip(".").partition(".")[0]
    return FLOORS.index(part) if part in FLOORS else len(FLOORS)


def dotted(path: str) -> str:
    return "neuroparam." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_every_folder_is_a_floor() -> None:
    folders = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists())
    assert folders == sorted(FLOORS)


@pytest.mark.parametrize("path", MODULES)
def test_arrows_point_down(path: str) -> None:
    mine = floor_of(dotted(path))
    up = [
        module
        for module in imports(ROOT / path)
        if module.startswith("neuroparam") and floor_of(module) > mine
    ]
    assert not up, f"{path} imports {up}, which is above it"
    if mine < len(FLOORS):
        public = [m for m in imports(ROOT / path) if m.partition(".")[0] == "neuroparam"]
        assert all(floor_of(module) < len(FLOORS) for module in public)


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {
        dotted(path): {m for m in imports(ROOT / path) if m.startswith("neuroparam")}
        for path in MODULES
    }
    removed: set[str] = set()
    while free := [m for m in arrows if m not in removed and not arrows[m] - removed - {m}]:
        removed.update(free)
    assert removed == set(arrows), f"a circle among {sorted(set(arrows) - removed)}"


@pytest.mark.parametrize("path", MODULES)
def test_no_library_and_no_test_is_imported(path: str) -> None:
    roots = {module.partition(".")[0] for module in imports(ROOT / path)}
    allowed = {"neuroparam", "torch", *sys.stdlib_module_names, *BESIDE_TORCH.get(path, set())}
    assert roots <= allowed


@pytest.mark.parametrize("path", MODULES)
def test_each_first_line_says_what_the_module_knows(path: str) -> None:
    docstring = ast.get_docstring(tree_of(ROOT / path))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("path", [f"{floor}/__init__.py" for floor in FLOORS])
def test_each_floor_says_what_it_may_import(path: str) -> None:
    assert "import" in (ast.get_docstring(tree_of(ROOT / path)) or "").lower()


def bound_in(function: ast.FunctionDef | ast.Lambda) -> Iterator[str]:
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        yield argument.arg
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


@pytest.mark.parametrize("path", MODULES)
def test_no_local_variable_hides_an_import(path: str) -> None:
    tree = tree_of(ROOT / path)
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Lambda))]
    hidden = {name for function in functions for name in bound_in(function)} & imported
    assert not hidden


def test_dir_shows_the_public_names_only() -> None:
    assert sorted(dir(neuroparam)) == sorted([*neuroparam.__all__, "__version__"])
    assert all(hasattr(neuroparam, name) for name in neuroparam.__all__)


PUBLIC = sorted(name for _, name, _ in pkgutil.iter_modules([str(ROOT)]) if name[0] != "_")


def test_the_public_modules_are_these() -> None:
    assert PUBLIC == [
        "adjoint",
        "catalogue",
        "errors",
        "initial",
        "inspect",
        "parametrizations",
        "plot",
        "testing",
        "units",
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_has_what_it_promises(name: str) -> None:
    module = importlib.import_module(f"neuroparam.{name}")
    assert module.__all__
    for public in module.__all__:
        assert getattr(module, public).__doc__, public


# The paths that users of earlier releases may have imported from.
EARLIER = [
    ("neuroparam.errors", "NeuroparamError"),
    ("neuroparam.inspect", "Candidate"),
    ("neuroparam.inspect", "summary"),
    ("neuroparam.parametrizations", "Softplus"),
    ("neuroparam.plot", "distributions"),
    ("neuroparam.testing", "raw_values"),
    ("neuroparam.units", "Above"),
    ("neuroparam.units", "Bitshift"),
    ("neuroparam.units", "Decay"),
]


@pytest.mark.parametrize(("module", "name"), EARLIER)
def test_earlier_import_paths_lead_to_the_same_objects(module: str, name: str) -> None:
    found = getattr(importlib.import_module(module), name)
    assert getattr(neuroparam, name, found) is found


# --------------------------------------------------------------------------------- the tests

DOOR = "support/inside.py"
TEST_FILES = sorted(
    path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py") if path.name != "__init__.py"
)


@pytest.mark.parametrize("path", [path for path in TEST_FILES if path != DOOR])
def test_the_tests_import_no_private_name(path: str) -> None:
    for node in ast.walk(tree_of(TESTS / path)):
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        else:
            continue
        ours = names[0] in ("neuroparam", "tests", "tools")
        private = [name for name in names if name.startswith("_") and not name.startswith("__")]
        assert not (ours and private), f"{path} imports {private}"


@pytest.mark.parametrize("path", [path for path in TEST_FILES if "test_" in path])
def test_no_test_imports_another_test(path: str) -> None:
    for module in imports(TESTS / path):
        last = module.rpartition(".")[2]
        assert not (module.startswith("tests.") and last.startswith("test_")), module
