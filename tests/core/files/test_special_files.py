"""What is no regular file in place of one: a pipe that nobody writes to, a socket, a device, a folder."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.cli.entry import main
from lora_core.errors import FileFormatError, LoraError, WorkflowError
from lora_core.files.hashes import Hashes, content_hash
from lora_core.files.modelfolder import model_parts
from lora_core.files.openfile import read_bounded, read_whole
from lora_core.files.opening import open_tensors
from lora_core.library.extrapaths import extra_folders
from lora_core.library.previews import preview_of
from lora_core.library.sidecars import read_sidecars
from lora_core.workflows.graph import read_json
from lora_core.workflows.importing import import_workflow
from tests import tiny
from tests.core import samples

Make = Callable[[Path], None]
Call = Callable[[Path], Any]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    at = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(at)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def folder(path: Path) -> None:
    path.mkdir()


KINDS: tuple[Make, ...] = (pipe, listening, zeros, terminal, folder)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names that are opened; a test that waits for a pipe's writer ends."""

    def waited(*_: object) -> None:
        raise AssertionError("waits for somebody to write into the pipe")

    names: list[str] = []
    original = os.open

    def noted(path: Any, *more: Any, **named: Any) -> int:
        names.append(os.fspath(path))
        return original(path, *more, **named)

    monkeypatch.setattr(os, "open", noted)
    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(60)
    yield names
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def lora_of(path: Path) -> Path:
    return tiny.make_lora(path.parent / "lora.safetensors", {"lora_unet_x": (4, 4)}, 2)


REFUSED: dict[str, tuple[str, Call]] = {
    "a model": ("x.safetensors", open_tensors),
    "a PyTorch file": ("x.pt", open_tensors),
    "a base": ("x.safetensors", lambda path: lora_core.merge(path, [lora_of(path)], path.with_name("out.safetensors"))),
    "a LoRA": ("x.pt", lambda path: lora_core.convert(path, path.with_name("out.safetensors"), dialect="kohya")),
    "a LoRA to look at": ("x.gguf", lora_core.inspect),
    "a file to hash": ("x.safetensors", content_hash),
    "a workflow": ("w.json", read_json),
    "a workflow to run": ("w.json", lora_core.run),
    "a workflow to import": ("w.json", lambda path: import_workflow(path, path.with_name("out.json"))),
    "a small file": ("x.txt", lambda path: read_whole(path, 100, "a list")),
    "an index": ("model.safetensors.index.json", lambda path: model_parts(path.parent)),
    "more folders": ("extra_model_paths.yaml", extra_folders),
}  # fmt: skip
NO_FOLDER = {"a LoRA", "a LoRA to look at", "a base", "an index"}  # of which a folder is one


@pytest.mark.attack(19)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_before_it_is_opened(tmp_path: Path, what: str, kind: Make, opened: list[str]) -> None:
    if kind is folder and what in NO_FOLDER:
        pytest.skip("a folder of a model is one")
    name, call = REFUSED[what]
    kind(tmp_path / name)
    with pytest.raises(LoraError) as caught:
        call(tmp_path / name)
    text = str(caught.value)
    wrong = "is a folder; expected" if kind is folder else "is not a regular file; expected"
    if what != "an index":  # without which there is no model
        assert text.startswith(f"{name}: {wrong} ")
    assert [one for one in opened if Path(one).name == name] == []
    assert "out.safetensors" not in samples.listing(tmp_path)


@pytest.mark.attack(19)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_beside_a_lora_it_is_left_out(tmp_path: Path, kind: Make, opened: list[str]) -> None:
    path = samples.save(
        tmp_path / "adapter_model.safetensors",
        {f"base_model.model.x.lora_{part}.weight": torch.ones(4, 4) for part in "AB"},
    )
    names = ("adapter_config.json", "adapter_model.metadata.json", "adapter_model.civitai.info", "adapter_model.json")
    names = (
        *names,
        "adapter_model.txt",
        "adapter_model.sha256",
        "adapter_model.png",
        "adapter_model.webp",
        "hashes.json",
    )
    for name in names:
        kind(tmp_path / name)
    opened.clear()
    assert lora_core.inspect(path).loras[0].modules_total == 1
    found, notes = read_sidecars(path)
    assert (found, len(notes)) == ([], 5)
    assert preview_of(path) is None
    assert Hashes(tmp_path / "hashes.json").known(path) == ""
    assert read_bounded(tmp_path / "adapter_model.txt", 100) is None
    assert [one for one in opened if Path(one).name in names] == []


@pytest.mark.attack(19)
def test_the_command_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe(tmp_path / "w.json")
    for arguments in (["run", str(tmp_path / "w.json")], ["inspect", str(tmp_path / "w.json")]):
        assert main(arguments) == 1
        assert capsys.readouterr().err.startswith("lora-core: w.json: is not a regular file; expected a")


def test_a_small_file_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"12345")
    assert read_whole(path, 5, "a list") == read_bounded(path, 5) == b"12345"
    assert samples.message(FileFormatError, lambda: read_whole(path, 4, "a list")) == (
        "x.txt: has 5 bytes; the limit for a list is 4."
    )
    assert read_bounded(path, 4) is None


@pytest.mark.attack(19)
def test_a_workflow_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # without taking room
    text = samples.message(WorkflowError, lambda: lora_core.run(path))
    assert text == "w.json: has 1099511627776 bytes; the limit for a workflow is 16777216."


JSON = {
    "101 levels": ("[" * 101 + "]" * 101, "it has more than 100 levels"),
    "100,000 levels": ('{"a":' * 100_000, "it has more than 100 levels"),
    "1,001 digits": ("[" + "1" * 1_001 + "]", "a number of 1001 digits"),
    "a million digits": ("[-" + "1" * 10**6 + "]", "a number of 1000001 digits"),
    "2,000,001 parts": ("[" + "1," * 2 * 10**6, "it has more than 2000000 parts"),
}


@pytest.mark.attack(19)
@pytest.mark.parametrize("case", JSON)
def test_json_has_limits(tmp_path: Path, case: str) -> None:
    content, expected = JSON[case]
    (tmp_path / "w.json").write_text(content)
    text = samples.message(WorkflowError, lambda: lora_core.run(tmp_path / "w.json"))
    assert text == f"w.json: not a workflow file: {expected}."
    (tmp_path / "model.safetensors.index.json").write_text(content)
    assert samples.message(FileFormatError, lambda: model_parts(tmp_path)).endswith(f" broken index: {expected}.")
    (tmp_path / "x.json").write_text(content)
    assert read_sidecars(tmp_path / "x.safetensors") == ([], ["x.json: is not valid JSON; it is ignored."])


def test_what_is_just_within_the_limits_is_read(tmp_path: Path) -> None:
    for value in (json.loads("[" * 100 + "]" * 100), [10**999], {"a": [1.5, None, True, "x" * 10**6]}):
        (tmp_path / "w.json").write_text(json.dumps(value))
        assert read_json(tmp_path / "w.json") == value
