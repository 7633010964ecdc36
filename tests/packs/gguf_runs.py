"""Run by ComfyUI's Python in ComfyUI's folder: a stack beside weights that ComfyUI-GGUF holds, sampled by ComfyUI.

`gguf_runs.py REPO FOLDER PACK`: FOLDER as beside_runs.py has it. Prints JSON: by format, the errors over the effect.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

PACK = Path(sys.argv.pop(3))
sys.path.insert(0, str(Path(sys.argv[1]) / "tests/host"))
import beside_runs as beside  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import gguf  # noqa: E402
import torch  # noqa: E402

spec = importlib.util.spec_from_file_location("gguf_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
assert spec is not None and spec.loader is not None
sys.modules["gguf_pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
loader, nodes, ops = (import_module(f"gguf_pack.{name}") for name in ("loader", "nodes", "ops"))
models = import_module("pack.nodes.hostmodels")
LORAS = [("dora", 0.5), ("lora", 0.8), ("lokr", 0.4)]


def written(kind: str) -> Path:
    """Write the tiny Flux with the matrices of its blocks in one of llama.cpp's formats."""
    path = beside.FOLDER / f"{kind}.gguf"
    writer = gguf.GGUFWriter(str(path), "flux")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, weight in comfy.utils.load_torch_file(str(beside.FOLDER / "flux.safetensors")).items():
        if not weight.dim():
            continue
        is_coded = weight.dim() == 2 and "blocks" in key and min(weight.shape) >= 64
        form = getattr(gguf.GGMLQuantizationType, kind if is_coded else "F32")
        writer.add_tensor(key, gguf.quants.quantize(weight.float().numpy(), form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def loaded(path: Path) -> Any:
    """Return the model as the pack's own loader does."""
    made = ops.GGMLOps()
    state = loader.gguf_sd_loader(str(path))
    state = state[0] if isinstance(state, tuple) else state  # newer versions give more
    return nodes.GGUFModelPatcher.clone(
        comfy.sd.load_diffusion_model_state_dict(state, model_options={"custom_operations": made})
    )


def as_values(model: Any) -> Any:
    values = {}
    for key, weight in models.loaded_weights(model).items():
        if key.startswith("diffusion_model."):
            found = models.unpacked_weight(model, key, weight)
            values[key.removeprefix("diffusion_model.")] = (weight if found is None else found).float().clone()
    return comfy.sd.load_diffusion_model_state_dict(values, model_options={"dtype": torch.float32})


def runs(kind: str) -> dict[str, Any]:
    model = loaded(written(kind))
    values = as_values(model)
    plain = beside.image("flux", values)
    effect = beside.image("flux", beside.on("flux", values, *LORAS, apply="patch").model) - plain
    without = beside.image("flux", model)
    live = beside.on("flux", model, *LORAS, apply="auto")

    def far(patcher: Any) -> float:
        return float((beside.image("flux", patcher) - without - effect).norm() / effect.norm())

    return {"live": far(live.model), "a clone": far(live.model.clone()), "notes": live.report.notes}


if __name__ == "__main__":
    with torch.inference_mode():
        sys.stdout.write("\n" + json.dumps({kind: runs(kind) for kind in ("Q8_0", "Q5_1", "Q4_0")}))
