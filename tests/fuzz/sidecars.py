"""Files that other tools write beside a LoRA: whatever they hold, what is told of it is plain, bounded, and JSON."""

from __future__ import annotations

import json

from tests.core import samples
from tests.fuzz.choices import Choices
from tests.fuzz.metadata import check_told
from tests.fuzz.scratch import written

SUFFIXES = (".metadata.json", ".civitai.info", ".safetensors.rgthree-info.json", ".json", ".txt", ".sha256", ".png")
_LORA = samples.raw(
    {
        "lora_unet_x.lora_up.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "lora_unet_x.lora_down.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]},
    },
    bytes(16),
)


def check(data: bytes) -> None:
    path = written("sidecars.safetensors", _LORA)
    choices = Choices(data)
    number = choices.number(len(SUFFIXES))
    for place, suffix in enumerate(SUFFIXES):
        written(f"sidecars{suffix}", choices.rest() if place == number else b"")
    check_told(path)


def seeds() -> dict[str, bytes]:
    civitai = {
        "name": "v1", "baseModel": "SDXL 1.0", "trainedWords": ["ink", "bold, style"], "downloadUrl": "https://x/y",
        "model": {"name": "Ink", "description": "<p>Ink &amp; <script>x</script></p>"}, "creator": {"username": "u"},
    }  # fmt: skip
    manager = {"civitai": civitai, "model_name": "Ink", "notes": "a\nb", "sha256": "0" * 64, "trainedWords": "ink"}
    rgthree = {"name": "Ink", "trainedWords": [{"word": "ink", "count": 3}, {"word": None}], "userNote": "x"}
    a1111 = {"description": "x", "sd version": "SDXL", "activation text": "ink, bold", "notes": "n"}
    texts = [json.dumps(one).encode() for one in (manager, civitai, rgthree, a1111)]
    texts += [b"ink, bold\nstyle", b"0" * 64 + b" ink", b"\x89PNG\r\n\x1a\n" + bytes(8)]
    return {f"as{SUFFIXES[number]}": bytes([number]) + text for number, text in enumerate(texts)}
