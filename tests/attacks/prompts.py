"""Prompts with every file through every node of the pack, and prompts that are hostile themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.attacks.loras import alike

Prompt = dict[str, dict[str, Any]]
NODES = ("LoraCoreLoad", "LoraCoreMerge", "LoraCoreExtract", "LoraCoreResize", "LoraCoreCombine", "LoraCoreConvert",
         "LoraCoreInspect")  # fmt: skip


def honest(infos: Mapping[str, Any], model: str, lora: str) -> Prompt:
    """Return a prompt that loads, merges and inspects a good LoRA."""
    prompt = through("LoraCoreLoad", infos["LoraCoreLoad"], model, lora)
    prompt |= {
        f"merge-{key}": value for key, value in through("LoraCoreMerge", infos["LoraCoreMerge"], model, lora).items()
    }
    for key, one in prompt.items():
        if key.startswith("merge-"):
            inputs = one["inputs"]
            one["inputs"] = {name: _moved(value) for name, value in inputs.items()}
    return prompt


def _moved(value: Any) -> Any:
    return [f"merge-{value[0]}", value[1]] if isinstance(value, list) else value


def prompts(infos: Mapping[str, Any], model: str, files: Sequence[str]) -> Iterator[tuple[str, Prompt]]:
    for name in files:
        for kind in NODES:
            yield f"{kind} {name}", through(kind, infos[kind], model, name)
        yield f"as base {name}", through("LoraCoreMerge", infos["LoraCoreMerge"], f"attacks/{name}", name)
    yield "all in one stack", through("LoraCoreLoad", infos["LoraCoreLoad"], model, *files)
    yield "alike", _of_rows(list(alike()))
    yield "alike and chosen", _of_rows([{**row, "name": "attacks/good.safetensors"} for row in alike()])
    for label, rows in _rows().items():
        yield f"rows: {label}", _of_rows(rows)
    for count in (50, 100, 150):  # ComfyUI itself takes time for nodes squared: 12 s for 300 of its own
        yield f"{count} chained stacks", _chained(count)
    for number, prefix in enumerate(("../x", "x" * 1_000_000, "a/" * 5_000, "CON", "\0", "\ud800", 7, "/etc/x", "")):
        prompt = through("LoraCoreConvert", infos["LoraCoreConvert"], model, "attacks/good.safetensors")
        prompt["node"]["inputs"]["filename_prefix"] = prefix
        yield f"prefix {number}", prompt


def through(kind: str, info: Mapping[str, Any], model: str, *loras: str) -> Prompt:
    """Return a prompt with LoRAs through one node, its inputs as they are by default."""
    rows = [{"on": True, "name": name, "strength": 0.5} for name in loras]
    prompt: Prompt = {
        "stack": {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": rows}}},
        "node": {"class_type": kind, "inputs": {}},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["node", info["output_name"].index("report")]}},
    }
    inputs = prompt["node"]["inputs"]
    for name, spec in (item for group in info["input"].values() for item in group.items()):
        if spec[0] == "MODEL" and kind == "LoraCoreLoad" and name == "model":
            prompt["model"] = {"class_type": "UNETLoader", "inputs": {"unet_name": model, "weight_dtype": "default"}}
            inputs[name] = ["model", 0]
        elif name == "lora_stack" and kind != "LoraCoreExtract":
            inputs[name] = ["stack", 0]
        elif name == "lora_name" and kind in ("LoraCoreResize", "LoraCoreConvert"):
            inputs[name] = loras[0]
        elif name in ("checkpoint", "base", "against") and kind != "LoraCoreResize":
            inputs[name] = model if "/" in model else f"diffusion_models/{model}"
        elif name == "tuned":
            inputs[name] = f"attacks/{loras[0]}" if not loras[0].startswith("attacks/") else loras[0]
        elif len(spec) > 1 and "default" in spec[1]:
            inputs[name] = spec[1]["default"]
    if not any("lora_stack" in one["inputs"] for one in prompt.values()):
        del prompt["stack"]
    return prompt


def _of_rows(rows: Any) -> Prompt:
    return {
        "stack": {
            "class_type": "LoraCoreStack",
            "inputs": {"rows": rows if isinstance(rows, str) else {"v": 1, "rows": rows}},
        },
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["stack", 1]}},
    }


def _chained(count: int) -> Prompt:
    row = {"v": 1, "rows": [{"on": True, "name": "attacks/good.safetensors", "strength": 0.01}]}
    prompt: Prompt = {}
    for number in range(count):
        before = {"lora_stack": [str(number - 1), 0]} if number else {}
        prompt[str(number)] = {"class_type": "LoraCoreStack", "inputs": {"rows": row, **before}}
    return prompt | {"show": {"class_type": "PreviewAny", "inputs": {"source": [str(count - 1), 1]}}}


def _rows() -> dict[str, Any]:
    good = "attacks/good.safetensors"
    return {
        "2000 that are not there": [{"on": True, "name": f"gone-{n}.safetensors"} for n in range(2_000)],
        "2001": [{"name": good}] * 2_001,
        "2000 of the same": [{"on": True, "name": good}] * 2_000,
        "names of 100 KB": [{"on": True, "name": "x" * 100_000}] * 20,
        "blocks of 1 MB": [{"on": True, "name": good, "blocks": "double.0=0.5 " * 80_000}],
        "numbers of 1 MB": [{"on": True, "name": good, "strength": "1" * 1_000_000}],
        "not a number": [{"on": True, "name": good, "strength": float("nan")}],
        "deep JSON": "[" * 500_000,
        "long JSON": "[" + "{}," * 400_000 + "{}]",
        "lists": [[], 7, None, "x", {}],
        "no name": [{"on": True, "name": {"a": 1}}],
        "half a character": [{"on": True, "name": "\ud800"}],
    }
