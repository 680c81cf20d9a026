"""The floors of the house: an import goes down only, scripts read in one sitting."""

import ast

import pytest

from tests.conftest import ROOT

GEOMETRY = {f"common.{name}" for name in ("errors", "skeleton", "camera", "rotation", "bones", "threads")}


def imported(path) -> set[str]:
    """Modules of this project that a file imports, as `package.module`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] in ("common", "models", "tests", "data")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("common/*.py")), ids=lambda path: path.stem)
def test_the_library_imports_no_network(path):
    assert not {name for name in imported(path) if name.split(".")[0] != "common"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*.py")), ids=lambda path: path.stem)
def test_networks_import_geometry_only(path):
    modules = {".".join(name.split(".")[:2]) for name in imported(path) if name.startswith("common.")}
    assert modules <= GEOMETRY, modules - GEOMETRY


def test_scripts_and_modules_read_in_one_sitting():
    for path in ROOT.glob("*.py"):
        assert path.read_text().count("\n") <= 250, path
    for path in [*ROOT.glob("common/*.py"), *ROOT.glob("models/*.py")]:
        assert path.read_text().count("\n") <= 400, path


@pytest.mark.parametrize("package", ["common", "models"])
def test_the_library_neither_prints_nor_star_imports(package):
    for path in ROOT.glob(f"{package}/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), path
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), path
