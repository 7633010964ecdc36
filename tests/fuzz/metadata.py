"""Metadata of a LoRA file and the configuration beside it: all that is told of it is plain, bounded, and JSON."""

from __future__ import annotations

import json
from typing import Any

from lora_core.errors import LoraError
from lora_core.files.hashes import Hashes
from lora_core.library.info import info
from lora_core.reading.loraconfig import CONFIG_NAME
from tests.core import samples
from tests.fuzz.choices import Choices
from tests.fuzz.scratch import written
from tests.fuzz.seen import check_shown, unfit

NAME = "metadata.safetensors"
_KEYS = (
    *("ss_tag_frequency", "ss_network_args", "ss_network_alpha", "ss_network_module", "ss_output_name"),
    *("ss_base_model_version", "ss_training_comment", "ss_trigger_words", "trained_words", "lora_adapter_metadata"),
    *("modelspec.trigger_phrase", "modelspec.title", "modelspec.description", "modelspec.implementation"),
    *("software", "name", "ot_x", "peft_type", "lora_alpha", "alpha_pattern", "rank_pattern", "r", "use_rslora"),
    *("fan_in_fan_out", "init_lora_weights", "feedforward_modules", "alpha", "transformer.alpha_pattern"),
)
_TENSORS: dict[str, Any] = {
    "transformer.x.lora_A.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "transformer.x.lora_B.weight": {"dtype": "F32", "shape": [4, 2], "data_offsets": [24, 56]},
    "base_model.model.y.ia3_l": {"dtype": "F32", "shape": [4], "data_offsets": [56, 72]},
    "base_model.model.z.oft_R.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [72, 80]},
}
_LARGEST = 2**20  # characters of an answer


def check(data: bytes) -> None:
    choices = Choices(data)
    config = choices.take(choices.number(512))
    texts = choices.rest().decode("utf-8", "replace").split("\x1f")
    metadata = {_KEYS[ord(text[0]) % len(_KEYS)] if text[:1] < "\x80" else text[:9]: text[1:] for text in texts if text}
    path = written(NAME, samples.raw({"__metadata__": metadata, **_TENSORS}, bytes(80)))
    path.with_name(CONFIG_NAME).write_bytes(config)
    check_told(path)


def check_told(path: Any) -> None:
    try:
        told = info(path, path.name, [path.name], Hashes())
    except LoraError as error:
        check_shown(str(error))
        return
    text = json.dumps(told, allow_nan=False)
    assert len(text) < _LARGEST
    for value in _texts_in(told):
        assert [char for char in unfit(value) if char not in "\n\t"] == []


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in inner for text in _texts_in(item)]


def _data(config: bytes, **metadata: str) -> bytes:
    texts = [chr(_KEYS.index(key.replace("__", "."))) + value for key, value in metadata.items()]
    return len(config).to_bytes(2, "little") + config + "\x1f".join(texts).encode()


def seeds() -> dict[str, bytes]:
    frequency = json.dumps({"10_ink": {"ink style": 10, "1girl": 3}})
    peft = json.dumps({"transformer.r": 2, "transformer.lora_alpha": 4, "transformer.rank_pattern": {"x": 2}})
    config = json.dumps({"peft_type": "OFT", "coft": True, "eps": 1e-4, "r": 2, "alpha_pattern": {"^x$": 3}}).encode()
    return {
        "kohya": _data(b"", ss_tag_frequency=frequency, ss_network_alpha="4", ss_output_name="ink"),
        "modelspec": _data(b"", modelspec__title="Ink", modelspec__description="<p>An <b>ink</b></p>"),
        "words": _data(b"", trained_words='["ink", "style, bold"]', ss_trigger_words="ink"),
        "peft-in-header": _data(b"", lora_adapter_metadata=peft),
        "configuration": _data(config, software='{"name": "ai-toolkit"}'),
        "patterns": _data(b"", alpha_pattern=json.dumps({"(a|b)*.x[0-9]+": 2, "\\d?": 1}), r="2", peft_type="LORA"),
        "ia3": _data(json.dumps({"peft_type": "IA3", "feedforward_modules": ".*y"}).encode(), name="x"),
        "terminal": _data(b"", ss_output_name="\x1b[31mred\u202egnp", modelspec__title="a\r\nb"),
    }
