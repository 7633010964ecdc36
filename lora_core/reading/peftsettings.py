"""Settings of PEFT's configurations that forbid a merge, or change what the tensors mean."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from ..adapters.spelling import Part
from ..adapters.suffixes import SplitName
from ..errors import AdapterError
from .loraconfig import LoraConfigs, is_yes

# A setting that is on, and what it says of a file whose tensors look like any LoRA's
_REFUSED = {
    "fan_in_fan_out": "fan_in_fan_out: its weights are transposed (GPT-2's), not supported.",
    "alora_invocation_tokens": "is an activated LoRA (aLoRA), which acts on tokens after its invocation tokens only, "
    "so that no weights can stand for it; run it with PEFT.",
    "layer_replication": "is for a model whose layers are repeated (layer_replication), and one file has each of them "
    "once; merge it with PEFT.",
    "arrow_config": "is a router over other LoRAs (Arrow), which chooses anew for each token; use these LoRAs "
    "themselves, or run it with PEFT.",
    "use_bdlora": "is a block-diagonal LoRA (BD-LoRA), whose factors are not those of a LoRA; merge it with PEFT.",
    "use_qalora": "is a QA-LoRA, for weights that are quantised in groups; run it with PEFT.",
    "kasa_config": "is a KaSA LoRA, trained on a base that was cut down first; merge it with PEFT.",
    "target_parameters": "changes experts that are one parameter (target_parameters), not supported; "
    "merge it with PEFT.",
}
_TRAINED_WHOLE = re.compile(r"\.(modules_to_save(\.default)?|base_layer)(?=\.)")
_PEFT_PREFIX = "base_model.model."
_CHANGED_BASE = re.compile(r"(?i)(pissa|olora|corda|loftq|lora_ga)")  # initialisations that change the base weights


def check_settings(name: str, configs: LoraConfigs, fields: Collection[str]) -> None:
    """Raise AdapterError for a setting that forbids a merge; warn of a base that training changed.

    `fields` are the fields of all parts of the file.
    """
    for section in configs.sections:
        for key, value in section.values.items():
            if key in _REFUSED and _is_on(value):
                raise AdapterError(f"{name}: {_REFUSED[key]}")
            if key == "init_lora_weights" and _CHANGED_BASE.match(str(value)):
                configs.warnings.append(
                    f"was trained on a base that {value} had changed; on the original base it is wrong."
                )
        is_dora = section.is_peft and is_yes(section.values.get("use_dora"))
        if is_dora and "up" in fields and not {"magnitude", "peft_magnitude"} & set(fields):
            raise AdapterError(
                f"{name}: its configuration says use_dora, and it holds no magnitudes of DoRA; it is not complete: "
                "export it again."
            )


def whole_parameter(name: str, configs: LoraConfigs) -> SplitName | None:
    """Return the module and the parameter of a tensor that PEFT saves whole and loads in place of the model's own.

    These are modules in `modules_to_save`, biases that were trained, embeddings with added words, and layers below an
    adapter; all but the last are saved by their plain names.
    """
    plain = _TRAINED_WHOLE.sub("", name)
    if plain == name and not (configs.is_peft and name.startswith(_PEFT_PREFIX)):
        return None
    module, _, param = plain.rpartition(".")
    return SplitName(module, Part(f".{param}", "set", "value", param)) if param in ("weight", "bias") else None


def _is_on(value: Any) -> bool:
    return str(value).strip().lower() not in ("", "none", "null", "false", "[]", "{}", "()")
