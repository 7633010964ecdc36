"""ComfyUI stays awake: prompts are validated without reading files, and long questions keep no short one waiting."""

from __future__ import annotations

import http.client
import os
import select
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.host.families import FAMILIES, node
from tests.host.test_routes import INK, check, info
from tests.host_server import PromptRejectedError, Server

COUNT, SIZE = 24, 200_000_000
ROW = {"on": True, "name": "gone.safetensors", "size": SIZE, "hash": "0" * 64}
FLUX = FAMILIES[0]


@pytest.fixture
def alike(server: Server) -> Iterator[list[str]]:
    """Many large files of one size, which take no room on the disk."""
    folder = server.models / "loras/alike"
    folder.mkdir()
    names = [f"{number}.safetensors" for number in range(COUNT)]
    for name in names:
        (folder / name).touch()
        os.truncate(folder / name, SIZE)
    yield [f"alike/{name}" for name in names]
    for name in names:
        (folder / name).unlink()
    folder.rmdir()


def of_rows(*rows: dict[str, Any]) -> dict[str, Any]:
    prompt: dict[str, Any] = {}
    node("stack", prompt, "LoraCoreStack", rows={"v": 1, "rows": list(rows)})
    node("show", prompt, "PreviewAny", source=["stack", 1])
    return prompt


@pytest.mark.attack(5)
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts the bytes that a process reads, as Linux does")
def test_a_prompt_is_queued_before_any_file_is_read(server: Server, alike: list[str]) -> None:
    before = server.bytes_read()
    server.queue(of_rows(ROW))  # refused, or answered, once it is validated
    assert server.bytes_read() - before < SIZE
    server.interrupt()
    run = server.run(of_rows({"name": INK}))
    assert run.status == "success"


@pytest.mark.attack(5)
def test_a_run_that_looks_into_files_is_cancelled(server: Server, alike: list[str]) -> None:
    asked: list[float] = []

    def cancel(event: str, _: Any) -> None:
        if event == "progress" and not asked:
            asked.append(server.worked())
            server.interrupt()

    run = server.run(of_rows({**ROW, "hash": "1" * 64}), on_event=cancel)
    assert run.status == "interrupted"
    assert server.worked() - asked[0] < 2


@pytest.mark.attack(18)
def test_hashing_keeps_no_short_question_waiting(server: Server) -> None:
    folder = server.models / "loras/long"
    shapes = {"lora_unet_x.lora_up.weight": ("F16", (8, 8)), "lora_unet_x.lora_down.weight": ("F16", (8, 2**26))}
    paths = [tiny.sparse_file(folder / f"{number}.safetensors", shapes) for number in range(COUNT)]  # of 1 GB each
    asked = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in paths]
    try:
        for connection, path in zip(asked, paths, strict=True):
            connection.request("GET", f"/lora-core/info?name=long/{path.name}&hash=1")
        for _ in range(3):
            assert info(server, INK)[0] == 200
            assert check(server, {"model": None, "rows": [{"name": INK}]})[0] == 200
        answered, _, _ = select.select([connection.sock for connection in asked], [], [], 0)
        assert len(answered) < COUNT // 2  # the others still wait
    finally:
        for connection in asked:
            connection.close()  # nobody waits any more, so the server stops
        shutil.rmtree(folder)


@pytest.mark.attack(29)
@pytest.mark.parametrize("prefix", ["../x", "/x", "CON", "x\0y", "", "x" * 201, "a/../b"])
@pytest.mark.parametrize("kind", ["LoraCoreConvert", "LoraCoreMerge"])
def test_a_prefix_is_refused_before_the_run(server: Server, kind: str, prefix: str) -> None:
    FLUX.write(server)
    prompt: dict[str, Any] = {}
    node("stack", prompt, "LoraCoreStack", rows={"v": 1, "rows": [{"name": FLUX.lora("a")}]})
    if kind == "LoraCoreMerge":
        node("write", prompt, kind, checkpoint=FLUX.model, lora_stack=["stack", 0], filename_prefix=prefix)
    else:
        node("write", prompt, kind, lora_name=FLUX.lora("a"), filename_prefix=prefix)
    node("show", prompt, "PreviewAny", source=["write", 1])
    with pytest.raises(PromptRejectedError) as refused:
        server.run(prompt)
    assert "filename_prefix" in str(refused.value.errors["write"])
    assert "can't be part of a file name" in str(refused.value.errors["write"])
