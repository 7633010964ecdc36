"""File names, new file paths and progress, as the pack asks a real ComfyUI for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.host_fixtures import write_lora
from tests.host_server import Server


def call(server: Server, function: str, *arguments: Any) -> Any:
    """Call a function of nodes/host.py inside the server; a LoraError comes back as (kind, message)."""
    inputs = {"function": function, "arguments": json.dumps(arguments)}
    prompt = {
        "call": {"class_type": "LoraCoreTestHostCall", "inputs": inputs},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["call", 0]}},
    }
    run = server.run(prompt)
    assert run.status == "success", run.error
    answer = json.loads(run.text("show"))
    return (answer["error"], answer["message"]) if "error" in answer else answer["result"]


def place(server: Server, name: str) -> Path:
    path = server.models / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    return path


def test_new_lora_path_counts_up_and_never_names_an_existing_file(server: Server) -> None:
    first = server.models / "loras" / "made" / "here" / "mine_00001_.safetensors"
    assert call(server, "new_lora_path", "made/here/mine") == str(first)
    assert first.parent.is_dir() and not first.exists()
    place(server, "loras/made/here/mine_00001_.safetensors")
    place(server, "loras/made/here/MINE_00007_.safetensors")  # the same name where case makes no difference
    place(server, "loras/made/here/mine_x_.safetensors")
    (server.output / "loras/made/here").mkdir(parents=True)
    (server.output / "loras/made/here/mine_00008_.safetensors").touch()  # another root, listed under the same name
    assert call(server, "new_lora_path", "made\\here\\mine.safetensors").endswith("mine_00009_.safetensors")


@pytest.mark.parametrize(
    "like, folder",
    [
        ("like/one.safetensors", "checkpoints"),
        ("diffusion_models/like/two.safetensors", "diffusion_models"),
        ("text_encoders/like/three.safetensors", "text_encoders"),
    ],
)
def test_new_model_path_is_in_the_folder_of_the_model(server: Server, like: str, folder: str) -> None:
    place(server, like if like.startswith(folder) else f"{folder}/{like}")
    assert call(server, "new_model_path", like, "merged") == str(server.models / folder / "merged_00001_.safetensors")


@pytest.mark.case(34)
@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "",
            "  ",
            "/",
            "/abs/x",
            "C:/x",
            "C:x",
            "\\\\server\\x",
            "../x",
            "a/../x",
            "a/./x",
            "a//x",
            "a/",
            "x\0y",
            "x\ny",
        ),
        *("CON", "a/nul", "com1.b", "LPT9/x", "x.", "a /x", "x?", "a*b", "x|y", "<x>", "x" * 201),
    ],
)
def test_prefix_that_is_no_plain_relative_path_is_refused(server: Server, prefix: str) -> None:
    before = sorted(server.models.rglob("*"))
    kind, message = call(server, "new_lora_path", prefix)
    assert kind == "OutputError"
    assert "filename_prefix" in message
    assert sorted(server.models.rglob("*")) == before


@pytest.mark.case(29)
def test_prefix_through_a_link_out_of_the_folder_is_refused(server: Server, tmp_path: Path) -> None:
    link = server.models / "loras" / "elsewhere"
    link.symlink_to(tmp_path, target_is_directory=True)
    try:
        kind, message = call(server, "new_lora_path", "elsewhere/x")
    finally:
        link.unlink()
    assert (kind, "leads out" in message) == ("OutputError", True)
    assert list(tmp_path.iterdir()) == []


def test_new_file_in_a_new_folder_is_listed_at_once(server: Server) -> None:
    assert "brand/new/one_00001_.safetensors" not in call(server, "lora_names")
    path = Path(call(server, "new_lora_path", "brand/new/one"))
    call(server, "lora_names")  # the host has now cached a list without the file, of the folder with its present time
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    assert call(server, "listed_name", str(path), "loras") == "brand/new/one_00001_.safetensors"
    assert "brand/new/one_00001_.safetensors" in call(server, "lora_names")
    assert "brand/new/one_00001_.safetensors" in server.node_info("LoraLoader")["input"]["required"]["lora_name"][0]


def test_model_names_tell_their_folder(server: Server) -> None:
    plain = place(server, "checkpoints/names/plain.safetensors")
    diffusion = place(server, "diffusion_models/names/flux.safetensors")
    encoder = place(server, "text_encoders/names/clip.safetensors")
    expected = {
        "names/plain.safetensors": plain,
        "diffusion_models/names/flux.safetensors": diffusion,
        "text_encoders/names/clip.safetensors": encoder,
    }
    assert set(expected) <= set(call(server, "model_names"))
    for name, path in expected.items():
        assert call(server, "model_path", name) == str(path)
        assert call(server, "model_path", name.replace("/", "\\")) == str(path)


def test_checkpoint_of_exactly_this_name_comes_first(server: Server) -> None:
    name = "diffusion_models/both.safetensors"
    other = place(server, name)
    assert call(server, "model_path", name) == str(other)
    checkpoint = place(server, f"checkpoints/{name}")
    assert call(server, "model_path", name) == str(checkpoint)
    assert call(server, "model_folder", name) == "checkpoints"


def test_a_moved_file_is_found_by_its_own_name_if_only_one_fits(server: Server) -> None:
    write_lora(server, "moved/here/Wanderer.safetensors")
    expected = str(server.models / "loras/moved/here/Wanderer.safetensors")
    assert call(server, "lora_path", "old\\place\\wanderer.safetensors") == expected
    write_lora(server, "moved/there/wanderer.safetensors")
    kind, message = call(server, "lora_path", "old/place/wanderer.safetensors")
    assert kind == "AmbiguousFileError"
    assert "several files" in message


def test_missing_names_are_reported(server: Server) -> None:
    for function in ("lora_path", "model_path"):
        kind, message = call(server, function, "not/here.safetensors")
        assert kind == "NoSuchFileError"
        assert message.startswith("not/here.safetensors: no such file in the")


def test_name_cannot_leave_the_folder(server: Server) -> None:
    secret = server.base / "secret.safetensors"
    secret.touch()
    write_lora(server, "inside.safetensors")
    for name in ("../../secret.safetensors", "..\\..\\secret.safetensors", str(secret)):
        assert call(server, "lora_path", name)[0] == "NoSuchFileError"


def steps_prompt(steps: int, seconds: float) -> dict[str, Any]:
    return {
        "steps": {"class_type": "LoraCoreTestSteps", "inputs": {"steps": steps, "seconds": seconds}},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["steps", 0]}},
    }


def test_progress_reaches_the_page_and_is_throttled(server: Server) -> None:
    run = server.run(steps_prompt(2000, 0.0))
    assert run.status == "success"
    assert run.progress[-1] == (2000, 2000)
    assert len(run.progress) < 200


def test_cancel_stops_a_step(server: Server) -> None:
    def cancel(event: str, _: Any) -> None:
        if event == "progress":
            server.interrupt()

    run = server.run(steps_prompt(6000, 0.05), on_event=cancel)
    assert run.status == "interrupted"
    assert run.progress[-1][0] < 600, "of five minutes"
