"""What is known of a LoRA from its header and from the files beside it, however hostile those are."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import lora_core
from lora_core.errors import FileFormatError
from lora_core.files.hashes import Hashes, content_hash
from lora_core.library.info import info, trainer_of
from lora_core.library.previews import preview_of
from lora_core.library.sidecars import read_sidecars
from lora_core.text import LONGEST, plain, plain_line, without_markup

MODULE = "lora_unet_double_blocks_0_img_attn_proj"
PNG, JPEG = b"\x89PNG\r\n\x1a\n" + bytes(32), b"\xff\xd8\xff\xe0" + bytes(32)
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(32)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def lora(folder: Path, metadata: dict[str, str] | None = None, name: str = "ink.safetensors") -> Path:
    path = folder / name
    tensors = {f"{MODULE}.lora_down.weight": torch.ones(4, 3072), f"{MODULE}.lora_up.weight": torch.ones(3072, 4)}
    save_file(tensors, path, metadata)
    return path


def known(path: Path, names: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    found = info(path, path.name, names, Hashes(), **more)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def beside(path: Path, suffix: str, content: Any, *, whole_name: bool = False) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (path.parent / ((path.name if whole_name else path.stem) + suffix)).write_text(text, "utf-8")


def test_a_bare_file(tmp_path: Path) -> None:
    path = lora(tmp_path)
    found = known(path, with_hash=True)
    assert found["hash"] == content_hash(path)
    assert found["size"] == path.stat().st_size
    assert (found["arches"][0], found["rank"], found["modules"], found["dialect"]) == ("Flux.1", [4, 4], 1, "kohya")
    assert (found["title"], found["words"], found["tags"], found["metadata"]) == ("", [], [], [])
    assert found["pair"] == {"role": None, "partner": ""}
    assert "double" in [group["name"] for group in found["blocks"]["groups"]]
    assert known(path)["hash"] == ""  # not asked for, and not known to these hashes


def test_words_of_every_sidecar_in_order(tmp_path: Path) -> None:
    path = lora(tmp_path, {"modelspec.trigger_phrase": "inkwash, Brush", "trained_words": '["sumi"]'})
    beside(path, ".metadata.json", {"civitai": {"trainedWords": ["inkwash, wet ink"]}, "model_name": "Ink"})
    beside(path, ".civitai.info", {"trainedWords": ["brush"], "downloadUrl": "https://example.org/1"})
    words = [{"word": "paper", "count": 7}, {"word": "wet ink"}]
    beside(path, ".rgthree-info.json", {"trainedWords": words}, whole_name=True)
    beside(path, ".json", {"activation text": "sketch", "sd version": "SDXL"})
    beside(path, ".txt", "line art\nblack and white")
    found = known(path)
    assert [(one["word"], one["source"], one["count"]) for one in found["words"]] == [
        ("inkwash", "LoRA Manager", None),
        ("wet ink", "LoRA Manager", None),
        ("brush", "civitai.info", None),
        ("paper", "rgthree", 7),
        ("sketch", "json", None),
        ("line art", "txt", None),
        ("black and white", "txt", None),
        ("sumi", "trained_words", None),
    ]
    assert (found["title"], found["base"], found["url"]) == ("Ink", "SDXL", "https://example.org/1")
    assert lora_core.trigger_words(path) == [one["word"] for one in found["words"]]


def test_tags_stand_in_for_words_in_the_panel_only(tmp_path: Path) -> None:
    frequency = {"10_a": {"ink": 3, "sky": 9}, "5_b": {"ink": 8, "bad": "x", "none": -1}, "c": 7}
    path = lora(tmp_path, {"ss_tag_frequency": json.dumps(frequency)})
    found = known(path)
    assert found["tags"] == [{"tag": "ink", "count": 11}, {"tag": "sky", "count": 9}]
    assert [one["word"] for one in found["words"]] == ["ink", "sky"]
    assert lora_core.trigger_words(path) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", "null", "[" * 100_000, '{"trainedWords": ' + "9" * 5_000 + "}", '{"a": "' + "x" * 9_000_000,
     '{"trainedWords": {"a": 1}, "civitai": [], "model": 7, "name": {"x": []}, "description": false}'],
    ids=["empty", "cut", "list", "number", "null", "deep", "digits", "large", "types"],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".metadata.json", ".civitai.info", ".json"])
def test_hostile_sidecars(tmp_path: Path, content: str, suffix: str) -> None:
    path = lora(tmp_path, {"modelspec.trigger_phrase": "ink"})
    beside(path, suffix, content)
    found = known(path)
    assert [one["word"] for one in found["words"]] == ["ink"]
    is_object = content.startswith('{"trainedWords": {')
    assert len(found["notes"]) == (0 if is_object else 1)
    assert all("ignored" in note and str(tmp_path) not in note for note in found["notes"])


def test_a_long_text_is_no_list_of_words(tmp_path: Path) -> None:
    path = lora(tmp_path, {"modelspec.trigger_phrase": "ink"})
    beside(path, ".txt", "word, " * 20_000)
    found = known(path)
    assert [one["word"] for one in found["words"]] == ["ink"]
    assert found["notes"] == ["ink.txt: is too large or can't be read; it is ignored."]


def test_only_https_addresses(tmp_path: Path) -> None:
    path = lora(tmp_path)
    for address in ("javascript:alert(1)", "http://example.org/", "file:///etc/passwd", "https://a b", 7, None):
        beside(path, ".civitai.info", {"downloadUrl": address})
        assert known(path)["url"] == ""


def test_text_is_plain(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202egnp.exe\u2066\x1b[31m\x00 ok"
    assert plain(hostile) == "<img src=x onerror=alert(1)>gnp.exe[31m ok"  # as text; the page shows it so
    assert without_markup("<p>one</p><script>two</script>&lt;b&gt;") == "one\ntwo<b>"
    assert plain("x" * 5_000) == "x" * LONGEST + " … (cut)"
    assert plain_line("a\n\nb\t c") == "a b c"
    assert plain(float("nan")) == "nan" and plain([]) == "" and plain(10**50) == ""
    path = lora(tmp_path, {"modelspec.title": hostile, "modelspec.trigger_phrase": "a\u202eb", "x": "y" * 9_000})
    found = known(path)
    assert found["title"] == plain(hostile)
    assert found["words"][0]["word"] == "ab"
    assert ["x", "y" * LONGEST + " … (cut)"] in found["metadata"]


def test_much_metadata_is_bounded_and_quick(tmp_path: Path) -> None:
    tags = {f"tag number {number} of many": number for number in range(200_000)}
    path = lora(tmp_path, {"ss_tag_frequency": json.dumps({"a": tags}), **{f"k{n}": "v" * 900 for n in range(400)}})
    assert path.stat().st_size > 7_000_000
    known(path)
    start = time.process_time()
    found = known(path)
    seconds = time.process_time() - start
    assert len(found["metadata"]) <= 201
    assert found["metadata"][-1] == ["…", f"{401 - len(found['metadata']) + 1} more entries are not shown"]
    assert len(found["tags"]) == 100
    assert len(json.dumps(found)) < 500_000
    assert seconds < 1.5  # 0.3 s on a machine that does nothing else


def test_previews_in_their_order(tmp_path: Path) -> None:
    path = lora(tmp_path, name="Ink v1.0.safetensors")
    assert preview_of(path) is None
    for name, content, type in (
        ("ink V1.0.JPG", JPEG, "image/jpeg"),
        ("Ink v1.0.png", PNG, "image/png"),
        ("Ink v1.0.preview.png", JPEG, "image/jpeg"),  # by what it holds
        ("Ink v1.0.webp", WEBP, "image/webp"),
    ):
        (tmp_path / name).write_bytes(content)
        found = preview_of(path)
        assert found is not None
        assert (found.path.name, found.type, found.read()) == (name, type, content)


@pytest.mark.parametrize("content", [SVG, b"", b"<html>", b"\0\0\0\x18ftypmp42" + bytes(32), b"GIF8"])
def test_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    path = lora(tmp_path)
    (tmp_path / "ink.png").write_bytes(content)
    (tmp_path / "ink.webp").mkdir()
    (tmp_path / "ink.svg").write_bytes(SVG)
    (tmp_path / "ink.mp4").write_bytes(PNG)
    assert preview_of(path) is None


def test_a_preview_that_comes_later_is_seen(tmp_path: Path) -> None:
    path = lora(tmp_path)
    assert preview_of(path) is None
    (tmp_path / "ink.png").write_bytes(PNG)
    assert preview_of(path) is not None
    assert read_sidecars(path) == ([], [])


@pytest.mark.parametrize(
    "metadata, trainer",
    [
        ({}, ""),
        ({"ss_network_module": "networks.lora"}, "kohya's sd-scripts"),
        ({"ss_network_module": "lycoris.kohya"}, "kohya's sd-scripts with LyCORIS"),
        ({"ss_network_module": "networks.lora_wan"}, "musubi-tuner"),
        ({"software": '{"name": "ai-toolkit", "version": "1"}'}, "ai-toolkit"),
        ({"ot_branch": "master"}, "OneTrainer"),
        ({"modelspec.implementation": "my own"}, "my own"),
    ],
)
def test_trainers(metadata: dict[str, str], trainer: str) -> None:
    assert trainer_of(metadata) == trainer


def test_pair_by_name(tmp_path: Path) -> None:
    path = lora(tmp_path, name="wan_high_noise.safetensors")
    assert known(path, (path.name, "wan_low_noise.safetensors"))["pair"] == {
        "role": "high",
        "partner": "wan_low_noise.safetensors",
    }


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(FileFormatError):
        known(tmp_path / "x.safetensors")
