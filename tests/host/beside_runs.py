"""Run by ComfyUI's Python in ComfyUI's folder: stacks beside the weights, sampled by ComfyUI, and what became of them.

`beside_runs.py REPO FOLDER`: the folder holds a model and LoRAs of each family. Prints JSON: by family what was asked.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
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
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)])
assert spec is not None
sys.modules["pack"] = importlib.util.module_from_spec(spec)
patches, keystack = import_module("pack.nodes.live.patches"), import_module("pack.nodes.live.keystack")
beside = import_module("pack.nodes.live.beside")
StackEntry = import_module("pack.lora_core.stack.entry").StackEntry

WIDTHS = {"flux": 768, "sd15": 768, "sd3": 4096, "wan21": 4096}
patched = 0
calculate = keystack.KeyStack.calculate_weight


def counted(*args: Any, **kwargs: Any) -> Any:
    global patched
    patched += 1
    return calculate(*args, **kwargs)


keystack.KeyStack.calculate_weight = counted


def condition(family: str, seed: int = 7) -> Any:
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, 16, WIDTHS[family], generator=generator)
    pooled = torch.randn(1, 2048 if family == "sd3" else 768, generator=generator)
    return [[text, {"pooled_output": pooled, "guidance": 3.5}]]


def image(family: str, model: Any, steps: int = 2, **more: Any) -> torch.Tensor:
    channels = {"sd15": 4}.get(family, 16)
    shape = (1, channels, 1, 8, 8) if family == "wan21" else (1, channels, 8, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    text = condition(family)
    with torch.inference_mode():
        return comfy.sample.sample(
            model, noise, steps, 1.0, "euler", "simple", text, text, torch.zeros(shape), seed=3, disable_pbar=True, **more
        )


def loaded(family: str) -> Any:
    return comfy.sd.load_diffusion_model(str(FOLDER / f"{family}.safetensors"))


def entries(family: str, *loras: tuple[str, float]) -> list[Any]:
    path = FOLDER / family
    return [StackEntry(name, one, one, path=str(path / f"{name}.safetensors")) for name, one in loras]


def on(family: str, model: Any, *loras: tuple[str, float], apply: str = "live") -> Any:
    return patches.apply_live(model, None, entries(family, *loras), apply=apply)


def far(found: torch.Tensor, wanted: torch.Tensor, without: torch.Tensor) -> list[float]:
    """Return how far an image is from the wanted one, over how far that is from the one without LoRAs, and the latter."""
    effect = float((wanted - without).norm())
    return [float((found - wanted).norm()) / effect, effect / float(without.norm())]


def family_runs(family: str) -> dict[str, Any]:
    model = loaded(family)
    pristine = {key: value.clone() for key, value in model.model.state_dict().items()}
    without = image(family, model)
    found: dict[str, Any] = {}
    for name in sorted(path.stem for path in (FOLDER / family).iterdir()):
        live = on(family, model, (name, 0.8))
        wanted = image(family, on(family, model, (name, 0.8), apply="patch").model)
        found[name] = [*far(image(family, live.model), wanted, without), live.report.notes]
    comfy.model_management.unload_all_models()
    state = model.model.state_dict()
    found["restored"] = all(torch.equal(state[key], value) for key, value in pristine.items())
    return found


if __name__ == "__main__":
    print("\n" + json.dumps({family: family_runs(family) for family in WIDTHS if (FOLDER / family).is_dir()}))
