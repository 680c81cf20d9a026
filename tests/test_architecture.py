"""The plan of the house: a folder is a floor, an import goes down only, no script imports a script."""

import ast

import pytest

from tests.conftest import ROOT

# Rooms of common/ from the ground up; those on one line do not know each other. Its own files are the ground.
ROOMS = (("common",), ("files",), ("draw",), ("run",), ("images", "datasets"))
ROOMS += (("synthetic",), ("multiview", "mocap"), ("video",))
FLOOR = {f"common.{room}" if room != "common" else room: level for level, rooms in enumerate(ROOMS) for room in rooms}
FLOOR |= {"models": 10, "methods": 20, "scripts": 30}
SCRIPTS = {path.stem: path for path in ROOT.glob("*.py")}
LIBRARY = [path for room in ("common", "models", "methods") for path in sorted(ROOT.glob(f"{room}/**/*.py"))]


def name_of(path) -> str:
    """A file as a module: `common.run.log`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in [*LIBRARY, *SCRIPTS.values()]}


def imported(path) -> set[str]:
    """The modules of this project that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name in MODULES and MODULES[name].name != "__init__.py"}


def room(module: str) -> str:
    """`common.run.log` -> common.run; a file of the ground -> common; a script -> scripts."""
    parts = module.split(".")
    if parts[0] == "common":
        return ".".join(parts[:2]) if len(parts) > 2 else "common"
    return parts[0] if parts[0] in FLOOR else "scripts"


@pytest.mark.parametrize("module", MODULES)
def test_an_import_goes_down_only(module):
    here = room(module)
    for name in imported(MODULES[module]):
        there = room(name)
        assert FLOOR[there] < FLOOR[here] or (here == there != "scripts"), f"{module} imports {name}"
        assert here != "models" or there in ("models", "common"), f"{module} imports {name}, no file of the ground"
        if here == there == "methods":  # a method never imports another one; all may be lifted by methods.lifters
            mine, theirs = module.split(".")[1], name.split(".")[1]
            assert mine == theirs or "." not in module.removeprefix("methods."), f"{module} imports {name}"


def test_there_is_no_circle():
    arrows, done = {module: imported(path) for module, path in MODULES.items()}, set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for name in arrows[module]:
                walk(name, (*way, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())


def test_the_library_neither_prints_nor_star_imports():
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), path
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), path


def test_matplotlib_is_imported_where_something_is_drawn():
    """It takes most of a second, which a script that has only a wrong option to name should not."""
    for path in MODULES.values():
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "matplotlib"], path
