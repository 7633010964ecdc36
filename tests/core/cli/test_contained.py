"""Names from prompts, workflows and other systems: what is written stays in its folder, or is refused."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_core.errors import FileFormatError, OutputError
from lora_core.files.names import compared, is_plain, is_possible, new_path
from lora_core.files.outputs import check_target, temporary_name
from lora_core.library.listing import Listing
from tests.core import samples
from tests.fuzz.names import check_out, check_prefix

PIECES = (
    *("..", ".", "~", "/", "\\", "//", "\\\\server\\share\\", "C:", "C:x", "a:b", "%date%", "%date:yyyy%", "$HOME"),
    *(
        "CON",
        "nul.txt",
        "COM¹",
        "lpt9 .x",
        "a.",
        "a ",
        "é",
        "e\u0301",
        "😀",
        "墨" * 85,
        "x" * 255,
        "\0",
        "\n",
        "\x1b[2J",
    ),
    *("\u202e", "\u200b", "\ud800", "\udc80", "link", "link/", "ink", ".safetensors", "|", "*"),
)
names = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=6).map("".join)


@pytest.mark.case(28)
@settings(max_examples=400)
@given(prefix=names)
def test_any_prefix_stays_in_its_folder_or_is_refused(tmp_path_factory: pytest.TempPathFactory, prefix: str) -> None:
    base = tmp_path_factory.getbasetemp() / "prefixes"
    base.mkdir(exist_ok=True)
    check_prefix(base, prefix)
    assert {path.name for path in base.iterdir()} <= {"root", "outside", "other"}


@pytest.mark.case(28)
@settings(max_examples=200)
@given(name=names)
def test_any_output_of_the_command_is_refused_or_can_be_written(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    base = tmp_path_factory.getbasetemp() / "outputs"
    base.mkdir(exist_ok=True)
    check_out(base, name)


@pytest.mark.case(28)
@given(name=names)
def test_a_name_only_means_a_listed_file(name: str) -> None:
    listed = ["ink.safetensors", "styles/é.safetensors", "styles/😀.safetensors"]
    asked: list[str] = []
    listing = Listing(listed, lambda found: asked.append(found) or Path(found), "the folder")
    try:
        assert listing.find(name, 3, "0" * 64).name in listed
    except FileFormatError as error:
        assert len(str(error).split("\n")) == 1
    assert set(asked) <= set(listed)


REFUSED = {
    "a folder above": "../x", "above in the middle": "a/../../x", "an absolute path": "/etc/x",
    "a share": "\\\\host\\x", "a drive": "C:\\x", "relative to a drive": "C:x", "a stream": "a:b",
    "a device": "sub/CON", "a device with an ending": "aux.tar.gz", "a device by a superscript": "com²",
    "a device before a space": "nul .x", "a dot at the end": "a./x", "no text": "x\0y", "a line end": "x\ny",
    "half a character": "x\ud800", "text turned around": "x\u202ey", "nothing to see": "x\u200by",
    "an escape sequence": "\x1b[31mx", "more bytes than a name has": "墨" * 67,
}  # fmt: skip


@pytest.mark.case(28)
@pytest.mark.parametrize("case", REFUSED)
def test_a_prefix_that_is_refused_makes_nothing(tmp_path: Path, case: str) -> None:
    text = samples.message(OutputError, lambda: new_path([tmp_path / "root"], REFUSED[case]))
    assert text.startswith("filename_prefix ")
    assert text.endswith("can't be part of a file name; expected a name like 'folder/name'.")
    assert samples.listing(tmp_path) == []


@pytest.mark.case(28)
@pytest.mark.parametrize("prefix", ["~/x", "%date%", "$HOME/x", "😀", "日本/墨", "a b", "-x", ".x", "e\u0301"])
def test_a_prefix_is_taken_by_its_letters(tmp_path: Path, prefix: str) -> None:
    """Nothing in it is expanded, by us or by a shell."""
    path = new_path([tmp_path], prefix)
    assert path.relative_to(tmp_path).as_posix() == f"{prefix}_00001_.safetensors"
    path.write_bytes(b"")
    assert len(os.fsencode(temporary_name(path.name))) <= 255


@pytest.mark.case(28)
@pytest.mark.parametrize(
    ("there", "asked"), [("INK", "ink"), ("é", "e\u0301"), ("STRASSE", "straße"), ("Styles/ink", "styles/INK")]
)
def test_a_new_file_is_another_one_on_every_system(tmp_path: Path, there: str, asked: str) -> None:
    first = new_path([tmp_path], there)
    first.write_bytes(b"")
    assert new_path([tmp_path], asked).name.endswith("_00002_.safetensors")


@pytest.mark.case(28)
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * 243 + ".safetensors")
    check_target(longest, False, ())
    longest.write_bytes(b"")
    deep = tmp_path.joinpath(*["x" * 200] * 30, "out.safetensors")
    text = samples.message(OutputError, lambda: check_target(deep, True, ()))
    assert text == "out.safetensors: can't be written: File name too long; nothing was kept."


@pytest.mark.case(28)
@pytest.mark.parametrize("stem", ["x" * 244, "墨" * 82, "x\0", "\ud800"], ids=["long", "many bytes", "no text", "half"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, stem: str) -> None:
    text = samples.message(OutputError, lambda: check_target(tmp_path / f"{stem}.safetensors", True, ()))
    assert text.endswith("no file can have this name; choose one of at most 255 bytes.")


@pytest.mark.case(28)
def test_windows_names_are_refused_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code path alone: here, such names are files like any other."""
    names = ("con.safetensors", "a:b.safetensors", "LPT³.safetensors", "what?.safetensors", "x. ")
    assert all(map(is_possible, names))
    monkeypatch.setattr(sys, "platform", "win32")
    assert not any(map(is_possible, names))
    assert is_possible("ink.safetensors")


@pytest.mark.case(28)
@given(text=st.text(max_size=30))
def test_a_plain_name_is_one_file_in_one_folder(text: str) -> None:
    if is_plain(text):
        assert Path("x", text).parent == Path("x")
        assert compared(text) == compared(unicodedata.normalize("NFD", text)) == compared(text.lower())
