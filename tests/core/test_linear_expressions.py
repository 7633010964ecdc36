"""No regular expression over strangers' text takes a time that grows faster than the text: attacks 2 and 3."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from contextlib import suppress
from typing import get_args

import pytest

from lora_core.errors import LoraError, OptionError
from lora_core.library.sidecars import split_words
from lora_core.options.importing import TextDialect
from lora_core.stack.blockterms import parse_blocks
from lora_core.stack.pairs import partner_of
from lora_core.stack.rows import parse_rows
from lora_core.text import json_object, plain, plain_line, storable, visible, visible_json, without_markup
from lora_core.workflows.importing.alternatives import comments, variants
from lora_core.workflows.importing.left import is_lora_name
from lora_core.workflows.importing.text import rows_of_text
from tests.core.expressions import (
    LIMIT,
    ROOT,
    Expression,
    growth,
    package_expressions,
    source_files,
    what_grows,
    written_expressions,
)

EXPRESSIONS = package_expressions()
_FOLDER, _NAMES = "lora_core/files/modelfolder.py", "lora_core/files/names.py"
# Expressions that a function puts together: file and source -> examples; None: they end as values of the module
MADE: dict[tuple[str, str], tuple[str, ...] | None] = {
    (_FOLDER, r"f'{stem}\\.safetensors\\.index(\\.[\\w-]+)?\\.json'"): (r"a\.safetensors\.index(\.[\w-]+)?\.json",),
    (_FOLDER, r"f'{stem}(\\.[\\w-]+)?\\.safetensors'"): (r"a(\.[\w-]+)?\.safetensors",),
    (_NAMES, r"re.escape(compared(stem)) + '_([0-9]+)_\\.safetensors'"): (r"a_([0-9]+)_\.safetensors",),
    ("lora_core/reading/notloras.py", "names"): None,
}  # fmt: skip


@pytest.mark.attack(3)
@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda one: one.where)
def test_an_expression_is_linear(expression: Expression) -> None:
    assert what_grows(expression) == ""


@pytest.mark.attack(3)
def test_every_expression_is_known() -> None:
    """What a module compiles is found among its values; what is made elsewhere has an example here."""
    made: dict[tuple[str, str], str] = {}
    for path in source_files():
        for call, pattern, inside in written_expressions(path):
            if inside and pattern is None:
                made[path.relative_to(ROOT).as_posix(), ast.unparse(call.args[0])] = call.func.attr
    assert made.keys() == MADE.keys()
    for key, examples in MADE.items():
        method = "fullmatch" if made[key] == "compile" else made[key]
        for example in examples or ():
            assert what_grows(Expression(str(key), re.compile(example), (method,))) == ""


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "fullmatch"),
        (r"\{([^{}]*\|[^{}]*)\}", "search"),
        (r'"(?:[^"\\]|\\.)*"', "sub"),
        (r"(?:a|b|ab)*c", "match"),
    ],
)
def test_the_check_finds_what_grows_faster(pattern: str, method: str) -> None:
    """The first three stood in the package before; the last doubles with every few letters."""
    assert "times as long" in what_grows(Expression("", re.compile(pattern), (method,)))


def of_rows(written: str) -> object:
    return rows_of_text(f"<lora:a:{written}>")


READERS: dict[str, Callable[[str], object]] = {
    **{one.__name__: one for one in (visible, visible_json, storable, plain, plain_line, without_markup, json_object)},
    **{one.__name__: one for one in (variants, split_words, parse_blocks, parse_rows, is_lora_name, rows_of_text)},
    "tag": of_rows,
    "tag of Easy-Use": lambda written: rows_of_text(f"<lora:a:{written}>", "easy-use"),
    "tag of prompt-control": lambda written: rows_of_text(f"<lora:a:{written}>", "prompt-control"),
    "tag of A1111": lambda written: rows_of_text(f"<lora:a:{written}>", "a1111"),
    "number of a block": lambda written: parse_blocks(f"a={written}"),
    "numbers of picks": lambda written: rows_of_text("{" + written + "$$<lora:a>|<lora:b>}"),
    "json of rows": lambda written: parse_rows('{"rows": [{"name": "a", "strength": ' + written + "}]}"),
    "comments": lambda written: comments(written, hashes=False),
    "pair": lambda written: partner_of(written, [written + "low"]),
}
PUMPS = (
    *("1", "9.", " ", "\t", "\n", "<", "<a", "<br", "&", "&amp;", "_", "__a", "{", "{a|", "|", "}", "[", '["', "\\"),
    *("a", "/", "#", "/*", "e", "-"),
)


@pytest.mark.attack(3)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_texts_is_linear(name: str) -> None:
    def read(text: str) -> None:
        with suppress(LoraError):
            READERS[name](text)

    for pump in PUMPS:
        for end in ("", "x"):
            grown = growth(read, lambda size, pump=pump, end=end: pump * (size // len(pump)) + end)
            assert grown < LIMIT, f"{grown:.0f} times as long for {pump!r}"


@pytest.mark.attack(3)
@pytest.mark.parametrize("digits", [400, 5_000, 100_000])
def test_a_number_of_many_digits_is_told(digits: int) -> None:
    """Python refuses to read whole numbers of more than 4,300 digits, with an error of its own."""
    assert rows_of_text("{" + "1" * digits + "$$<lora:a>|<lora:b>}").rows[0]["on"]
    for dialect in get_args(TextDialect):
        with suppress(OptionError):
            rows_of_text(f"<lora:a:{'1' * digits}x:{'1' * digits}>", dialect)
    with pytest.raises(OptionError):
        parse_blocks("a=" + "1" * digits)
    with suppress(OptionError):  # so many digits are a name; which blocks there are is judged when the model is known
        parse_blocks("a." + "1" * digits + "=1")
    with pytest.raises(OptionError):
        parse_rows('[{"name": "a", "strength": ' + "1" * digits + "}]")
