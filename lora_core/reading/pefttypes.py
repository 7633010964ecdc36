"""PEFT's types of adapters: those that no file can be applied for are refused by their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..errors import AdapterError, NotALoraError
from .loraconfig import LoraConfigs, Section

_MERGE = "merge it with PEFT (merge_and_unload), and use the result as the checkpoint"
_RUN = "use it with PEFT on its base model"
_PROMPTS = (
    "it changes the prompt and not the weights, so that nothing can be merged; use it with PEFT on its base model"
)
# Types that no weight can stand for -> their names, and what follows
_NO_WEIGHTS: Mapping[str, tuple[str, str]] = {
    "PROMPT_TUNING": ("prompt tuning", _PROMPTS),
    "MULTITASK_PROMPT_TUNING": ("multitask prompt tuning", _PROMPTS),
    "P_TUNING": ("P-tuning", _PROMPTS),
    "PREFIX_TUNING": ("prefix tuning", _PROMPTS),
    "CPT": ("context-aware prompt tuning", _PROMPTS),
    "CARTRIDGE": ("a cartridge of keys and values", _PROMPTS),
    "ADAPTION_PROMPT": ("LLaMA-Adapter", _PROMPTS),
    "POLY": ("Poly", "it mixes its factors anew for every task; use it with PEFT on its base model"),
    "XLORA": ("X-LoRA", "it mixes its LoRAs anew for every token; use it with PEFT, or merge the LoRAs that it mixes"),
}
# Types that hold tensors for the layers of a model
_REFUSED: Mapping[str, tuple[str, str]] = {
    "SHADOW": ("ShadowPEFT", f"it is a network that runs beside the model, so that nothing can be merged; {_RUN}"),
    "LILY": ("Lily", f"it mixes its factors anew for every token; {_RUN}"),
    "ADAMSS": ("AdaMSS", f"it is for clusters of the base's rows that PEFT finds anew as it loads the file; {_MERGE}"),
    "FROD": ("FRoD", f"it is for a decomposition of the base's weights that PEFT makes anew as it loads it; {_MERGE}"),
    "PSOFT": (
        "PSOFT",
        f"it is for singular vectors of the base that are not in the file, and whose signs no two programs agree on; "
        f"{_MERGE}",
    ),
}
# Types that can be applied; the first are spelled like a LoRA
_LIKE_LORA = frozenset(("LORA", "ADALORA", "MIXED"))
READ = frozenset((
    *("BEFT", "BOFT", "BONE", "C3A", "DEFT", "DELORA", "FOURIERFT", "GLORA", "GRALORA", "HIRA", "HRA", "IA3"),
    *("LN_TUNING", "LOHA", "LOKR", "MISS", "OFT", "OSF", "PEANUT", "PVERA", "RANDLORA", "ROAD", "SHIRA"),
    *("SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "WAVEFT"),
))  # fmt: skip
# What of a type's tensors is left out where a setting is off: PEFT draws it again from a seed
_LACKING: Mapping[str, tuple[str, str]] = {
    "VERA": ("save_projection", "random projections"),
    "PVERA": ("save_projection", "random projections"),
    "TINYLORA": ("save_projection", "random projections"),
    "UNILORA": ("save_indices", "places and scales"),
}


def refuse_type(name: str, configs: LoraConfigs) -> None:
    """Raise NotALoraError or AdapterError for a type that can't be applied, whatever is in the file."""
    for section in configs.sections:
        one = _type_of(section)
        if one in _NO_WEIGHTS:
            what, why = _NO_WEIGHTS[one]
            raise NotALoraError(f"{name}: is a PEFT adapter of the type {one} ({what}): {why}.")
        if one in _REFUSED:
            what, why = _REFUSED[one]
            raise AdapterError(f"{name}: is a PEFT adapter of the type {one} ({what}): {why}.")
        setting, what = _LACKING.get(one, ("", ""))
        if setting and section.values.get(setting) is False:
            raise AdapterError(
                f"{name}: was saved without its {what} ({setting}), which PEFT draws again from a seed; save it with "
                "them, or merge it with PEFT."
            )


def check_type(name: str, configs: LoraConfigs, words: Collection[str], fields: Collection[str]) -> None:
    """Raise AdapterError for an unknown type, and for tensors that are named as a LoRA's and are none.

    `words` and `fields` are those of the parts.
    """
    for one in peft_types(configs):
        if one not in _LIKE_LORA | READ:
            raise AdapterError(
                f"{name}: is a PEFT adapter of the type {one}, which this version can't apply; {_MERGE}."
            )
        if "lora" in words and one in READ:
            raise AdapterError(f"{name}: its configuration says {one}, and its tensors are named as a LoRA's.")
        if "lora" in words and one == "ADALORA" and "sizes" not in fields:
            raise AdapterError(f"{name}: is an AdaLoRA without its singular values (lora_E); it is not complete.")


def peft_types(configs: LoraConfigs) -> list[str]:
    """Return the types that the configurations name."""
    return [one for one in map(_type_of, configs.sections) if one]


def _type_of(section: Section) -> str:
    """Return the type as PEFT calls it, empty if there is none; some write PeftType.LORA."""
    return str(section.values.get("peft_type") or "").rpartition(".")[2].upper()[:40]
