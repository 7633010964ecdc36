"""The layout of lora_core and nodes as a checker: who may import whom, and what may stand where.

It takes sources as text and imports nothing, so that a test can plant a violation and see it found.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]

# Modules and packages of lora_core: each imports only those of places before its own, and packages only each other's
# modules, never upward. `operations` holds packages that do not import each other.
PLACES = (
    ("text", "lazytorch", "version", "reporttables"),
    ("errors",),
    ("report", "parallel", "arch", "shortage"),
    ("options",),
    ("naming",),
    ("algebra",),
    ("adapters",),
    ("files",),
    ("reading",),
    ("stack",),
    ("library", "receipts"),
    ("writing",),
    ("operations",),
    ("workflows",),
    ("cli", "__init__"),
    ("__main__",),
)
PLACE_OF = {unit: place for place, units in enumerate(PLACES) for unit in units}
MOST_LINES = 300  # of a module

CORE_LIBRARIES = {"torch", "safetensors", "numpy", "tqdm"}  # tqdm only draws the command line's progress
OPTIONAL = {"lora_core/files/gguffile.py": "gguf"}  # imported when such a file is read; without it, refused
HOST_FILES = ("nodes/host.py", "nodes/hostmodels.py")  # they alone import ComfyUI
NODE_LIBRARIES = {"torch", "numpy", "PIL", "aiohttp"}  # ComfyUI itself brings them
ADAPTERS = "lora_core/adapters/"  # what is known of a kind of adapter stands here
DYNAMIC_IMPORTS = "lora_core/lazytorch.py"  # imports torch when it is first used, so that importing the pack is quick

Sources = Mapping[str, str]  # file below the repository -> its text
Module = tuple[str, ...]


def sources() -> dict[str, str]:
    """The Python files of lora_core and nodes."""
    files = [file for folder in ("lora_core", "nodes") for file in sorted((REPO / folder).rglob("*.py"))]
    return {file.relative_to(REPO).as_posix(): file.read_text("utf-8") for file in files}


class Layout:
    """What the sources import and define."""

    def __init__(self, files: Sources) -> None:
        self._files = files
        self._modules = {_module(name): name for name in files}
        self._trees = {name: _parsed(text) for name, text in files.items()}

    def wrong_imports(self) -> list[str]:
        """Every import against the direction, as `file:line: what is wrong`."""
        found: list[str] = []
        for name in self._files:
            check = self._wrong_in_core if name.startswith("lora_core/") else self._wrong_in_nodes
            for line, module, is_relative in self._imports(name):
                wrong = check(name, module) if is_relative else _wrong_absolute(name, module[0])
                if wrong:
                    found.append(f"{name}:{line}: {wrong}")
        return found

    def circles(self) -> list[str]:
        """Modules that import each other, each circle as `a -> b -> a`; imports for types alone count too."""
        edges = {
            name: sorted({to for _, module, relative in self._imports(name) if relative and (to := self._file(module))})
            for name in self._files
        }
        found: list[str] = []
        done: set[str] = set()
        for start in edges:
            _walk(start, edges, [], done, found)
        return found

    def floors(self) -> int:
        """The length of the longest way down, in modules of lora_core's root and packages."""
        below: dict[str, set[str]] = defaultdict(set)
        for name in (name for name in self._files if name.startswith("lora_core/")):
            units = {_unit(module) for _, module, relative in self._imports(name) if relative and len(module) > 1}
            below[_unit(_module(name))] |= (units & PLACE_OF.keys()) - {_unit(_module(name))}
        depth: dict[str, int] = {}
        for unit in PLACE_OF:  # in order, so that those below come first
            depth[unit] = 1 + max((depth[one] for one in below[unit] if one in depth), default=0)
        return max(depth.values())

    def long_modules(self) -> list[str]:
        return [name for name, text in self._files.items() if text.count("\n") > MOST_LINES]

    def names_twice(self) -> list[str]:
        """Names of classes and of public functions that stand in more than one module of lora_core."""
        names = Counter(
            node.name
            for name, tree in self._trees.items()
            if name.startswith("lora_core/")
            for node in tree.body
            if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and not node.name.startswith("_"))
        )
        return sorted(name for name, count in names.items() if count > 1)

    def private_imports(self) -> list[str]:
        """Names with an underscore that leave their module."""
        return [
            f"{name}: {module[-1]}"
            for name in self._files
            for _, module, is_relative in self._imports(name)
            if is_relative and module[-1].startswith("_") and not module[-1].startswith("__")
        ]

    def kinds_outside_adapters(self) -> list[str]:
        """Every question which kind an adapter is, outside the kinds' own package, as `file:line: kind`."""
        kinds = self._kinds()
        return [
            f"{name}:{node.lineno}: {asked}"
            for name, tree in self._trees.items()
            if not name.startswith(ADAPTERS)
            for node in ast.walk(tree)
            for asked in sorted(_named(_asked(node)) & kinds)
        ]

    def _kinds(self) -> set[str]:
        """The names of all adapters' classes, however far below `Adapter`."""
        bases = {
            node.name: {base for one in node.bases for base in _named(one)}
            for name, tree in self._trees.items()
            if name.startswith(ADAPTERS)
            for node in tree.body
            if isinstance(node, ast.ClassDef)
        }
        kinds, found = {"Adapter"}, 0
        while len(kinds) > found:
            found = len(kinds)
            kinds |= {name for name, below in bases.items() if below & kinds}
        return kinds

    def _imports(self, name: str) -> Iterator[tuple[int, Module, bool]]:
        """Line, module below the root with the imported name (or absolute name), whether it was a relative import."""
        package = tuple(name.split("/")[:-1])
        for node in ast.walk(self._trees[name]):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, tuple(alias.name.split(".")), False) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                named = tuple(node.module.split(".")) if node.module else ()
                base = (*package[: len(package) + 1 - node.level], *named) if node.level else named
                yield from ((node.lineno, (*base, alias.name), node.level > 0) for alias in node.names)

    def _file(self, module: Module) -> str | None:
        """The file that an imported name is in, or that it is."""
        return self._modules.get(module) or self._modules.get(module[:-1])

    def _wrong_in_core(self, name: str, module: Module) -> str | None:
        if module[0] != "lora_core":
            return f"imports {'.'.join(module)}, which lies outside lora_core"
        importer = _module(name)
        # `from . import x` names a module, or else something that __init__.py defines
        imported = module if len(module) > 2 or _unit(module) in PLACE_OF else ("lora_core", "__init__")
        for unit in (_unit(importer), _unit(imported)):
            if unit not in PLACE_OF:
                return f"lora_core/{unit} has no place; give it one in PLACES of tests/layout.py"
        if _unit(importer) == _unit(imported):
            is_other = "operations" in importer[:2] and len(importer) > 2 and importer[2] != imported[2]
            return f"{importer[2]} imports {imported[2]}, and no operation imports another" if is_other else None
        if PLACE_OF[_unit(imported)] >= PLACE_OF[_unit(importer)]:
            return f"{_unit(importer)} imports {_unit(imported)}, which does not stand before it"
        return None

    @staticmethod
    def _wrong_in_nodes(name: str, module: Module) -> str | None:
        if module[0] in ("lora_core", "nodes"):
            return None
        return f"imports {'.'.join(module)}; nodes may import lora_core and nodes only"


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _walk(name: str, edges: Mapping[str, list[str]], way: list[str], done: set[str], found: list[str]) -> None:
    if name in way:
        found.append(" -> ".join([*way[way.index(name) :], name]))
    elif name not in done:
        for to in edges[name]:
            _walk(to, edges, [*way, name], done, found)
        done.add(name)


