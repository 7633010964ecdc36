"""What else people keep in the folder of LoRAs, told by its names, and what to do with it.

A further kind is one more row. Rows count in their order; `beside` is for files that may hold adapters' names too, and
is looked for in all names at once, because every LoRA is asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn

from ..adapters.spelling import Part
from ..arch.base import Shapes
from ..errors import NotALoraError
from ..files.tensors import Tensors
from .loraconfig import LoraConfigs
from .pefttypes import peft_types

_CONTROL = "put it into the controlnet folder and load it with Load ControlNet Model"
_FIND = "use the LoRA that it was made from"


@dataclass(frozen=True, slots=True)
class OtherKind:
    """One kind of file: the whole names of its tensors."""

    what: str  # goes on behind "is "
    advice: str
    names: re.Pattern[str]
    share: float = 0.0  # of the tensors that have such a name at least; 0 means any of them
    beside: tuple[str, ...] = ()  # texts of which such a name has one, \n being its start or end; () if no LoRA has any
    word: str = ""  # that stands somewhere in the name too

    def fits(self, tensors: Collection[str]) -> bool:
        found = sum(self.word in tensor and self.names.fullmatch(tensor) is not None for tensor in tensors)
        return found > 0 and found >= self.share * len(tensors)


def _row(
    what: str, advice: str, names: str, share: float = 0.0, *, beside: tuple[str, ...] = (), word: str = ""
) -> OtherKind:
    return OtherKind(what, advice, re.compile(names, re.DOTALL), share, beside, word)


ROWS: tuple[OtherKind, ...] = (
    _row("packed for Nunchaku (SVDQuant), whose factors lie in tiles for its kernels",
         f"{_FIND}, or load it with Nunchaku's own LoRA loader",
         r".+\.(?:qweight|wscales|wzeros|wcscales|wtscale|smooth(?:_factor)?(?:_orig)?)",
         beside=(".qweight\n", ".wscales\n", ".wzeros\n", ".wcscales\n", ".wtscale\n", ".smooth")),
    _row("packed for Nunchaku (SVDQuant), whose factors lie in tiles for its kernels",
         f"{_FIND}, or load it with Nunchaku's own LoRA loader",
         r".+\.(?:lora|proj)_(?:down|up)", 0.5,
         beside=(".lora_down\n", ".lora_up\n", ".proj_down\n", ".proj_up\n")),
    _row("ControlNet-LLLite, not a LoRA",
         "put it into the controlnet folder and load it with the loader of a ControlNet-LLLite node pack",
         r"lllite_.+", beside=("\nlllite_",)),
    _row("a control-LoRA of Stability AI: a ControlNet made of low-rank changes", _CONTROL,
         r"(?:.+\.)?lora_controlnet", beside=("lora_controlnet\n",)),
    _row("a motion module of AnimateDiff",
         "put it into the animatediff_models folder and load it with AnimateDiff's own node",
         r"(?:.*[._])?(?:motion_modules?|temporal_transformer)[._].+", 0.5),
    _row("an IP-Adapter", "put it into the ipadapter folder and load it with an IP-Adapter node",
         r"(?:image_proj|image_proj_model|ip_adapter|ip_adapter_proj_model|ip_adapter_image_proj)\..+"
         r"|.+[._](?:to_[kv]_ip\b|ip_adapter_).*",
         beside=("\nimage_proj", "\nip_adapter", "to_k_ip", "to_v_ip", "_ip_adapter_", ".ip_adapter_")),
    _row("a PuLID or PhotoMaker identity model", "put it into the folder of its own node pack and load it there",
         r"(?:pulid_(?:encoder|ca)|id_encoder)\..+", 0.2, beside=("\npulid_", "\nid_encoder.")),
    _row("an adapter of LoRA-XS, whose factors come from the base's own singular vectors",
         "merge it with the code that trained it, and use Extract LoRA on the result",
         r".+(?:lora_latent_mapping|\.lora_(?:R|xs))(?:\..+)?", beside=("lora_latent_mapping", ".lora_R", ".lora_xs")),
    _row("an X-LoRA, which mixes several LoRAs anew for every token",
         "merge the LoRAs that it mixes, or use it with PEFT",
         r".*(?:internal_)?xlora_(?:classifier|scalings)\..+", beside=("xlora_",)),
    _row("a Poly adapter, which mixes its factors anew for every task", "use it with PEFT on its base model",
         r".+\.poly_(?:lora_[AB]|router)(?:\..+)?", beside=(".poly_",)),
    _row("a soft prompt of PEFT, which changes the input and not the weights", "use it with PEFT on its base model",
         r"(?:base_model\.)?(?:prompt_embeddings|prompt_encoder(?:\..+)?|prefix_task_cols|prefix_task_rows)"),
    _row("an adaption prompt (LLaMA-Adapter), which changes the input of layers and not the weights",
         "use it with PEFT on its base model", r".+\.(?:adaption_prompt|adaption_gate)"),
    _row("a ControlNet, not a LoRA", _CONTROL,
         r"(?:control_model\.)?(?:input_hint_block|zero_convs|middle_block_out)\..+|control_model\..+"
         r"|(?:.+\.)?controlnet_(?:cond_embedding|down_blocks|mid_block|blocks|single_blocks|x_embedder|mode_embedder"
         r"|proj_out)(?:\..+)?|(?:.+\.)?(?:control_layers|control_noise_refiner|control_all_x_embedder|control_blocks)\..+"),
    _row("a T2I-Adapter, not a LoRA", _CONTROL,
         r"(?:adapter\.)?body\.\d+\.(?:resnets\.\d+\.)?(?:block1|block2|in_conv)\..+", 0.3),
    _row("GLIGEN, not a LoRA", "put it into the gligen folder and load it with GLIGENLoader",
         r"position_net\..+|(?:.+\.)?fuser\.(?:linear|attn|alpha_attn|alpha_dense).*"),
    _row("a style model (Redux), not a LoRA", "put it into the style_models folder and load it with Load Style Model",
         r"redux_(?:up|down)\..+"),
    _row("a hypernetwork, not a LoRA", "put it into the hypernetworks folder and load it with HypernetworkLoader",
         r"(?:320|640|768|1024|1280|2048)\.[01]\.linear\S*", 0.5),
    _row("a textual inversion embedding, not a LoRA",
         "put it into the embeddings folder and write embedding:NAME into the prompt",
         r"string_to_param\..+|emb_params|(?:clip_[lgh]|t5xxl|llama|gemma\w*|qwen\w*|mistral\w*)", 1.0),
    _row("a VAE, not a LoRA", "put it into the vae folder and load it with Load VAE",
         r"(?:(?:first_stage_model|vae)\.)?(?:(?:encoder|decoder)\.(?:conv_in|conv_out|conv1|conv2|head|down|up|mid|middle"
         r"|down_blocks|up_blocks|mid_block|downsamples|upsamples|norm_out|conv_norm_out)\W.*"
         r"|taesd_(?:encoder|decoder)\..+|(?:post_)?quant_conv\..+|vae_(?:scale|shift)|bn\..+|per_channel_statistics\..+"
         r"|(?:encoder|decoder)\.\d+\..+)", 0.9),
    _row("an upscaler, not a LoRA", "put it into the upscale_models folder and load it with Load Upscale Model",
         r"model\.1\.sub\.\d+\..+|conv_after_body\.\w+|conv_before_upsample\..+|(?:RRDB_trunk|HRconv|upconv[12]|trunk_conv"
         r"|conv_up[12]|conv_hr|conv_body)\.\w+|body\.\d+\.rdb\d\..+|layers\.\d+\.residual_group\..+|block_\d\.c[123]_r\..+"),
    _row("a CLIP vision model, not a LoRA", "put it into the clip_vision folder and load it with Load CLIP Vision",
         r"(?:vision_model|visual|visual_projection|vision_tower)\..+|visual_projection\.weight|logit_scale", 0.9),
    _row("the state of an optimizer, which a trainer leaves beside its LoRA", "choose the LoRA's own file",
         r"(?:optimizer\.)?state\.\d+\.(?:exp_avg|exp_avg_sq|step|momentum_buffer)\w*", 0.5),
)  # fmt: skip

_WORDS = frozenset((512, 768, 1024, 1280, 2048, 2304, 2560, 3584, 4096))  # widths of text encoders
_MOST_VECTORS = 256


def refuse_marked(name: str, file: Tensors, modules: Mapping[str, Collection[tuple[Part, object]]]) -> None:
    """Raise NotALoraError for a file that names itself something else, whatever other names it holds.

    `modules` are the parts of adapters that its names spell.
    """
    text = "\n".join(("", *file, ""))
    for row in ROWS:
        if any(marked in text for marked in row.beside) and row.fits(file):
            _refuse(name, f"{row.what}; {row.advice}")
    fields = [{part.field for part, _ in parts if part.kind == "lora"} for parts in modules.values()]
    factors = [found for found in fields if found]
    if factors and all(found == {"down"} for found in factors):
        _refuse(
            name,
            "a LoRA of one matrix for each module, as SingLoRA has it (its change is A times its own transpose) and "
            "full-rank training of ai-toolkit (its change is A itself): the file does not tell which, and it would be "
            "a guess; merge it with the program that trained it, and use Extract LoRA on the result",
        )


def refuse_rest(name: str, file: Tensors, configs: LoraConfigs) -> None:
    """Raise NotALoraError for a file without an adapter, if it is known what it is."""
    row = other_kind({tensor: info.shape for tensor, info in file.items()})
    if row is not None:
        _refuse(name, f"{row.what}; {row.advice}")
    if configs.beside.get("fine_tune_type") == "full":
        _refuse(name, "what MLX trained in full, weights and no LoRA; merge it with mlx_lm.fuse, and use the result")
    for peft_type in peft_types(configs):
        _refuse(
            name,
            f"a PEFT adapter of the type {peft_type}, which this version can't apply; merge it with PEFT "
            "(merge_and_unload), and use the result as the checkpoint",
        )


def other_kind(shapes: Shapes) -> OtherKind | None:
    """Return what a file of these tensors is, if it is none of adapters."""
    if _are_vectors(shapes):
        return next(row for row in ROWS if "textual inversion" in row.what)
    return next((row for row in ROWS if not row.beside and row.fits(shapes)), None)


def _are_vectors(shapes: Shapes) -> bool:
    """Tell whether a file holds a few vectors of a text encoder and nothing else, whatever they are called."""
    return (
        0 < len(shapes) <= 4
        and all(
            1 <= len(shape) <= 2 and shape[-1] in _WORDS and (len(shape) == 1 or shape[0] <= _MOST_VECTORS)
            for shape in shapes.values()
        )
        and all("." not in tensor for tensor in shapes)
    )


def _refuse(name: str, text: str) -> NoReturn:
    raise NotALoraError(f"{name}: is {text}.")
