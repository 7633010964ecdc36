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
asked = sys.argv[3:]  # of the functions below; all if none is named
sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads it on import
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor  # noqa: E402

torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)])
assert spec is not None
sys.modules["pack"] = importlib.util.module_from_spec(spec)
patches, keystack = import_module("pack.nodes.live.patches"), import_module("pack.nodes.live.keystack")
beside, hanging = import_module("pack.nodes.live.beside"), import_module("pack.nodes.live.hanging")
StackEntry = import_module("pack.lora_core.stack.entry").StackEntry

WIDTHS = {"flux": 768, "sd15": 768, "sd3": 4096, "wan21": 4096}
calculate = keystack.KeyStack.calculate_weight
patched: list[str] = []  # weights, each time


def noted(self: Any, weight: Any, key: str, *args: Any, **kwargs: Any) -> Any:
    patched.append(key)
    return calculate(self, weight, key, *args, **kwargs)


keystack.KeyStack.calculate_weight = noted


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
    """Return how far an image is from the wanted one over the effect of the LoRAs, and the effect over the image."""
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


# Quantised weights, made by ComfyUI's own classes

FORMATS: dict[str, dict[str, Any]] = {
    "float8_e4m3fn": {"scale": "recalculate"},
    "float8_e5m2": {"scale": "recalculate"},
    "int8_tensorwise": {},
    "nvfp4": {},
    "mxfp8": {},
}
PLAIN_FP8 = ("plain fp8_e4m3fn", torch.float8_e4m3fn), ("plain fp8_e5m2", torch.float8_e5m2)


def quantised(family: str, name: str) -> Any:
    """Return the model with the two-dimensional weights of its blocks as codes."""
    tensors = comfy.utils.load_torch_file(str(FOLDER / f"{family}.safetensors"))
    written: dict[str, torch.Tensor] = {}
    for key, weight in tensors.items():
        if weight.dim() != 2 or "blocks" not in key or min(weight.shape) < 64:
            written[key] = weight
            continue
        layout = QUANT_ALGOS[name]["comfy_tensor_layout"]
        codes = QuantizedTensor.from_float(weight.float(), layout, **FORMATS[name])
        written |= {part: value.clone() for part, value in codes.state_dict(key).items()}
        told = json.dumps({"format": name}).encode()
        written[key.removesuffix(".weight") + ".comfy_quant"] = torch.tensor(list(told), dtype=torch.uint8)
    return comfy.sd.load_diffusion_model_state_dict(written, model_options={"dtype": torch.float32})


def as_values(model: Any) -> Any:
    """Return a model whose weights are the values that another's codes stand for, in fp32."""
    state = {}
    for key, value in model.model.diffusion_model.named_parameters():
        is_coded = isinstance(value.data, QuantizedTensor) or isinstance(value, QuantizedTensor)
        state[key] = (value.dequantize() if is_coded else value.detach()).float().clone()
    return comfy.sd.load_diffusion_model_state_dict(state, model_options={"dtype": torch.float32})


def format_runs(family: str, model: Any, name: str) -> list[Any]:
    """Return the error of a stack beside and in the weights, each over its effect on the values as they are."""
    values = as_values(model)
    loras = [("dora", 0.5), ("lora", 0.8), ("lokr", 0.4)]
    effect = image(family, on(family, values, *loras, apply="patch").model) - image(family, values)
    without, found = image(family, model), []
    for apply in ("auto", "patch"):
        applied = on(family, model, *loras, apply=apply)
        change = image(family, applied.model) - without
        found += [float((change - effect).norm() / effect.norm()), applied.report.notes]
    return found


