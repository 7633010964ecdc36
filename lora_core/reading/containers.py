"""A LoRA's file or folder opened, whichever program saved it: MLX's and llama.cpp's adapters read like PEFT's.

MLX (mlx-lm, tuner/lora.py): y += scale · (x a) b, a [in, rank] and b [rank, out]; the scale is in adapter_config.json.
llama.cpp (convert_lora_to_gguf.py): PEFT's factors under GGUF names, alpha in the file's own values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, WrongFileKindError
from ..files.adapterfolder import open_adapter
from ..files.gguffile import GgufFile
from ..files.openfile import read_bounded
from ..files.renamed import Renamed, Source
from ..files.tensors import Tensors
from ..text import json_object, some_names

_CONFIG, _LARGEST_CONFIG = "adapter_config.json", 1 << 20
_TABLES = ("embed_tokens", "wte", "tok_embeddings", "word_embeddings")  # modules that look up and do not multiply
_GGUF_NAME = re.compile(r"(?:blk\.(?P<block>\d+)\.)?(?P<part>[a-z_]+)\.weight\.lora_(?P<field>[ab])")
_GGUF_PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "token_embd": "embed_tokens", "output": "lm_head",
}  # fmt: skip
_GGUF_MODELS: dict[str, Mapping[str, str]] = {
    **dict.fromkeys(("llama", "qwen2", "qwen2vl", "qwen3", "qwen3vl", "gemma", "gemma2", "gemma3"), _GGUF_PARTS),
    "phi3": {**_GGUF_PARTS, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
}
_PAIRED = {"attn_q": "head_count", "attn_k": "head_count_kv"}  # rows that llama.cpp stores in another order, for Llama
_USE_PEFT = "use the adapter that it was converted from, or merge it with llama.cpp's llama-export-lora"


def open_lora(path: Path) -> Tensors:
    """Open a file or an index as a LoRA; raises WrongFileKindError for an adapter that can't be read as one."""
    raw = open_adapter(path)
    try:
        if isinstance(raw, GgufFile):
            return _from_gguf(raw) if any(_GGUF_NAME.fullmatch(name) for name in raw) else raw
        return Renamed(raw, dict(_mlx_sources(raw))) if _is_mlx(raw) else raw
    except BaseException:
        raw.close()
        raise


def _is_mlx(raw: Tensors) -> bool:
    """Tell whether every pair of factors is called and laid out as MLX does."""
    downs = [name for name in raw if name.endswith(".lora_a")]
    pairs = [(raw[name].shape, raw[name[:-1] + "b"].shape) for name in downs if name[:-1] + "b" in raw]
    return bool(pairs) and len(pairs) == len(downs) and all(_fits(*pair) for pair in pairs)


def _fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    is_matrix = len(a) == len(b) == 2 and a[1] == b[0]
    return is_matrix or (len(a) == len(b) == 3 and a[0] == b[0] and a[1] == b[2])  # of experts


def _mlx_sources(raw: Tensors) -> Iterator[tuple[str, Source]]:
    scale = _mlx_scale(raw.path)
    experts = [name for name in raw if name.endswith(".lora_a") and len(raw[name].shape) == 3]
    if experts:
        raise WrongFileKindError(
            f"{raw.path.name}: is an MLX adapter with factors of experts, which this version can't "
            f"apply; merge it with mlx_lm.fuse, and use the result as the checkpoint: {some_names(experts)}."
        )
    for name in raw:
        module, _, part = name.rpartition(".")
        is_table = module.rpartition(".")[2] in _TABLES
        if part in ("lora_a", "lora_b"):
            field = "lora_embedding_" if is_table else "lora_"
            yield f"{module}.{field}{part[-1].upper()}{'' if is_table else '.weight'}", Source(name, turned=True)
            if part == "lora_a":
                yield f"{module}.alpha", Source(number=scale * raw[name].shape[1])
        elif part == "m" and f"{module}.lora_a" in raw:
            yield f"{module}.lora_magnitude_vector", Source(name)
        else:
            yield name, Source(name)


def _mlx_scale(path: Path) -> float:
    text = read_bounded(path.with_name(_CONFIG), _LARGEST_CONFIG)
    if text is None:
        raise FileFormatError(
            f"{path.name}: is an MLX adapter, whose scale is in {_CONFIG}, and there is none beside it; put both into "
            "one folder and give the folder."
        )
    settings = json_object(text.decode("utf-8", "replace")).get("lora_parameters")
    scale: Any = settings.get("scale") if isinstance(settings, dict) else None
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise FileFormatError(
            f"{path.name}: is an MLX adapter, and the {_CONFIG} beside it names no scale in lora_parameters; "
            "take the one that it was saved with."
        )
    return float(scale)


def _from_gguf(raw: GgufFile) -> Tensors:
    if "adapter.alora.invocation_tokens" in raw.told:
        raise WrongFileKindError(
            f"{raw.path.name}: is an activated LoRA (aLoRA), which acts only behind its invocation tokens, so that no "
            "merged weight can stand for it; use it with llama.cpp or PEFT."
        )
    arch = str(raw.told.get("general.architecture", ""))[:40]
    parts = _GGUF_MODELS.get(arch)
    if parts is None:
        raise WrongFileKindError(
            f"{raw.path.name}: is a GGUF LoRA of llama.cpp for {arch or 'an unnamed model'}, whose names this version "
            f"does not know; {_USE_PEFT}."
        )
    return Renamed(raw, dict(_gguf_sources(raw, arch, parts)))


def _gguf_sources(raw: GgufFile, arch: str, parts: Mapping[str, str]) -> Iterator[tuple[str, Source]]:
    alpha = raw.told.get("adapter.lora.alpha", 0.0)
    for name in raw:
        found = _GGUF_NAME.fullmatch(name)
        ours = parts.get(found["part"]) if found else None
        if found is None or ours is None or (found["block"] is None) != (found["part"] in ("token_embd", "output")):
            raise WrongFileKindError(
                f"{raw.path.name}: is a GGUF LoRA of llama.cpp with {name[:80]!r}, which this version can't place in "
                f"{arch}; {_USE_PEFT}."
            )
        level = "" if ours == "lm_head" else "model." if found["block"] is None else f"model.layers.{found['block']}."
        module, field = f"base_model.model.{level}{ours}", found["field"].upper()
        heads = _heads(raw, arch, found["part"], name) if field == "B" else 0
        if ours == "embed_tokens":
            yield f"{module}.lora_embedding_{field}", Source(name, turned=field == "A")
        else:
            yield f"{module}.lora_{field}.weight", Source(name, heads=heads)
        if field == "A" and isinstance(alpha, float) and alpha and math.isfinite(alpha):  # llama.cpp: 0 is none
            yield f"{module}.alpha", Source(number=alpha)


def _heads(raw: GgufFile, arch: str, part: str, name: str) -> int:
    """Return of how many heads the rows are to be put in order: for Llama, whose q and k llama.cpp stores in pairs."""
    if arch != "llama" or part not in _PAIRED:
        return 0
    told = raw.told.get(f"llama.attention.{_PAIRED[part]}", raw.told.get("llama.attention.head_count"))
    if type(told) is not int or not 0 < told <= 2**16 or raw[name].shape[0] % (2 * told):
        raise WrongFileKindError(
            f"{raw.path.name}: is a GGUF LoRA of llama.cpp for Llama, with the rows of q and k in another order, and "
            f"it does not tell the number of heads; {_USE_PEFT}."
        )
    return told
