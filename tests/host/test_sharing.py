"""A workflow that was saved elsewhere, on a real ComfyUI: its files have other names, folders, letters, or are gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lora_core.files.hashes import content_hash
from tests.host_server import PromptRejectedError, Server

FILES = {"shared/a/face.safetensors": 1, "shared/b/face.safetensors": 2, "shared/Ink Renamed.safetensors": 3}


@pytest.fixture
def layout(server: Server) -> Iterator[dict[str, tuple[int, str]]]:
    """Files in the loras folder, all of the same size; {name: (size, hash)}."""
    known: dict[str, tuple[int, str]] = {}
    paths = [server.models / "loras" / name for name in FILES]
    for path, (name, seed) in zip(paths, FILES.items(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(seed)
        module = "lora_unet_double_blocks_0_img_attn_proj"
        tensors = {f"{module}.lora_{side}.weight": torch.randn(4, 4, generator=generator) for side in ("down", "up")}
        save_file(tensors, path)
        known[name] = path.stat().st_size, content_hash(path)
    yield known
    for path in paths:
        path.unlink()


def prompt(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "0": {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": list(rows)}}},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["0", 1]}},
    }


def row(name: str, known: tuple[int, str] = (0, "")) -> dict[str, Any]:
    return {"on": True, "name": name, "strength": 1.0, "size": known[0], "hash": known[1]}


def test_files_of_another_layout(server: Server, layout: dict[str, tuple[int, str]]) -> None:
    a, b, ink = FILES
    rows = [
        row("C:\\ComfyUI\\models\\loras\\people\\face.safetensors", layout[b]),
        row("D:\\loras\\FACE.safetensors", layout[a]),
        row("styles/old name.safetensors", layout[ink]),
        row("SHARED\\ink renamed.safetensors"),
    ]
    run = server.run(prompt(*rows))
    assert (run.status, run.error) == ("success", "")
    names = (b, a, ink, ink)
    assert run.text("show") == " ".join(f"<lora:{name.removesuffix('.safetensors')}:1>" for name in names)
    lines = run.text("0").splitlines()[1:]
    assert lines[2] == f"warning: styles/old name.safetensors: found as {ink} (by its content)."
    assert len(lines) == 4


def test_another_file_of_the_same_name_is_told(server: Server, layout: dict[str, tuple[int, str]]) -> None:
    run = server.run(prompt(row("x/ink renamed.safetensors", (layout["shared/Ink Renamed.safetensors"][0], "0" * 64))))
    assert run.status == "success"
    assert "another file of the same name" in run.text("0")


def test_one_error_for_all_that_is_missing(server: Server, layout: dict[str, tuple[int, str]]) -> None:
    rows = [
        row("people/face.safetensors"),
        row("shared/a/face.safetensors"),
        row("gone.safetensors", (77, "abcdef0123456789" * 4)),
        {**row("off.safetensors"), "on": False},
    ]
    with pytest.raises(PromptRejectedError) as error:
        server.run(prompt(*rows))
    (problem,) = error.value.errors["0"]["errors"]
    text = str(problem)
    assert "row 1: people/face.safetensors: several files in the loras folders fit: shared/a/face.safetensors" in text
    assert "row 3: gone.safetensors: no such file in the loras folders (AutoV3 abcdef012345)" in text
    assert "search civitai.com or your model manager" in text
    assert "row 2" not in text and "off.safetensors" not in text
    assert str(server.base) not in text
