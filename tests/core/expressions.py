"""Every regular expression of the package, how it is asked, and the worst texts for it, found without knowing it."""

from __future__ import annotations

import ast
import dataclasses
import gc
import importlib
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import re._compiler as compiler  # pyright: ignore
    import re._constants as opcodes  # pyright: ignore
    import re._parser as parser  # pyright: ignore
else:
    import sre_compile as compiler
    import sre_constants as opcodes
    import sre_parse as parser

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("fullmatch", "match", "search", "sub", "subn", "split", "findall", "finditer")
_FUNCTIONS = [f"re.{method}" for method in (*METHODS, "compile")]
# Characters. What doubles with every few of them is found among the first; each is 25 % more, so that none takes long
_FIRST = tuple(round(24 * 1.25**step) for step in range(10))
_FEW, _MANY_TIMES = 2_000, 5
LIMIT = 11  # for five times the text: 5 for what is linear, 25 for what is quadratic
_INNOCENT = 2e-4  # seconds for the few: what is quadratic takes two million steps, five times as long or more
_LITTLE = 14  # for the few after the last of the first: 11 for what is linear, 125 for what is quadratic
_HOPELESS = 0.05  # seconds for the few or less: what is linear takes a hundredth; asked twice
_ENDS = ("", "\0", "\n")  # what may not fit behind a text that fits


@dataclasses.dataclass(frozen=True)
class Expression:
    where: str
    pattern: re.Pattern[Any]
    methods: tuple[str, ...]


def source_files() -> list[Path]:
    return sorted([*(ROOT / "lora_core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")])


def written_expressions(path: Path) -> Iterator[tuple[ast.Call, str | None, bool]]:
    """Yield every call of a function of `re`, its expression if it is written there, and if it is in a function."""
    yield from _calls(ast.parse(path.read_text(encoding="utf-8")), inside=False)


def _calls(node: ast.AST, *, inside: bool) -> Iterator[tuple[ast.Call, str | None, bool]]:
    inside = inside or isinstance(node, (ast.FunctionDef, ast.Lambda))
    if isinstance(node, ast.Call) and ast.unparse(node.func) in _FUNCTIONS:
        given = node.args[0]
        is_text = isinstance(given, ast.Constant) and isinstance(given.value, str)
        yield node, given.value if is_text else None, inside
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, inside=inside)


