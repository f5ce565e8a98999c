"""Imports go one way: a package uses those below it, and none above, also where only types are imported."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import jt709c_gateway

_TOP = Path(jt709c_gateway.__file__).parent
#: From the bottom to the top; packages in one line know nothing of each other.
LAYERS = (
    ("util", "protocol"),
    ("dissector", "commands", "reports"),
    ("redis", "transport", "simulator"),
    ("gateway", "client"),
    ("web",),
    ("config",),
    ("startup", "lock_ports", "cli"),
    ("partition",),
    ("configured_parts",),
    ("daemon",),
    ("workers",),
    ("service",),
    ("demo",),
    ("program",),
)


@cache
def modules() -> dict[str, Path]:
    """All modules by their names."""
    found = {}
    for path in sorted(_TOP.rglob("*.py")):
        name = ".".join(path.relative_to(_TOP.parent).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of ours that a module imports, wherever in it."""
    return frozenset(name for name in _named(ast.parse(modules()[module].read_text())) if name in modules())


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def package(module: str) -> str:
    """The package in ours that a module belongs to; a module on top counts as one."""
    return module.split(".")[1] if "." in module else ""


class ImportTests(SynchronousTestCase):
    """Every module of ours."""

    def test_every_package_has_its_layer(self) -> None:
        """A new package is put where it belongs."""
        listed = {name for layer in LAYERS for name in layer}
        self.assertEqual({package(module) for module in modules()} - {""}, listed)

    def test_no_import_runs_upward(self) -> None:
        """Nor from side to side."""
        rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
        wrong = [
            f"{module} imports {other}"
            for module in modules()
            if package(module)
            for other in imports(module)
            if package(other)
            and package(other) != package(module)
            and rank[package(other)] >= rank[package(module)]
        ]
        self.assertEqual(wrong, [])

    def test_no_circles(self) -> None:
        """Within a package, modules don't know each other in a circle."""
        for name in {package(module) for module in modules()}:
            # That a package's own front imports what it offers is no circle.
            inside = {
                module: [
                    other
                    for other in imports(module)
                    if package(other) == name and not module.startswith(f"{other}.")
                ]
                for module in modules()
                if package(module) == name
            }
            try:
                TopologicalSorter(inside).prepare()
            except CycleError as error:
                self.fail(f"in {name}: {' -> '.join(error.args[1])}")
