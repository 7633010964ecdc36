"""Names of files, keys and metadata are strangers' text: errors, reports and the terminal never obey it."""

from __future__ import annotations

import inspect
import json
import re
import traceback
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lora_core
from lora_core import errors
from lora_core.errors import AmbiguousFileError, FileFormatError, LoraError, NoSuchFileError
from lora_core.files.opening import open_tensors
from lora_core.text import visible, visible_json
from lora_core.workflows.importing import rows_of_text
from tests.core import samples
from tests.fuzz.seen import unfit

HOSTILE = "ink\n\x1b[31mERROR: all lost\x1b[0m\r\x9b2J\u202egpj.\u2066"
SHOWN = "ink\\n\\x1b[31mERROR: all lost\\x1b[0m\\r\\x9b2J\\u202egpj.\\u2066"
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LoraError)]


@pytest.mark.case(36)
@given(text=st.text())
def test_text_is_made_visible_once_and_nothing_else_changes(text: str) -> None:
    shown = visible(text)
    assert unfit(shown) == []
    assert visible(shown) == shown
    if not unfit(text) and text.isprintable():
        assert shown == text


@pytest.mark.case(36)
def test_names_of_people_stay_as_they_are() -> None:
    for name in ("Ünïcode", "日本", "عربى", "می‌خواهم", "👩‍🎨 ink", "e\u0301", "a\u00a0b", "C:\\x"):
        assert visible(name) == name


@pytest.mark.case(36)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_error_has_a_line_that_a_name_made(kind: type[LoraError]) -> None:
    assert str(kind(f"{HOSTILE}: no such file.")) == f"{SHOWN}: no such file."


@pytest.mark.case(36)
def test_an_errors_own_lines_stay_lines() -> None:
    assert str(NoSuchFileError(f"row 1: {HOSTILE}", "Put it there.")) == f"row 1: {SHOWN}\nPut it there."
    assert AmbiguousFileError("x", ["a\nb"]).candidates == ("a\nb",)


@pytest.mark.case(36)
@given(text=st.text(max_size=40))
def test_json_for_the_terminal_says_the_same(text: str) -> None:
    shown = visible_json({text: [text, 1, None]})
    assert json.loads(shown) == {text: [text, 1, None]}
    assert [char for char in unfit(shown) if char != "\n"] == []


def hostile_lora(folder: Path) -> Path:
    """A LoRA file whose name, keys and metadata are hostile; its adapters are whole."""
    name = f"lora_unet_{HOSTILE}"
    tensors = {f"{name}.lora_up.weight": torch.ones(4, 2), f"{name}.lora_down.weight": torch.ones(2, 4),
               f"{HOSTILE}.weight": torch.ones(2)}  # fmt: skip
    config = json.dumps({"alpha_pattern": {f"({HOSTILE}": 1}, "init_lora_weights": f"pissa{HOSTILE}", "r": 2})
    metadata = {"ss_output_name": HOSTILE, "lora_adapter_metadata": config, HOSTILE: HOSTILE}
    return samples.save(folder / f"{HOSTILE}.safetensors", tensors, metadata)


@pytest.mark.case(36)
def test_a_report_tells_hostile_names_in_its_own_lines(tmp_path: Path) -> None:
    lora = hostile_lora(tmp_path)
    base = samples.sparse_checkpoint(tmp_path / "base.safetensors", "te_clip_l")
    for report in (lora_core.inspect(lora), lora_core.inspect(lora, stack=[lora], spectra=True)):
        assert SHOWN in report.text()
        assert all(unfit(line) == [] for line in report.text().split("\n"))
        assert not any(line.startswith("\\x1b[31mERROR") for line in report.text().split("\n"))
    text = samples.message(
        errors.NothingMatchedError, lambda: lora_core.merge(base, [lora], tmp_path / "out.safetensors")
    )
    assert text.startswith(f"{SHOWN}.safetensors: ")
    assert unfit(text) == []


@pytest.mark.case(36)
@pytest.mark.parametrize(
    "arguments",
    [("inspect", "{lora}"), ("inspect", "{lora}", "--json"), ("inspect", "{lora}", "--spectra"),
     ("inspect", "{lora}x"), ("merge", "--base", "{lora}", "--lora", "{lora}", "--out", "{lora}"),
     ("merge", "--base", "{lora}", "--lora", "{lora}", "x{lora}", "--out", "{lora}.safetensors"),
     ("inspect", "{lora}", "{lora}"), ("resize", "{lora}", "--rank", HOSTILE, "--out", "x"),
     ("import", "--text", f"<lora:{HOSTILE}:0.5:1:more>"), ("import", "{lora}", "--out", "{lora}.json")],
)  # fmt: skip
def test_the_terminal_gets_no_order_from_a_name(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    lora = str(hostile_lora(tmp_path))
    done = samples.python("-m", "lora_core", *(argument.replace("{lora}", lora) for argument in arguments))
    assert SHOWN in done.stdout + done.stderr or json.dumps("\u202e")[1:-1] in done.stdout
    for line in (done.stdout + done.stderr).split("\n"):
        assert unfit(line) == []
        assert not line.startswith(("\\x1b[31mERROR", "ERROR"))


@pytest.mark.case(36)
def test_notes_of_an_import_are_lines() -> None:
    notes = rows_of_text("<lora:" + HOSTILE.replace(":", "") + f":1:1:{HOSTILE}>", names=["x"]).notes
    assert len(notes) == 3
    assert [unfit(note) for note in notes] == [[]] * 3


@pytest.mark.case(36)
def test_a_log_of_the_host_gets_no_text_of_a_pickle(tmp_path: Path) -> None:
    """The host logs an error with those that it comes from."""
    path = tmp_path / "x.pt"
    torch.save({"x": torch.ones(1)}, path)
    content = path.read_bytes().replace(b"torch._utils\n_rebuild_tensor_v2", b"torch._utils\n_rebuild_te\x1b[31m_v")
    path.write_bytes(content)
    with pytest.raises(FileFormatError) as error:
        open_tensors(path)
    logged = "".join(traceback.format_exception(error.value))
    assert "x.pt: holds more than tensors" in logged
    assert [char for char in unfit(logged) if char != "\n"] == []


@pytest.mark.case(36)
def test_nothing_else_writes_to_a_log_or_the_terminal() -> None:
    """Whoever adds such a place has to make its text visible."""
    pattern = re.compile(r"\bprint\(|\blogging\.\w|\bwarnings\.warn\b|\bsys\.std(out|err)\b")
    files = [path for folder in ("lora_core", "nodes") for path in (samples.REPO / folder).rglob("*.py")]
    found = {path.name for path in files if pattern.search(path.read_text("utf-8"))}
    assert found == {"entry.py", "commands.py", "streams.py", "temporary.py", "beside.py"}  # which logs a number