def package_expressions() -> list[Expression]:
    """Return the expressions of the core with all ways in which its files ask them; each once."""
    found: dict[re.Pattern[Any], Expression] = {}
    for path in source_files():
        where = path.relative_to(ROOT).as_posix()
        for node, pattern, _ in written_expressions(path):
            if pattern is not None and node.func.attr != "compile":
                _add(found, f"{where}:{node.lineno}", re.compile(pattern), [node.func.attr])
    unasked: list[tuple[str, re.Pattern[Any], list[str]]] = []
    for path in sorted((ROOT / "lora_core").rglob("*.py")):
        where, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        module = importlib.import_module(where.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
        for name, value in vars(module).items():
            own = re.findall(rf"\b{re.escape(name)}\.({'|'.join(METHODS)})\(", text)
            for at, one in enumerate(_patterns_in(value)):
                if own:
                    _add(found, f"{where}:{name}[{at}]", one, own)
                else:
                    unasked.append((f"{where}:{name}[{at}]", one, re.findall(rf"\.({'|'.join(METHODS)})\(", text)))
    named = set(found)
    for at, one, anywhere in unasked:  # by another name: of a loop, or an argument
        if one not in named and anywhere:
            _add(found, at, one, anywhere)
    return [one for one in found.values() if is_repeating(parser.parse(one.pattern.pattern, flags_of(one.pattern)))]


def _add(found: dict[re.Pattern[Any], Expression], where: str, pattern: re.Pattern[Any], methods: list[str]) -> None:
    known = found.get(pattern, Expression(where, pattern, ()))
    found[pattern] = dataclasses.replace(known, methods=tuple(dict.fromkeys((*known.methods, *methods))))


def flags_of(pattern: re.Pattern[Any]) -> int:
    return pattern.flags & ~re.UNICODE


def _patterns_in(value: Any, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, (tuple, list)) and depth < 3:
        for item in value:
            yield from _patterns_in(item, depth + 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and depth < 3:
        for one in dataclasses.fields(value):
            yield from _patterns_in(getattr(value, one.name), depth + 1)


def worst_texts(pattern: str, flags: int = 0) -> list[Callable[[int], str]]:
    """Return makers of texts of a length: each repeat of the expression pumped, and what leads to it and what fails."""
    tree = parser.parse(pattern, flags)
    samples = _Samples(tree)
    makers: dict[tuple[str, str], None] = {}
    for lead, pump in samples.pumps(tree, ""):
        for one in (pump, lead + pump, lead):
            if one:
                makers[lead, one] = None
    return [
        lambda size, lead=lead, pump=pump, end=end: lead + pump * (size // len(pump)) + end
        for lead, pump in makers
        for end in _ENDS
    ]


_REPEATS = {opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, getattr(opcodes, "POSSESSIVE_REPEAT", None)}
_AROUND = (opcodes.ASSERT, opcodes.ASSERT_NOT, opcodes.AT, opcodes.GROUPREF)
_LEAVES = (opcodes.LITERAL, opcodes.NOT_LITERAL, opcodes.IN, opcodes.ANY)
_ALPHABET = "a0_. /\\-<>:\"'\n\t,|{}[]()#*~$=+%é"
_ENDLESS = 20  # a repeat of more is one without an end


class _Samples:
    """Texts that pieces of an expression take; of letters that all its pieces take alike, one."""

    def __init__(self, tree: Any) -> None:
        leaves = list(_leaves(tree))
        fits = [_compiled(leaf).fullmatch for leaf in leaves]
        listed = (chr(code) for kind, given in leaves for code in _codes(kind, given))
        alike: dict[tuple[bool, ...], str] = {}
        for letter in dict.fromkeys((*listed, *_ALPHABET)):
            alike.setdefault(tuple(bool(one(letter)) for one in fits), letter)
        self._letters = list(alike.values())

    def pumps(self, pieces: Any, lead: str) -> Iterator[tuple[str, str]]:
        """Yield, for each repeat, a text that leads to it, and one that it takes again and again."""
        for kind, given in pieces:
            for inner in _inner(kind, given):
                yield from self.pumps(inner, lead)
            if kind in _REPEATS and given[1] > _ENDLESS:
                yield from ((lead, text) for text in self.of(given[2]) if text)
            lead += self.of([(kind, given)])[0]
        yield lead, lead[-1:]

    def of(self, pieces: Any) -> list[str]:
        """Return a few short texts that the pieces take, lookarounds apart."""
        found = [""]
        for kind, given in pieces:
            if kind in _REPEATS:
                more = [one * max(1, min(given[0], 5)) for one in self.of(given[2])]
            elif kind is opcodes.BRANCH:
                more = [text for one in given[1] for text in self.of(one)[:2]]
            elif kind is opcodes.SUBPATTERN:
                more = self.of(given[3])
            elif kind in _AROUND:
                more = [""]
            else:
                fits = _compiled((kind, given)).fullmatch
                more = [letter for letter in self._letters if fits(letter)]
            found = [one + other for one in found[:3] for other in more[:12]]
        return found or [""]


def _compiled(leaf: Any) -> re.Pattern[str]:
    return compiler.compile(parser.SubPattern(parser.State(), [leaf]))


def _leaves(pieces: Any) -> Iterator[Any]:
    for kind, given in pieces:
        if kind in _LEAVES:
            yield kind, given
        for inner in _inner(kind, given):
            yield from _leaves(inner)


def _codes(kind: Any, given: Any) -> list[int]:
    """Return the letters that a leaf names."""
    if kind in (opcodes.LITERAL, opcodes.NOT_LITERAL):
        return [given]
    items = given if kind is opcodes.IN else []
    return [item[1][0] if item[0] is opcodes.RANGE else item[1]
            for item in items if item[0] in (opcodes.LITERAL, opcodes.RANGE)]  # fmt: skip


def _inner(kind: Any, given: Any) -> list[Any]:
    if kind in _REPEATS:
        return [given[2]]
    if kind is opcodes.SUBPATTERN:
        return [given[3]]
    return list(given[1]) if kind is opcodes.BRANCH else []


def is_repeating(pieces: Any) -> bool:
    """Tell whether an expression has a repeat without an end: without one it is linear."""
    return any(
        (kind in _REPEATS and given[1] > _ENDLESS) or any(map(is_repeating, _inner(kind, given)))
        for kind, given in pieces
    )


def growth(work: Callable[[str], object], make: Callable[[int], str]) -> float:
    """Return how many times longer the work takes for five times the text; endless for what never ends."""
    earlier = before = 0.0
    for size in (*_FIRST, _FEW):
        text = make(size)
        earlier, before = before, _seconds(work, text)
        if before > _HOPELESS:
            before = min(before, _seconds(work, text))
            if before > _HOPELESS:
                return math.inf
    if before < _INNOCENT or before / earlier < _LITTLE:
        return 0
    few, many = make(_FEW), make(_MANY_TIMES * _FEW)
    after = _seconds(work, many)
    for _ in range(3):  # a clock errs upwards only
        if after / before < LIMIT:
            break
        before, after = min(before, *(_seconds(work, few) for _ in range(3))), min(after, _seconds(work, many))
    return after / before


def _seconds(work: Callable[[str], object], text: str) -> float:
    gc.disable()  # a search for garbage in a process of many tests takes longer than any of them
    try:
        begin = time.thread_time()
        work(text)
        return max(time.thread_time() - begin, 1e-6)
    finally:
        gc.enable()


def asked(expression: Expression, method: str) -> Callable[[str], object]:
    """Return how an expression is asked, iterators to their end."""
    call = getattr(expression.pattern, method)
    if method in ("sub", "subn"):
        return lambda text: call("", text)
    return (lambda text: list(call(text))) if method == "finditer" else call


def what_grows(one: Expression) -> str:
    """Return how an expression that is not linear grows, with a text that shows it; empty for a linear one."""
    for make in worst_texts(one.pattern.pattern, flags_of(one.pattern)):
        for method in one.methods:
            found = growth(asked(one, method), make)
            if found >= LIMIT:
                return f"{one.where}: {method}: {found:.0f} times as long for {make(30)!r}…"
    return ""
