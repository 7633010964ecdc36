"""The structure of a PyTorch file, made to take time or memory: refused or read within a few times its own bytes."""

from __future__ import annotations

import collections
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_core.files.dtypes import DTYPES
from lora_core.files.pytorch.pytorchfile import PickledFile
from lora_core.files.pytorch.stack import ROOM
from tests.core import samples
from tests.hostile_pickles import CASES, LARGE, TENSOR, archive, text

SECONDS = 100  # of the processor, for files of which some would take for ever
MEMORY = 3 * 2**30  # bytes of addresses; some would take as many times more
PER_BYTE = 40
HARMLESS = {"chain of parameters", "attributes"}  # what is not followed does no harm


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


@pytest.mark.attack(1)
def test_no_structure_takes_more_than_a_few_times_its_bytes() -> None:
    command = [sys.executable, "-m", "tests.hostile_pickles"]
    done = subprocess.run(command, cwd=samples.REPO, capture_output=True, text=True, preexec_fn=_limited, check=False)
    found = {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}
    missing = [name for name in CASES if name not in found]
    assert missing == [], f"ended with {done.returncode} at the first of these"
    assert {name for name, (error, _, _) in found.items() if error is None} == HARMLESS
    for name, (error, nbytes, peak) in found.items():
        assert peak <= ROOM + PER_BYTE * nbytes, name
        assert error is None or (error.startswith("bad.pt: ") and len(error) < 400 and "\n" not in error), name
    assert found.keys() >= set(LARGE)


def lightning() -> bytes:
    """The structure of a checkpoint with a class of a trainer as a key, as that of Stable Diffusion 1.4 has."""
    callback = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    seed = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + text("f4") + b"K\0K\1tRc_codecs\nencode\n("
    seed += text("\0\0") + text("latin1") + b"tRtR"
    callbacks = b"}" + callback + b"}" + text("best") + seed + b"ss"
    return b"\x80\x02}(" + text("state_dict") + b"}" + text("x") + TENSOR + b"s" + text("callbacks") + callbacks + b"u."


def saved(path: Path, content: Any) -> dict[str, torch.Tensor]:
    torch.save(content, path)
    with PickledFile(path) as file:
        return {name: file.tensor(name) for name in file}


def test_every_number_format_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    dtypes = [getattr(torch, attribute) for _, attribute in DTYPES.values() if hasattr(torch, attribute)]
    given = {str(dtype): torch.arange(1, 7).to(dtype).reshape(2, 3).t() for dtype in dtypes}
    found = saved(tmp_path / "x.pt", given)
    reference = torch.load(tmp_path / "x.pt", weights_only=True)
    assert found.keys() == reference.keys()
    assert [name for name, value in found.items() if not samples.same_bytes(value, reference[name])] == []


def test_what_honest_files_hold_beside_tensors_is_left_out(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    with_attributes = torch.nn.Parameter(torch.ones(2))
    with_attributes.note = "kept by torch"  # pyright: ignore[reportAttributeAccessIssue]
    content: dict[str, Any] = {
        "state_dict": {**model.state_dict(), "more": with_attributes}, "optimizer": optimizer.state_dict(),
        "odd": {(1, "a"): {1, 2}, 2**70: bytearray(b"x"), None: 1j, "size": torch.ones(1).shape},
        "counts": collections.Counter("a"),
    }  # fmt: skip
    found = saved(tmp_path / "x.pt", content)
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in content["state_dict"].items()
    }
    found = saved(tmp_path / "y.pt", model.state_dict())  # a dict with attributes of its own
    assert found.keys() == model.state_dict().keys()


def test_leftovers_of_a_trainer_are_names_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(archive(lightning()))
    with PickledFile(path) as file:
        assert file.tensor("x").tolist() == [0.0] * 16
        assert file.warnings == ("x.ckpt: 1 value ignored, not tensors of the model: callbacks.",)
    assert "pytorch_lightning" not in sys.modules


def test_a_key_that_is_no_text_is_named_as_such(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1), (1, 2): torch.ones(1), 7: torch.ones(1)}, tmp_path / "x.pt")
    with PickledFile(tmp_path / "x.pt") as file:
        assert list(file) == ["x"]
        assert file.warnings == ("x.pt: 2 values ignored, not tensors of the model: a key that is no text, 7.",)
