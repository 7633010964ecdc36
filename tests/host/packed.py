"""Run by ComfyUI's Python: a loaded model whose weights other packs hold as codes, as our nodes see it.

Usage: packed.py COMFYUI PACK MODEL. Layers are made as ComfyUI-GGUF has them (a tensor class with a shape of its own,
and `get_weight`), as a pack with `dequantize`, and as a pack that gives nothing. Prints what the extraction would read.
"""

import importlib
import json
import sys
import types

sys.path.insert(0, sys.argv[1])
sys.argv, (pack, path) = sys.argv[:1], sys.argv[2:]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True
import comfy.sd  # noqa: E402
import torch  # noqa: E402

package = types.ModuleType("pack")
package.__path__ = [pack]
sys.modules["pack"] = package
LoadedModel = importlib.import_module("pack.nodes.wiredmodel").LoadedModel


class Codes(torch.Tensor):
    """Bytes with a scale for each row; its shape is that of the weight."""

    def __new__(cls, codes, *more):
        return super().__new__(cls, codes)

    def __init__(self, codes, scale, shape, kind):
        super().__init__()
        self.scale, self.tensor_shape, self.tensor_type = scale, shape, kind

    def clone(self, *_, **__):
        return self

    def detach(self, *_, **__):
        return self

    @property
    def shape(self):
        return getattr(self, "tensor_shape", self.size())


class Dequantizing(Codes):
    def dequantize(self):
        return values(self)


class Kind:
    name = "Q8_0"


def values(codes):
    plain = codes.as_subclass(torch.Tensor)
    return (plain[:, : codes.tensor_shape[1]].float() - 128) * codes.scale


def coded(weight, kind):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    codes = (weight / scale).round().add(128).to(torch.uint8)
    padded = torch.cat((codes, torch.zeros(codes.shape[0], 3, dtype=torch.uint8)), dim=1)  # blocks are wider
    return kind(padded, scale, weight.shape, Kind())


model = comfy.sd.load_diffusion_model(path)
block = model.model.diffusion_model.blocks[0]
expected = {}
for name, kind in (("q", Codes), ("k", Dequantizing), ("v", Codes)):
    layer = getattr(block.self_attn, name)
    codes = coded(layer.weight.detach().float(), kind)
    expected[name] = values(codes)
    layer.weight = torch.nn.Parameter(codes, requires_grad=False)
    if name == "q":
        layer.get_weight = lambda weight, dtype: values(weight).to(dtype)
patched = model.clone()
key = "diffusion_model.blocks.0.self_attn.{}.weight"
change = torch.ones(expected["q"].shape) * 0.01
patched.add_patches({key.format("q"): ("diff", (change,))}, 0.5)
before, after = LoadedModel(model, "model_base"), LoadedModel(patched, "model_tuned")
result = {"codings": before.codings, "titles": [before.title, after.title]}
for name in "qkv":
    info = before.info(key.format(name))
    result[name] = {"dtype": info.dtype, "shape": list(info.shape)}
    if info.dtype == "F32":
        found = before.tensor(key.format(name))
        again = after.tensor(key.format(name))
        result[name] |= {
            "same": torch.equal(found, expected[name]),
            "change": float((again - found).mean()),
            "plain": type(found) is torch.Tensor,
        }
extract = importlib.import_module("pack.lora_core").extract
report = extract(before, after, sys.argv[0] + ".unused", estimate_only=True, rank=4)
result["report"] = {"notes": report.notes, "warnings": report.warnings}
sys.stdout.write(json.dumps(result))
