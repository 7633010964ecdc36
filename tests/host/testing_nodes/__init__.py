"""Nodes for tests only: conditioning without a text encoder, and calls into the pack as the host loaded it."""

import json
import sys
import time

import torch
from comfy.model_patcher import LowVramPatch

from . import front_end  # noqa: F401 - its routes
from .small import SMALL_NODES


class RandomConditioning:
    """Seeded noise in the shape of a text encoder's output."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "make"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        size = ("INT", {"default": 16, "min": 1, "max": 65536})
        return {
            "required": {"tokens": size, "width": size, "pooled": size, "seed": ("INT", {"default": 0, "max": 2**31})},
            "optional": {"last_id": ("INT", {"default": 0, "max": 2**31})},
        }

    def make(self, tokens: int, width: int, pooled: int, seed: int, last_id: int = 0):
        """With `last_id` there are numbers of tokens too, below it, and it is the last of them."""
        generator = torch.Generator().manual_seed(seed)
        text = torch.randn(1, tokens, width, generator=generator)
        more = {"pooled_output": torch.randn(1, pooled, generator=generator), "guidance": 3.5}
        if last_id:
            ids = torch.randint(last_id, (1, tokens), generator=generator)
            ids[0, -1] = last_id
            more["text_input_ids"] = ids
        return ([[text, more]],)


class HostCall:
    """Calls a function of the pack's nodes/host.py and returns its result, or its error, as JSON."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "call"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"function": ("STRING", {}), "arguments": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, **_):  # noqa: N802
        return float("nan")  # never from the cache

    def call(self, function: str, arguments: str):
        try:
            result = getattr(pack_host(), function)(*json.loads(arguments))
        except ValueError as error:
            return (json.dumps({"error": type(error).__name__, "message": str(error)}),)
        return (json.dumps({"result": result}, default=str),)


class Steps:
    """Reports steps through the pack's progress callback, slowly enough to be cancelled."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"steps": ("INT", {"max": 10**6}), "seconds": ("FLOAT", {"step": 0.001})}}

    @classmethod
    def IS_CHANGED(cls, **_):  # noqa: N802
        return float("nan")

    def run(self, steps: int, seconds: float):
        on_step = pack_host().progress()
        for done in range(1, steps + 1):
            time.sleep(seconds)
            on_step(done, steps)
        return ("done",)


class LowVram:
    """Applies a model's patches as low-VRAM mode does: rebuilt from prepared copies, in the weight's own dtype."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "check"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL", {})}}

    def check(self, model):
        results = {}
        for key in model.patches:
            weight = model.model.state_dict()[key]
            loaded = model.patch_weight_to_device(key, return_weight=True)
            patch = LowVramPatch(key, model.patches)
            buffer = torch.empty(patch.memory_required(), dtype=torch.uint8)
            patch.prepare(buffer, None)
            for dtype in (torch.float32, torch.bfloat16):
                used = patch(weight.to(dtype, copy=True))  # the host gives a copy, which is the patch's to change
                error = (used.float() - loaded.float()).norm() / (loaded.float() - weight.float()).norm()
                results[f"{key} {dtype}"] = [str(used.dtype), float(error)]
        return (json.dumps(results),)


def pack_host():
    return next(module for name, module in sys.modules.items() if name.endswith("comfyui-lora-core.nodes.host"))


NODE_CLASS_MAPPINGS = {
    **SMALL_NODES,
    "LoraCoreTestRandomConditioning": RandomConditioning,
    "LoraCoreTestHostCall": HostCall,
    "LoraCoreTestSteps": Steps,
    "LoraCoreTestLowVram": LowVram,
}
