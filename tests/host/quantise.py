"""Run by ComfyUI's Python: quantises weights with ComfyUI's own classes, and says what they stand for.

Usage: quantise.py COMFYUI OUT.safetensors. Beside a layer's tensors lie `<layer>.expected` (fp32, dequantised by
ComfyUI from fp32) and `<layer>.weight_before`.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])
sys.argv, (comfyui, out) = sys.argv[:1], sys.argv[1:]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
import torch  # noqa: E402
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

CASES = {
    "fp8": ("float8_e4m3fn", (48, 80), {"scale": "recalculate"}, {}),
    "fp8_e5m2": ("float8_e5m2", (48, 80), {"scale": "recalculate"}, {}),
    "fp8_random": ("float8_e4m3fn", (48, 80), {"scale": "recalculate", "stochastic_rounding": 7}, {}),
    "nvfp4": ("nvfp4", (272, 160), {}, {}),
    "nvfp4_small": ("nvfp4", (16, 32), {}, {}),
    "mxfp8": ("mxfp8", (160, 224), {}, {}),
    "int8": ("int8_tensorwise", (48, 80), {}, {}),
    "int8_rows": ("int8_tensorwise", (48, 80), {"per_channel": True}, {}),
    "int8_rotated": (
        "int8_tensorwise",
        (48, 128),
        {"per_channel": True, "convrot": True, "convrot_groupsize": 64},
        {"convrot": True, "convrot_groupsize": 64},
    ),
}

tensors = {}
for number, (layer, (name, shape, options, config)) in enumerate(CASES.items()):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(number)) * 0.02
    weight[1] = 0
    quantised = QuantizedTensor.from_float(weight, QUANT_ALGOS[name]["comfy_tensor_layout"], **options)
    tensors |= {key: value.clone() for key, value in quantised.state_dict(f"{layer}.weight").items()}
    text = json.dumps({"format": name, **config}).encode()
    tensors[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    tensors[f"{layer}.expected"] = quantised.dequantize().clone()
    tensors[f"{layer}.weight_before"] = weight
save_file(tensors, out)
