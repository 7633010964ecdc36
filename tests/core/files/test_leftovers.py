"""What killed runs leave: told after the next run, listed, removed; an old folder is put back, never lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.errors import OptionError
from lora_core.files import folderwriter, leftovers, outputs
from lora_core.files.leftovers import leftovers_in
from tests import tiny
from tests.core import samples


def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def left(folder: Path, name: str, pid: int, ending: str = ".partial", *, is_folder: bool = False) -> Path:
    path = folder / f".{name}.{pid}-0123abcd{ending}"
    if is_folder:
        path.mkdir()
        (path / "model.safetensors").write_bytes(bytes(1000))
    else:
        path.write_bytes(bytes(1000))
    return path


@pytest.mark.case(19)
def test_leftovers_are_listed_and_removed_and_nothing_else(tmp_path: Path) -> None:
    stale, folder = left(tmp_path, "a.safetensors", gone()), left(tmp_path, "model", gone(), is_folder=True)
    running = left(tmp_path, "b.safetensors", os.getppid())
    others = ["c.safetensors", ".hidden", ".d.partial", "e.1-0123abcd.partial", ".f.x-0123abcd.partial"]
    for name in others:
        (tmp_path / name).write_bytes(b"precious")
    done = samples.command("leftovers", str(tmp_path), "--json")
    items = json.loads(done.stdout)["items"]
    assert [(item["name"], item["target"], item["state"]) for item in items] == [
        (stale.name, "a.safetensors", "left behind"),
        (running.name, "b.safetensors", "in use by a running process"),
        (folder.name, "model", "left behind"),
    ]
    assert items[0]["bytes"] == 1000
    assert str(tmp_path) not in done.stdout
    done = samples.command("leftovers", str(tmp_path), "--remove")
    assert done.stdout == (
        f"{stale.name} · 1.0 KB · of a.safetensors · removed\n"
        f"{running.name} · 1.0 KB · of b.safetensors · in use by a running process\n"
        f"{folder.name} · {items[2]['bytes'] / 1000:.1f} KB · of model · removed\n"
    )
    assert samples.listing(tmp_path) == sorted([running.name, *others])
    assert lora_core.cli.leftovers.leftovers(tmp_path / "..").folder == tmp_path.parent.name


def test_a_folder_without_leftovers_and_what_is_no_folder(tmp_path: Path) -> None:
    assert lora_core.cli.leftovers.leftovers(tmp_path).text().endswith(": nothing was left behind by interrupted runs")
    text = samples.message(OptionError, lambda: lora_core.cli.leftovers.leftovers(tmp_path / "no"))
    assert text.endswith("no: is not a folder; name the one in which results are written.")


@pytest.mark.case(19, 45)
def test_a_number_that_another_process_has_now_does_not_keep_a_leftover_for_ever(tmp_path: Path) -> None:
    path = left(tmp_path, "a.safetensors", os.getppid())
    os.utime(path, (time.time() - leftovers.ABANDONED - 10,) * 2)
    mine = left(tmp_path, "b.safetensors", os.getpid())  # in a container, every start may have one number
    os.utime(mine, (leftovers._STARTED - 10,) * 2)
    assert [item.is_in_use for item in leftovers_in(tmp_path)] == [False, False]
    os.utime(path, (time.time() + 10**6,) * 2)  # the clock was set back
    mine.touch()
    assert [item.is_in_use for item in leftovers_in(tmp_path)] == [True, True]


def test_a_name_is_read_as_it_is_given(tmp_path: Path) -> None:
    for name in ("墨.1-2.safetensors", "a" * 170 + ".safetensors", "two\nlines.safetensors"):
        (tmp_path / outputs.temporary_name(name)).touch()
    found = {item.target.name for item in leftovers_in(tmp_path)}
    assert found == {"墨.1-2.safetensors", "a" * 170 + ".safetenso", "two\nlines.safetensors"}


def test_the_next_report_tells(tmp_path: Path) -> None:
    base = tiny.make_tiny("flux", tmp_path / "in/base.safetensors")
    lora = tiny.make_lora(tmp_path / "in/lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    out = tmp_path / "out"
    out.mkdir()
    assert not any("interrupted" in note for note in lora_core.merge(base, [lora], out / "a.safetensors").notes)
    stale = left(out, "b.safetensors", gone())
    left(out, "c.safetensors", os.getppid())
    expected = (
        f"left in this folder by interrupted runs, 1.0 KB: {stale.name}; delete it, or run `lora-core leftovers FOLDER "
        "--remove`"
    )
    assert expected in lora_core.merge(base, [lora], out / "d.safetensors").notes
    assert expected in lora_core.resize(lora, out / "e.safetensors", rank=2).notes
    assert stale.exists()  # nothing is removed unasked


# Folders


def model(folder: Path, value: float) -> Path:
    samples.save(folder / "model.safetensors", {"x": torch.full((4,), value)})
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.case(19)
def test_an_old_folder_whose_successor_did_not_come_is_put_back_first(tmp_path: Path) -> None:
    source = model(tmp_path / "in/source", 1)
    out = tmp_path / "out"
    aside = model(tmp_path / outputs.temporary_name("out", outputs.REPLACED).replace(str(os.getpid()), str(gone())), 2)
    assert [item.is_only_copy for item in leftovers_in(tmp_path)] == [True]
    text = samples.message(lora_core.errors.OutputError, lambda: folderwriter.FolderWriter(out, source, 10))
    assert text == "out: already exists; choose another name or allow overwriting."
    assert samples.load(out / "model.safetensors")["x"].tolist() == [2] * 4
    assert not aside.exists()


@pytest.mark.case(19)
def test_an_old_folder_is_put_back_when_asked_and_removed_once_it_has_a_successor(tmp_path: Path) -> None:
    ending = outputs.REPLACED
    first, second = (left(tmp_path, name, gone(), ending, is_folder=True) for name in "ab")
    (tmp_path / "b").mkdir()
    report = lora_core.cli.leftovers.leftovers(tmp_path, remove=True)
    states = {item["name"]: item["state"] for item in report.items}
    assert states == {first.name: "put back", second.name: "removed"}
    assert samples.listing(tmp_path) == ["a", "a/model.safetensors", "b"]


KILLED = """
import os, signal, sys
from pathlib import Path
from lora_core.files.folderwriter import FolderWriter
at, count, renamed = int(sys.argv[3]), 0, os.rename
def rename(*names):
    global count
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    renamed(*names)
os.rename = rename
with FolderWriter(Path(sys.argv[2]), Path(sys.argv[1]), 10, overwrite=True) as folder:
    for name in ("model.safetensors", "config.json"):
        folder.copy(Path(sys.argv[1]) / name, name)
    folder.commit()
"""


@pytest.mark.case(19)
@pytest.mark.parametrize(("at", "value"), [(0, 2), (1, None)])
def test_a_folder_killed_between_two_renames_loses_nothing(tmp_path: Path, at: int, value: float | None) -> None:
    source, out = model(tmp_path / "in/source", 1), model(tmp_path / "results/out", 2)
    done = samples.python("-c", KILLED, str(source), str(out), str(at))
    assert done.returncode == -9
    if value is None:
        assert not out.exists()  # and the old folder is under its other name
    with folderwriter.FolderWriter(out, source, 10, overwrite=True):
        assert samples.load(out / "model.safetensors")["x"].tolist() == [2] * 4
    done = samples.python("-c", KILLED, str(source), str(out), "9")
    assert done.returncode == 0
    assert samples.load(out / "model.safetensors")["x"].tolist() == [1] * 4
    lora_core.cli.leftovers.leftovers(out.parent, remove=True)
    assert samples.listing(out.parent) == ["out", "out/config.json", "out/model.safetensors"]