def _asked(node: ast.AST) -> ast.AST | None:
    """Return the classes that an isinstance or issubclass call, or a case of a match, names."""
    if isinstance(node, ast.MatchClass):
        return node.cls
    is_question = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2
    return node.args[1] if is_question and node.func.id in ("isinstance", "issubclass") else None


def _named(node: ast.AST | None) -> set[str]:
    """Return the last words of all names in an expression."""
    inside = [] if node is None else list(ast.walk(node))
    names = {one.id for one in inside if isinstance(one, ast.Name)}
    return names | {one.attr for one in inside if isinstance(one, ast.Attribute)}


def _module(file: str) -> Module:
    parts = tuple(file.removesuffix(".py").split("/"))
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts


def _unit(module: Module) -> str:
    return module[1]


def _wrong_absolute(name: str, top: str) -> str | None:
    if top == "importlib" and name != DYNAMIC_IMPORTS:
        return "imports importlib, which would hide imports from this test"
    if top in sys.stdlib_module_names or name in HOST_FILES:
        return None
    if top in ("lora_core", "nodes") or (REPO / top).is_dir():
        return f"imports {top} by its absolute name; inside the pack use a relative import"
    if name.startswith("lora_core/"):
        allowed = top in CORE_LIBRARIES or OPTIONAL.get(name) == top
        return None if allowed else f"imports {top}; lora_core may import {_listed(CORE_LIBRARIES)} only"
    if top == "comfy_api" or top in NODE_LIBRARIES:
        return None
    others = _listed(NODE_LIBRARIES)
    return f"imports {top}; of nodes/ only host.py and hostmodels.py may import ComfyUI, and the rest {others}"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
