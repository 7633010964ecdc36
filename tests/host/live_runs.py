"""Run by ComfyUI's Python in ComfyUI's folder: Load LoRA's runs one after the other, and what each of them did.

`live_runs.py REPO FOLDER`: the folder holds flux.safetensors, and the LoRA files a, b, zero and broken. Prints JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

REPO, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads it on import
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)])
assert spec is not None
sys.modules["pack"] = importlib.util.module_from_spec(spec)
live, cache = import_module("pack.nodes.live.patches"), import_module("pack.nodes.live.loras")
keystack = import_module("pack.nodes.live.keystack")
apply, keymap = import_module("pack.lora_core.stack.apply"), import_module("pack.lora_core.naming.keymap")
openfile, numbers = import_module("pack.lora_core.files.openfile"), import_module("pack.lora_core.adapters.numbers")
StackEntry = import_module("pack.lora_core.stack.entry").StackEntry

counts: Counter[str] = Counter()


def counting(owner: Any, name: str, what: str) -> None:
    """Count the calls of a function."""
    function = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[what] += 1
        return function(*args, **kwargs)

    setattr(owner, name, counted)


counting(openfile, "_open_regular", "files opened")
counting(keymap.KeyMap, "__init__", "key maps")
counting(keymap.KeyMap, "look_up", "names looked up")
counting(numbers, "_extremes", "tensors checked")
counting(keystack.KeyStack, "calculate_weight", "weights patched")


class Encoder(torch.nn.Module):
    """Two layers under the names that ComfyUI has for CLIP-L."""

    def __init__(self) -> None:
        super().__init__()
        layers = torch.nn.ModuleList(torch.nn.ModuleDict({"mlp": Mlp()}) for _ in range(2))
        inner: Any = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"layers": layers})})
        self.clip_l = torch.nn.ModuleDict({"transformer": torch.nn.ModuleDict({"text_model": inner})})


class Mlp(torch.nn.ModuleDict):
    def __init__(self) -> None:
        super().__init__({"fc1": torch.nn.Linear(16, 64), "fc2": torch.nn.Linear(64, 16)})


def loaded() -> tuple[Any, Any]:
    """Return the model, and a text encoder as CLIP holds it."""
    model = comfy.sd.load_checkpoint_guess_config(
        str(FOLDER / "flux.safetensors"), output_vae=False, output_clip=False
    )[0]
    clip = comfy.sd.CLIP(no_init=True)
    cpu = torch.device("cpu")
    clip.cond_stage_model = Encoder()
    clip.patcher = comfy.model_patcher.ModelPatcher(clip.cond_stage_model, cpu, cpu)
    clip.tokenizer, clip.layer_idx, clip.tokenizer_options = None, None, {}
    clip.use_clip_schedule, clip.apply_hooks_to_conds = False, None
    return model, clip


def entries(*loras: tuple[str, float, float]) -> list[Any]:
    return [StackEntry(name, *strengths, path=str(FOLDER / f"{name}.safetensors")) for name, *strengths in loras]


def did(model: Any, clip: Any, *loras: tuple[str, float, float], **options: Any) -> dict[str, Any]:
    """Apply a stack, let the host patch the weights, and return what was done."""
    counts.clear()
    result: dict[str, Any] = {}
    try:
        applied = live.apply_live(model, clip, entries(*loras), **options)
    except ValueError as error:
        return {"error": str(error), **counts}
    result.update(counts)
    result["report"] = {**applied.report.to_dict(), "seconds": 0, "peak_rss_bytes": 0}
    for name, patcher in (("model", applied.model), ("clip", applied.clip and applied.clip.patcher)):
        if patcher:
            result[name] = str(patcher.patches_uuid)
            counts.clear()
            comfy.model_management.load_models_gpu([patcher])
            result[f"{name} patched"] = counts["weights patched"]
    result["values"] = worst(model, applied)
    return result


pristine: dict[str, torch.Tensor] = {}


def worst(model: Any, applied: Any) -> float:
    """Return how far the weights that are loaded are from the stack on the pristine ones, rounded once."""
    state, most = model.model.state_dict(), 0.0
    for key, before in pristine.items():
        expected = before
        for _, patch, *_ in applied.model.patches.get(key, ()):
            semantics, stack = patch.weights
            placed = [apply.Placed(keystack.unpacked(one), *rest) for one, *rest in stack]
            expected = apply.apply_stack(before, placed, semantics).to(before.dtype)
        most = max(most, float((state[key].float() - expected.float()).abs().max()))
    return most


def runs() -> dict[str, Any]:
    model, clip = loaded()
    pristine.update({key: value.clone() for key, value in model.model.state_dict().items()})
    a, b = ("a", 1.0, 1.0), ("b", -0.5, 0.5)
    found: dict[str, Any] = {"first": did(model, clip, a)}
    found["again"] = did(model, clip, a)
    found["other strength"] = did(model, clip, ("a", 0.25, 0.5))
    found["other clip strength"] = did(model, clip, ("a", 0.25, 0.75))
    found["without clip"] = did(model, None, ("a", 0.25, 0.0))
    found["with clip again"] = did(model, clip, ("a", 0.3, 0.75))
    found["two"] = did(model, clip, a, b)
    found["reversed"] = did(model, clip, b, a)
    found["twice"] = did(model, clip, a, a)
    found["once"] = did(model, clip, a)
    found["comfyui"] = did(model, clip, a, semantics="comfyui")
    found["zero"] = did(model, clip, ("zero", 1.0, 1.0))
    found["zero again"] = did(model, clip, ("zero", 0.5, 0.5))
    found["broken"] = did(model, clip, ("broken", 1.0, 1.0))
    found["broken again"] = did(model, clip, ("broken", 0.5, 1.0))
    os.utime(FOLDER / "a.safetensors", ns=(1, 1))
    found["file changed"] = did(model, clip, a)
    found["chain"] = chain(model, clip)
    found["low memory"] = low_memory(model)
    found["cache"] = dropped()
    comfy.model_management.unload_all_models()
    state = model.model.state_dict()
    found["restored"] = all(torch.equal(state[key], value) for key, value in pristine.items())
    return found


def chain(model: Any, clip: Any) -> list[bool]:
    """Two loaders one after the other: tell which of the second one's marks stay when the first one's clip changes."""
    marks = []
    for strength in (0.5, 0.6):
        first = live.apply_live(model, clip, entries(("a", 1.0, strength)))
        second = live.apply_live(first.model, first.clip, entries(("b", 1.0, 1.0)))
        marks.append((second.model.patches_uuid, second.clip.patcher.patches_uuid))
    return [one == other for one, other in zip(*marks, strict=True)]


def low_memory(model: Any) -> bool:
    """Tell whether a patch at every use gives the stack, rounded once into the weight's own dtype."""
    patches = live.apply_live(model, None, entries(("a", 1.0, 1.0), ("b", 0.5, 1.0))).model.patches
    key = next(key for key in patches if pristine[key].dim() == 2)
    weight = pristine[key].half()
    semantics, stack = patches[key][0][1].weights
    placed = [apply.Placed(keystack.unpacked(one), *rest) for one, *rest in stack]
    expected = apply.apply_stack(weight, placed, semantics).half()
    found = comfy.model_patcher.LowVramPatch(key, patches)(weight.clone())
    return torch.equal(found, expected) and not torch.equal(found, weight)


def dropped() -> dict[str, Any]:
    """What stays in memory when there is hardly room."""
    cache.LEAST, cache.memory_bytes = 1, lambda: 0
    paths = [FOLDER / f"{name}.safetensors" for name in ("a", "b")]
    both = [one.key for one in cache.loaded_loras(paths, "paper")]
    kept = list(cache._files) == both
    (one,) = cache.loaded_loras(paths[:1], "paper")
    return {"in use stay": kept, "others go": list(cache._files) == [one.key], "bytes": one.nbytes}


sys.stdout.write("\n" + json.dumps(runs()))
