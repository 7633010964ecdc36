"""Run by ComfyUI's Python: loads diffusion models, and prints each linear layer's format and a check sum of its values.

Usage: load.py COMFYUI MODEL...
"""

import json
import sys

sys.path.insert(0, sys.argv[1])
sys.argv, paths = sys.argv[:1], sys.argv[2:]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True
import comfy.sd  # noqa: E402
from comfy.quant_ops import QuantizedTensor  # noqa: E402

result = []
for path in paths:
    layers = {}
    for name, module in comfy.sd.load_diffusion_model(path).model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.dim() == 2:
            values = weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
            layers[name] = (getattr(module, "quant_format", None), float(values.float().norm()))
    result.append(layers)
sys.stdout.write(json.dumps(result))
