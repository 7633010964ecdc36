"""Messages in which strangers' text stands: whatever its length, a screen at most, and each value in it short."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.cli.entry import main
from lora_core.errors import LoraError
from lora_core.files.modelfolder import model_parts
from lora_core.files.opening import open_tensors
from lora_core.library.listing import resolve
from lora_core.library.sidecars import read_sidecars
from lora_core.receipts.readback import read_receipt
from lora_core.report import Report
from lora_core.stack.blockterms import parse_blocks
from lora_core.stack.rows import as_entry, parse_rows
from lora_core.text import LONGEST_MESSAGE, LONGEST_SHOWN, fitted, message_line, shortened
from tests import tiny
from tests.core import samples
from tests.hostile_pickles import TENSOR, archive, of
from tests.hostile_pickles import text as pickled_text

SIZE = 300_000
TEXTS = {
    "letters": "Q" * SIZE,
    "words": "QQ Q" * (SIZE // 4),
    "quotes": "Q'\"" * (SIZE // 3),
    "escaped quotes": "\\'" * (SIZE // 2),
    "brackets": "[Q]," * (SIZE // 4),
    "open brackets": "[" * SIZE,
    "lines": "Q\n" * (SIZE // 2),
    "unseen": "\x1b" * SIZE,
    "wide": "\U0001f600" * SIZE,
}
VALUE = TEXTS["letters"]

Call = Callable[[Path, str], Any]


def header(name: str = "x", **info: Any) -> Call:
    """A safetensors file of one tensor."""

    def call(folder: Path, value: str) -> Any:
        filled = {key: value if one is ... else one for key, one in {**samples.F32, **info}.items()}
        (folder / "x.safetensors").write_bytes(samples.raw({value if name == "..." else name: filled}, bytes(8)))
        return open_tensors(folder / "x.safetensors")

    return call


def index(*keys: str) -> Call:
    def call(folder: Path, value: str) -> Any:
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {key or value: value for key in keys}})
        )
        return model_parts(folder)

    return call


def gguf(folder: Path, value: str) -> Any:
    name = value.encode("utf-8", "replace")
    content = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", len(name)) + name + bytes(64)
    (folder / "x.gguf").write_bytes(content)
    return open_tensors(folder / "x.gguf")


def pickled(structure: Callable[[str], bytes]) -> Call:
    def call(folder: Path, value: str) -> Any:
        (folder / "x.pt").write_bytes(archive(structure(value)))
        return open_tensors(folder / "x.pt")

    return call


def quantised(folder: Path, value: str) -> Any:
    config = json.dumps({"layers": {"x": {"format": value}}})
    path = samples.save(folder / "x.safetensors", {"x.weight": torch.ones(4, 4)}, {"_quantization_metadata": config})
    lora = tiny.make_lora(folder / "lora.safetensors", {"lora_unet_x": (4, 4)}, 2)
    return lora_core.merge(path, [lora], folder / "out.safetensors")


def workflow(content: Callable[[str], Any]) -> Call:
    def call(folder: Path, value: str) -> Any:
        (folder / "w.json").write_text(json.dumps(content(value)))
        return lora_core.run(folder / "w.json")

    return call


def merged(**options: Any) -> Call:
    def call(folder: Path, value: str) -> Any:
        base = tiny.make_tiny("wan21", folder / "base.safetensors", dtype=torch.bfloat16)
        lora = tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 2)
        filled: dict[str, Any] = dict.fromkeys(options, value)
        return lora_core.merge(base, [lora], folder / "out.safetensors", **filled)

    return call


CALLS: dict[str, Call] = {
    "dtype": header(dtype=...),
    "shape": lambda folder, value: header(shape=[value])(folder, value),
    "sizes": lambda folder, value: header(shape=list(range(len(value) // 10)))(folder, value),
    "offsets": lambda folder, value: header(data_offsets=[0] * (len(value) // 10))(folder, value),
    "tensor's name": header("..."),
    "index of names": index("x"),
    "index of keys": index(""),
    "GGUF name": gguf,
    "pickled class": pickled(lambda value: of(b"c" + value.encode() + b"\n" + value.encode() + b"\n")),
    "pickled key": pickled(lambda value: of(TENSOR, pickled_text(value))),
    "pickled storage": pickled(lambda value: of(TENSOR.replace(pickled_text("0"), pickled_text(value)))),
    "quantisation": quantised,
    "workflow": workflow(lambda value: value),
    "workflow's type": workflow(lambda value: {"1": {"class_type": value, "inputs": {}}}),
    "workflow's id": workflow(lambda value: {value: {"class_type": "LoraCoreMerge", "inputs": {"model": [value, 0]}}}),
    "workflow's nodes": workflow(lambda value: {"nodes": [{"id": value, "type": value}], "links": [value]}),
    "workflow's inputs": workflow(lambda value: {"1": {"class_type": "LoraCoreMerge", "inputs": {"dtype": value}}}),
    "rows": lambda _, value: parse_rows(value),
    "rows' version": lambda _, value: parse_rows({"v": value}),
    "row": lambda _, value: parse_rows([[value]]),
    "row's strength": lambda _, value: parse_rows([{"name": value, "strength": value}]),
    "row's name": lambda _, value: parse_rows([{"name": [value]}]),
    "entry": lambda _, value: as_entry(value),
    "entry's strength": lambda _, value: as_entry((value, value, value)),
    "blocks": lambda _, value: parse_blocks(value, "x"),
    "blocks' name": lambda _, value: parse_blocks([value], "x"),
    "receipt's version": lambda _, value: read_receipt(json.dumps({"v": value}), "x"),
    "a file's name": lambda _, value: resolve(value, ["a.safetensors"], "loras"),
    "many files": lambda _, value: resolve("a", [f"{at}/{value[:100]}/a.safetensors" for at in range(1_000)], "loras"),
    "option": merged(dtype=1),
    "policy": merged(on_unmatched=1),
    "a path": lambda _, value: open_tensors(value),
    "lines of an error": lambda _, value: _raise(*[value] * 100),
}  # fmt: skip


def _raise(*lines: str) -> None:
    raise LoraError(*lines)


def _check(text: str) -> None:
    assert len(text) <= LONGEST_MESSAGE
    assert max(map(len, re.findall("Q+", text)), default=0) <= LONGEST_SHOWN


@pytest.mark.attack(9)
@pytest.mark.parametrize("call", CALLS)
def test_an_error_is_a_screen_at_most(tmp_path: Path, call: str) -> None:
    with pytest.raises(LoraError) as caught:
        CALLS[call](tmp_path, VALUE)
    _check(str(caught.value))


@pytest.mark.attack(9)
@pytest.mark.parametrize("kind", TEXTS)
def test_whatever_stands_in_it(kind: str) -> None:
    value = TEXTS[kind]
    for line in (
        f"x.pt: found {value!r}, which is wrong",
        f"x: {value}; choose another",
        f"x: {[value] * 3} is no list",
    ):
        text = str(LoraError(line))
        assert len(text) <= LONGEST_MESSAGE
        assert text.isprintable()
        assert text.startswith("x")
    assert str(LoraError(f"x.pt: found {VALUE!r}, which is wrong.")).endswith("Q', which is wrong.")


@pytest.mark.attack(9)
def test_warnings_and_notes_are_bounded_too() -> None:
    report = Report("merge", notes=[VALUE, f"x: {VALUE!r}"], warnings=[VALUE] * 2)
    for line in (*report.text().split("\n"), *report.to_dict()["notes"], *report.to_dict()["warnings"]):
        assert len(line) <= LONGEST_MESSAGE + len("warning: ")


@pytest.mark.attack(9)
def test_what_the_command_line_says_is_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["inspect", VALUE],
        ["merge", str(tmp_path), "--dtype", VALUE],
        [VALUE],
        ["inspect", "--x", VALUE],
    ):
        with pytest.raises(SystemExit) if "inspect" not in arguments or "--x" in arguments else _nothing():
            main(arguments)
        assert len(capsys.readouterr().err) <= LONGEST_MESSAGE + 3_000  # the usage is our own


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.attack(9)
def test_notes_on_sidecars_are_short(tmp_path: Path) -> None:
    lora = tiny.make_lora(tmp_path / "x.safetensors", {"lora_unet_x": (4, 4)}, 2)
    for name in ("x.metadata.json", "x.civitai.info", "x.json"):
        (tmp_path / name).write_text(json.dumps({"notes": VALUE, "description": VALUE, "trainedWords": [VALUE]}))
    found, notes = read_sidecars(lora)
    assert notes == []
    assert all(
        len(text) <= 4_100 for one in found for text in (one.notes, one.description, *(word for word, _ in one.words))
    )


HONEST = (
    "x.safetensors: 12 of 304 modules have no place in a Flux checkpoint, e.g. 'lora_unet_input_blocks_4'; isn't so.",
    "can't be read, and 'this' isn't " + "the same as what was there before, " * 9 + "so it wasn't taken.",
    "x: no such file (/" + "/".join(["a folder"] * 40) + "/x.safetensors).",
)


@pytest.mark.parametrize("text", HONEST, ids=["names", "apostrophes", "path"])
def test_an_honest_message_stays_as_it_is(text: str) -> None:
    assert message_line(text) == fitted(text) == text


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert shortened("a" * 200) == "a" * 200
    assert re.fullmatch(r"a+… \(shortened\) …b+", shortened("a" * 500 + "b" * 500))
    assert len(shortened("a" * 1000)) == 200