def layers(family: str, name: str) -> float:
    """Return the largest error of a layer's part of the output, over that part in fp64, on one quantised model."""
    model = quantised(family, name)
    live = on(family, model, ("lora", 0.8)).model
    stack = hanging.stack_of(live)
    worst = 0.0
    forward = beside.LayerFactors.forward

    def measured(self: Any, module: Any, inputs: Any, named: Any, y: Any) -> Any:
        nonlocal worst
        found = forward(self, module, inputs, named, y)
        down, up = self.down.double(), self.up.double() * 0.8
        wanted = inputs[0].double() @ down.t() @ up.t()
        worst = max(worst, float(((found - y).double() - wanted).norm() / wanted.norm()))
        return found

    beside.LayerFactors.forward = measured
    try:
        image(family, live)
    finally:
        beside.LayerFactors.forward = forward
    return worst if stack else 1.0


def all_formats(family: str) -> dict[str, Any]:
    found = {name: format_runs(family, quantised(family, name), name) for name in FORMATS}
    for name, dtype in PLAIN_FP8:
        path = str(FOLDER / f"{family}.safetensors")
        found[name] = format_runs(family, comfy.sd.load_diffusion_model(path, model_options={"dtype": dtype}), name)
    return found | {"int8, its layers": layers(family, "int8_tensorwise")}


# With others

A, B, DORA = ("lora", 0.8), ("loha", -0.5), ("dora", 0.7)


def builtin(family: str, model: Any, name: str, strength: float) -> Any:
    """ComfyUI's own loader."""
    return comfy.sd.load_lora_for_models(model, None, _file(family, name), strength, 0)[0]


def bypassed(family: str, model: Any, name: str, strength: float) -> Any:
    return comfy.sd.load_bypass_lora_for_models(model, None, _file(family, name), strength, 0)[0]


def _file(family: str, name: str) -> Any:
    return comfy.utils.load_torch_file(str(FOLDER / family / f"{name}.safetensors"), safe_load=True)


def ours(family: str, model: Any, *loras: tuple[str, float], apply: str) -> Any:
    return on(family, model, *loras, apply=apply).model


CHAINS: dict[str, Callable[[str, Any, str], Any]] = {
    "two of ours": lambda f, m, how: ours(f, ours(f, m, A, apply=how), B, apply=how),
    "the same twice": lambda f, m, how: ours(f, ours(f, m, A, apply=how), A, apply=how),
    "ours, patched": lambda f, m, how: ours(f, ours(f, m, A, apply=how), B, apply="patch"),
    "patched, ours": lambda f, m, how: ours(f, ours(f, m, B, apply="patch"), A, apply=how),
    "ours, DoRA of ours": lambda f, m, how: ours(f, ours(f, m, A, apply=how), DORA, apply=how),
    "ours, patched DoRA": lambda f, m, how: ours(f, ours(f, m, A, apply=how), DORA, apply="patch"),
    "DoRA of ours, ours": lambda f, m, how: ours(f, ours(f, m, DORA, apply=how), A, apply=how),
    "ours, built in": lambda f, m, how: builtin(f, ours(f, m, A, apply=how), *B),
    "built in, ours": lambda f, m, how: ours(f, builtin(f, m, *B), A, apply=how),
    "ours, built-in DoRA": lambda f, m, how: builtin(f, ours(f, m, A, apply=how), *DORA),
    "DoRA of ours, built in": lambda f, m, how: builtin(f, ours(f, m, DORA, apply=how), *A),
    "built in, DoRA of ours": lambda f, m, how: ours(f, builtin(f, m, *A), DORA, apply=how),
    "DoRA of ours, bypass": lambda f, m, how: bypassed(f, ours(f, m, DORA, apply=how), *A),
    "bypass, DoRA of ours": lambda f, m, how: ours(f, bypassed(f, m, *A), DORA, apply=how),
    "ours, bypass": lambda f, m, how: bypassed(f, ours(f, m, A, apply=how), *B),
    "bypass, ours": lambda f, m, how: ours(f, bypassed(f, m, *B), A, apply=how),
    "a clone of a clone": lambda f, m, how: ours(f, m, DORA, A, apply=how).clone().clone(),
    "merged into another": lambda f, m, how: _mixed(m, ours(f, m, A, B, apply=how)),
    "another merged into it": lambda f, m, how: _mixed(ours(f, m, DORA, A, apply=how), builtin(f, m, *B)),
}


