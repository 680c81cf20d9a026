"""Every option that --help of a script lists is read by code that the script reaches; others are accepted unlisted.

Reached is each function whose name is used in a reached one, whatever it is used for: too many rather than too few.
"""

import argparse
import ast
from functools import cache
from importlib import import_module

import pytest

from common.run.options import Parser
from tests.test_architecture import MODULES, SCRIPTS, imported

# `start` copies these into its `Run`; they have an effect where this is called.
READ_BY = {"compile": "accelerate", "no_cuda_graphs": "accelerate", "log_every": "LossBuffer"}


class Parsed(Exception):
    """Instead of parsing a command line."""


def parser_of(script: str, monkeypatch) -> Parser:
    """The parser that the script's `main` makes."""

    def stop(parser: Parser, *_):
        raise Parsed(parser)

    monkeypatch.setattr(Parser, "parse_args", stop)
    with pytest.raises(Parsed) as caught:
        import_module(script).main()
    return caught.value.args[0]


def listed(parser: Parser) -> set[str]:
    """The names, as `args` has them, of what its help shows."""
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return {action.dest for action in actions} - {"help", "config"}


@cache
def definitions(module: str) -> list[tuple[str, ast.AST]]:
    """Name and code of a module's functions, classes and methods (those like __call__ go by the class's name); its own
    statements have the name "".
    """
    found = []
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found += [(node.name if part.name.startswith("__") else part.name, part) for part in methods]
            rest = [part for part in node.body if part not in methods]
            found.append((node.name, ast.Module([*rest, *map(ast.Expr, node.bases)], [])))
        else:
            found.append((node.name if isinstance(node, ast.FunctionDef) else "", node))
    return found


arrows = cache(lambda module: imported(MODULES[module]))


def closure(script: str) -> set[str]:
    """The script's module and all that it imports."""
    names, found = [script], set()
    while names:
        name = names.pop()
        if name not in found:
            found.add(name)
            names += arrows(name)
    return found


@cache
def used(node: ast.AST) -> frozenset[str]:
    """All names in a piece of code."""
    parts = list(ast.walk(node))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return frozenset(names | {part.attr for part in parts if isinstance(part, ast.Attribute)})


@cache
def read(module: str, node: ast.AST) -> frozenset[str]:
    """The NAME of each args.NAME; where a name is computed, all texts of the code and of the tables it uses."""
    names, computed = set(), False
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == "args":
            names |= {part.attr} if isinstance(part.ctx, ast.Load) else set()
        elif isinstance(part, ast.Call) and ast.unparse(part)[:13] == "getattr(args,":
            computed |= not isinstance(part.args[1], ast.Constant)
            names |= texts(part.args[1])
    if computed:
        tables = [
            part for name, part in definitions(module) if isinstance(part, ast.Assign) and used(part) & used(node)
        ]
        names |= set().union(*map(texts, [node, *tables]))
    return frozenset(names)


def texts(node: ast.AST) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def options_read(script: str) -> tuple[set[str], set[str]]:
    """The options that the script reads, and the names of all that it reaches."""
    bodies: dict[str, list[tuple[str, ast.AST]]] = {}
    for module in closure(script):
        for name, node in definitions(module):
            bodies.setdefault(name, []).append((module, node))
    names, reached, found = [""], set(), set()
    while names:
        name = names.pop()
        if name in reached:
            continue
        reached.add(name)
        for module, node in bodies.get(name, ()):
            found |= read(module, node)
            names += used(node)
    return found, reached


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_listed_option_has_an_effect(script, monkeypatch):
    parser = parser_of(script, monkeypatch)
    found, reached = options_read(script)
    idle = {name for name in listed(parser) if (READ_BY[name] not in reached if name in READ_BY else name not in found)}
    assert not idle, f"{script}.py --help lists what nothing reads: {', '.join(sorted(idle))}"


def test_an_option_without_effect_is_found():
    found, reached = options_read("test_teacher")
    assert {"n_layers", "keypoints", "device", "vis_camera", "subset", "downsample"} <= found
    assert not {"epochs", "lr_decay", "resume", "subjects_train", "n_blocks"} & found
    assert "accelerate" not in reached and "LossBuffer" not in reached
