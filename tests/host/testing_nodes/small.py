"""Nodes for tests only: small models of any family, latents of any shape, and latents as files."""

import contextlib
import importlib.util
import json
from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_detection
import comfy.model_patcher
import comfy.nested_tensor
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from safetensors.torch import save_file

spec = importlib.util.spec_from_file_location("invented", Path(__file__).resolve().parents[2] / "invented.py")
invented = importlib.util.module_from_spec(spec)
spec.loader.exec_module(invented)

real_config = comfy.model_detection.model_config_from_unet


@contextlib.contextmanager
def sizes_from_the_header():
    """Let a file's header say the sizes that the host's classes have as constants, as it may for MiniMax-H3 and LTX."""

    def config_of(state, prefix, *arguments, metadata=None, **options):
        config = real_config(state, prefix, *arguments, metadata=metadata, **options)
        if config is not None and metadata and "config" in metadata:
            config.unet_config.update(json.loads(metadata["config"])["transformer"])
        return config

    comfy.model_detection.model_config_from_unet = config_of
    try:
        yield
    finally:
        comfy.model_detection.model_config_from_unet = real_config


class LoadSmall:
    """Loads a diffusion model as the host does, of the sizes in its header."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"file": ("STRING", {})}}

    def load(self, file: str):
        path = folder_paths.get_full_path_or_raise("diffusion_models", file)
        state, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
        with sizes_from_the_header():
            return (comfy.sd.load_diffusion_model_state_dict(state, metadata=metadata),)


class InventedConfig(comfy.supported_models_base.BASE):
    """What ComfyUI has to know of a model to sample it; nothing of its layers."""

    unet_config = {}  # noqa: RUF012 - as the host has it
    latent_format = comfy.latent_formats.SD15


class LoadInvented:
    """Loads the model that nobody has described into the host's own base class and patcher."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"file": ("STRING", {})}}

    def load(self, file: str):
        state = comfy.utils.load_torch_file(folder_paths.get_full_path_or_raise("diffusion_models", file))
        config = InventedConfig({})
        config.set_inference_dtype(torch.float32, None)
        kind, cpu = comfy.model_base.ModelType.FLOW, torch.device("cpu")
        model = comfy.model_base.BaseModel(config, kind, device=cpu, unet_model=invented.Lagoon)
        model.load_model_weights(state, "net.")
        return (comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu),)


class EmptyLatent:
    """Zeros in a latent's shape; of several shapes the streams of a model of video and sound."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "make"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"shapes": ("STRING", {})}}

    def make(self, shapes: str):
        streams = [torch.zeros(shape) for shape in json.loads(shapes)]
        return ({"samples": streams[0] if len(streams) == 1 else comfy.nested_tensor.NestedTensor(streams)},)


class SaveLatents:
    """Writes latents to a file of that name below the output folder."""

    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"latent": ("LATENT", {}), "file": ("STRING", {})}}

    def save(self, latent, file: str):
        samples = latent["samples"]
        streams = samples.unbind() if getattr(samples, "is_nested", False) else [samples]
        path = Path(folder_paths.get_output_directory(), "latents", f"{file}.safetensors")
        path.parent.mkdir(exist_ok=True)
        save_file({str(n): stream.float().contiguous() for n, stream in enumerate(streams)}, path)
        return {"ui": {"text": [f"latents/{path.name}"]}}


SMALL_NODES = {
    "LoraCoreTestLoadSmall": LoadSmall,
    "LoraCoreTestLoadInvented": LoadInvented,
    "LoraCoreTestEmptyLatent": EmptyLatent,
    "LoraCoreTestSaveLatents": SaveLatents,
}