def _mixed(first: Any, second: Any) -> Any:
    """ComfyUI's ModelMergeSimple, at 0.3."""
    found = first.clone()
    for key, patch in second.get_key_patches("diffusion_model.").items():
        found.add_patches({key: patch}, 0.7, 0.3)
    return found


def chains(family: str) -> dict[str, Any]:
    """Return for each chain the error of ours beside the weights, over the effect that it has in them."""
    model = loaded(family)
    without = image(family, model)
    found: dict[str, Any] = {}
    for name, chain in CHAINS.items():
        found[name] = far(
            image(family, chain(family, model, "live")), image(family, chain(family, model, "patch")), without
        )
    return found


def changes(family: str) -> dict[str, Any]:
    """What another strength, an error and many turns do."""
    model = loaded(family)
    pristine = {key: value.clone() for key, value in model.model.state_dict().items()}
    without, before = image(family, model), len(patched)
    on(family, model, ("lora", 0.5))
    branch_of, hanging.branch_of = hanging.branch_of, None  # nothing is made anew
    for strength in (0.2, 0.9, -0.4, 0.9):
        live = image(family, on(family, model, ("lora", strength)).model)
    hanging.branch_of = branch_of
    found: dict[str, Any] = {"weights patched": len(patched) - before}
    found["other strengths"] = far(live, image(family, on(family, model, ("lora", 0.9), apply="patch").model), without)
    found["zero is nothing"] = torch.equal(image(family, on(family, model, ("lora", 0.0)).model), without)
    found["an error"] = _failed(family, on(family, model, A).model)
    turns = [image(family, on(family, model, A).model) for _ in range(3) if torch.equal(image(family, model), without)]
    found["turns"] = len(turns) == 3 and all(torch.equal(turns[0], one) for one in turns)
    hooks = sum(len(module._forward_hooks) for module in model.model.modules())
    comfy.model_management.unload_all_models()
    state = model.model.state_dict()
    found["restored"] = not hooks and all(torch.equal(state[key], value) for key, value in pristine.items())
    return found


def _failed(family: str, model: Any) -> str:
    def fail(*_: Any) -> None:
        raise InterruptedError("stopped")

    try:
        image(family, model, callback=fail)
    except InterruptedError as error:
        return str(error)
    return "no error"


WAYS = ("live", "patch")


def other_strengths_before(family: str) -> list[float]:
    """A Load LoRA before one whose DoRA has its weights patched, again with another strength: the last error."""
    model = loaded(family)
    without, found = image(family, model), [1.0]
    for strength in (0.3, 1.2):
        of = [ours(family, ours(family, model, ("lora", strength), apply=how), DORA, apply=how) for how in WAYS]
        live, wanted = (image(family, one) for one in of)
        found = far(live, wanted, without)
    return found


def cached(family: str) -> list[float]:
    """ComfyUI's EasyCache, which leaves whole calls of the model out."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    model = loaded(family)
    of = [EasyCacheNode.execute(ours(family, model, A, apply=how), 0.5, 0.0, 1.0, False).result[0] for how in WAYS]
    live, wanted = (image(family, one, steps=6) for one in of)
    return [*far(live, wanted, image(family, model, steps=6)), len(hanging.stack_of(of[0]).factors.unread)]


def guided_by_two(family: str) -> list[float]:
    """A guider with a second model, which has no stack."""
    from comfy_extras.nodes_custom_sampler import Guider_DualModel

    first, second = loaded(family), loaded(family)

    def sampled(model: Any) -> torch.Tensor:
        guider = Guider_DualModel(model, second)
        guider.set_conds(condition(family), condition(family, 8))
        guider.set_cfg(3.0)
        noise = torch.randn((1, 16, 8, 8), generator=torch.Generator().manual_seed(3))
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
        euler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=3)

    live, wanted = (sampled(ours(family, first, A, apply=how)) for how in WAYS)
    return far(live, wanted, sampled(first))


def saved(family: str) -> dict[str, float]:
    """Return how far what ComfyUI saves of a model with a stack is from the weights with it, and from those without."""
    model = loaded(family)
    base = {key: value.clone() for key, value in model.model.diffusion_model.state_dict().items()}
    kept = []
    for apply in ("live", "patch"):
        path = FOLDER / f"saved-{apply}.safetensors"
        comfy.sd.save_checkpoint(str(path), on(family, model, DORA, A, apply=apply).model)
        kept.append(comfy.utils.load_torch_file(str(path)))
    live, wanted = kept
    keys = {key: key.removeprefix("model.diffusion_model.") for key in wanted}
    return {
        "far": max(float((live[key].float() - wanted[key].float()).abs().max()) for key in wanted),
        "change": max(float((wanted[key].float() - base[short].float()).abs().max()) for key, short in keys.items()),
    }


def read(family: str) -> dict[str, Any]:
    """What Extract LoRA reads of a wired model with a stack."""
    live, patch = (on(family, loaded(family), DORA, A, apply=apply).model for apply in ("live", "patch"))
    first, second = (import_module("pack.nodes.wiredmodel").LoadedModel(model, "m") for model in (live, patch))
    same = all(torch.equal(first.tensor(key), second.tensor(key)) for key in second.shapes)
    return {"wired": same}


def trained_through(family: str) -> bool:
    """Tell whether a gradient reaches the input of a layer with a stack beside it, as a node that trains needs."""
    stack = hanging.stack_of(on(family, loaded(family), DORA, A).model)
    key, factors = next(iter(stack.factors.by_key.items()))
    with torch.inference_mode(False), torch.enable_grad():
        module = torch.nn.Linear(factors.down.shape[1], factors.up.shape[0])
        x = torch.randn(2, factors.down.shape[1], requires_grad=True)
        factors(module, (x,), {}, module(x)).sum().backward()
        return x.grad is not None and key.endswith(".weight")


def skipped(family: str) -> list[float]:
    """A layer whose forward is called by nobody who looks at hooks, as kernels that fuse layers do."""
    model = loaded(family)
    without = image(family, model)
    wanted = image(family, on(family, model, A, apply="patch").model)
    live = on(family, model, A).model
    module = next(one for name, one in model.model.named_modules() if name.endswith("blocks.0.img_attn.qkv"))
    usual = type(module)
    module.__class__ = type("Skipped", (usual,), {"__call__": lambda self, *args: self.forward(*args)})
    try:
        return [*far(image(family, live), wanted, without), len(hanging.stack_of(live).factors.unread)]
    finally:
        module.__class__ = usual


def compiled(family: str) -> dict[str, Any]:
    """How many graphs torch.compile makes for several strengths and a swapped LoRA of the same rank."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from torch._dynamo.utils import counters

    model = loaded(family)
    without = image(family, model)
    set_torch_compile_wrapper(model, backend="eager")
    found: dict[str, Any] = {}
    for name, stack in (("first", ("lora", 0.8)), ("strength", ("lora", 0.3)), ("swapped", ("tucker", 0.5))):
        image_of = image(family, on(family, model, stack).model)
        graphs = counters["stats"]["unique_graphs"]
        wanted = image(family, on(family, loaded(family), stack, apply="patch").model)
        found[name] = [*far(image_of, wanted, without), graphs]
    found["without"] = float((image(family, model) - without).norm() / without.norm())
    return found


def main() -> dict[str, Any]:
    if asked:
        return {name: globals()[name]("flux") for name in asked}
    runs: dict[str, Any] = {family: family_runs(family) for family in WIDTHS if (FOLDER / family).is_dir()}
    others = (
        all_formats,
        chains,
        changes,
        other_strengths_before,
        cached,
        guided_by_two,
        saved,
        read,
        trained_through,
        skipped,
        compiled,
    )
    return runs | {one.__name__: one("flux") for one in others}


if __name__ == "__main__":
    with torch.inference_mode():  # as nodes run
        sys.stdout.write("\n" + json.dumps(main()))
