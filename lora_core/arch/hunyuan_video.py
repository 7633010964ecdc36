"""HunyuanVideo, HunyuanVideo 1.5, HunyuanImage 2.1: ComfyUI's names, with the makers' and diffusers' beside them.

ComfyUI's names are Flux.1's and fuse query, key, value; the makers' fuse them too or, in 1.5, split them.
"""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import DOUBLE_SINGLE, STREAM_PRESETS


def _names(here: str, *there: str) -> tuple[Rename, ...]:
    return tuple(Rename(here, name) for name in there)


def _embedder(here: str, *there: str, makers: tuple[str, str] = ("mlp.0", "mlp.2")) -> tuple[Rename, ...]:
    """Return the rows of an embedder of two layers; diffusers knows it by the names `there`."""
    return tuple(
        row
        for number, (layer, maker) in enumerate(zip(("in_layer", "out_layer"), makers, strict=True), 1)
        for row in _names(f"{here}.{layer}", f"{here}.{maker}", *(f"{name}.linear_{number}" for name in there))
    )


def _attention(
    here: str, makers: str, there: str, qkv: tuple[str, str, str], fused: str, out: str
) -> tuple[Rename, ...]:
    return (
        Rename(f"{here}.qkv", f"{makers}_qkv"),
        Rename(f"{here}.qkv", f"{there}{fused}", read_only=True),  # trained on fused projections
        Rename(f"{here}.qkv", tuple(f"{there}{name}" for name in qkv)),
        *_names(f"{here}.proj", f"{makers}_proj", f"{there}{out}"),
    )


def _mlp(here: str, there: str) -> tuple[Rename, ...]:
    return (
        *_names(f"{here}.0", f"{here}.fc1", f"{there}.net.0.proj"),
        *_names(f"{here}.2", f"{here}.fc2", f"{there}.net.2"),
    )


_IMAGE = (("to_q", "to_k", "to_v"), "to_qkv", "to_out.0")
_TEXT = (("add_q_proj", "add_k_proj", "add_v_proj"), "to_added_qkv", "to_add_out")


def _double(stream: str, norm: str, names: tuple[tuple[str, str, str], str, str], norms: str, ff: str):
    here, there = "double_blocks.{i}." + stream, "transformer_blocks.{i}."
    return (
        *_names(f"{here}_mod.lin", f"{here}_mod.linear", f"{there}{norm}.linear"),
        *_attention(f"{here}_attn", f"{here}_attn", f"{there}attn.", *names),
        Rename(f"{here}_attn.qkv", tuple(f"{here}_attn_{part}" for part in "qkv")),  # the makers' 1.5
        *_names(f"{here}_attn.norm.query_norm", f"{here}_attn_q_norm", f"{there}attn.{norms}_q"),
        *_names(f"{here}_attn.norm.key_norm", f"{here}_attn_k_norm", f"{there}attn.{norms}_k"),
        *_mlp(f"{here}_mlp", f"{there}{ff}"),
    )


_SINGLE, _ATTN = "single_blocks.{i}.", "single_transformer_blocks.{i}.attn."
_TOKEN, _TOKENS = "txt_in.individual_token_refiner.blocks.{i}.", "context_embedder.token_refiner.refiner_blocks.{i}."

RENAMES = (
    *_double("img", "norm1", _IMAGE, "norm", "ff"),
    *_double("txt", "norm1_context", _TEXT, "norm_added", "ff_context"),
    Rename(
        f"{_SINGLE}linear1",
        (f"{_ATTN}to_q", f"{_ATTN}to_k", f"{_ATTN}to_v", "single_transformer_blocks.{i}.proj_mlp"),
        sizes=(1, 1, 1, 4),
    ),
    # HunyuanImage's makers split it for several GPUs
    Rename(f"{_SINGLE}linear1", (f"{_SINGLE}linear1_qkv", f"{_SINGLE}linear1_mlp"), sizes=(3, 4), read_only=True),
    Rename(f"{_SINGLE}linear1_qkv", tuple(f"{_SINGLE}linear1_{part}" for part in "qkv"), read_only=True),
    Rename(f"{_SINGLE}linear1_qkv", f"{_ATTN}to_qkv", read_only=True),
    *_names(f"{_SINGLE}linear2", f"{_SINGLE}linear2.fc", "single_transformer_blocks.{i}.proj_out"),
    *_names(f"{_SINGLE}modulation.lin", f"{_SINGLE}modulation.linear", "single_transformer_blocks.{i}.norm.linear"),
    *_names(f"{_SINGLE}norm.query_norm", f"{_SINGLE}q_norm", f"{_ATTN}norm_q"),
    *_names(f"{_SINGLE}norm.key_norm", f"{_SINGLE}k_norm", f"{_ATTN}norm_k"),
    *_attention(f"{_TOKEN}self_attn", f"{_TOKEN}self_attn", f"{_TOKENS}attn.", *_IMAGE),
    *_mlp(f"{_TOKEN}mlp", f"{_TOKENS}ff"),
    Rename(f"{_TOKEN}adaLN_modulation.1", f"{_TOKENS}norm_out.linear"),  # two gates, in the same order
    Rename(f"{_TOKEN}norm1", f"{_TOKENS}norm1"),
    Rename(f"{_TOKEN}norm2", f"{_TOKENS}norm2"),
    Rename("txt_in.input_embedder", "context_embedder.proj_in"),
    *_embedder("txt_in.t_embedder", "context_embedder.time_text_embed.timestep_embedder"),
    *_embedder("txt_in.c_embedder", "context_embedder.time_text_embed.text_embedder", makers=("linear_1", "linear_2")),
    # diffusers calls the same embedder otherwise in HunyuanVideo, HunyuanVideo 1.5 and HunyuanImage
    *_embedder(
        "time_in",
        *(f"{name}.timestep_embedder" for name in ("time_text_embed", "time_embed", "time_guidance_embed")),
    ),
    *_embedder("time_r_in", *(f"{name}.timestep_embedder_r" for name in ("time_embed", "time_guidance_embed"))),
    *_embedder("guidance_in", *(f"{name}.guidance_embedder" for name in ("time_text_embed", "time_guidance_embed"))),
    Rename("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    Rename("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    Rename("byt5_in.layernorm", "context_embedder_2.norm"),
    *(Rename(f"byt5_in.fc{number}", f"context_embedder_2.linear_{number}") for number in (1, 2, 3)),
    Rename("vision_in.proj.0", "image_embedder.norm_in"),
    Rename("vision_in.proj.1", "image_embedder.linear_1"),
    Rename("vision_in.proj.3", "image_embedder.linear_2"),
    Rename("vision_in.proj.4", "image_embedder.norm_out"),
    Rename("cond_type_embedding", "cond_type_embed"),
    Rename("img_in.proj", "x_embedder.proj"),
    Rename("final_layer.adaLN_modulation.1", "norm_out.linear", order=(1, 0)),
    Rename("final_layer.linear", "proj_out"),
)


_REFINER = "txt_in.individual_token_refiner.blocks.0.norm1.weight"
_VECTOR, _KIND = "vector_in.in_layer.weight", "cond_type_embedding.weight"


def _own(qkv: str, *keys: str, lacks: tuple[str, ...] = ()) -> Signature:
    return Signature(has=(_REFINER, f"double_blocks.0.img_{qkv}.weight", *keys), lacks=lacks)


def _makers(*keys: str, lacks: tuple[str, ...] = ()) -> tuple[Signature, ...]:
    return (_own("attn_qkv", *keys, lacks=lacks), _own("attn_q", *keys, lacks=lacks))


def _diffusers(key: str) -> Signature:
    return Signature(has=("context_embedder.token_refiner.refiner_blocks.0.norm1.weight", key))


def _inputs(name: str, title: str, channels: int) -> Edition:
    return Edition(name, title, Signature(shapes={"img_in.proj.weight": (None, channels)}))


HUNYUAN_VIDEO = Arch(
    id="hunyuan_video",
    title="HunyuanVideo",
    signatures=(_own("attn.qkv", _VECTOR),),
    others=(*_makers(_VECTOR), _diffusers("time_text_embed.text_embedder.linear_1.weight")),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**DOUBLE_SINGLE, "refiner": "txt_in.individual_token_refiner.blocks"},
    block_presets=STREAM_PRESETS,
    renames=RENAMES,
    editions=(
        _inputs("hunyuan_video_i2v", "HunyuanVideo I2V", 33),
        _inputs("skyreels_v1_i2v", "SkyReels V1 I2V", 32),
        Edition("hunyuan_video", "HunyuanVideo", Signature()),
    ),
    text_encoders={"clip_l": ("te1", "te", "te2"), "llama": ("te1", "te")},
)

HUNYUAN_VIDEO_15 = Arch(
    id="hunyuan_video_1.5",
    title="HunyuanVideo 1.5",
    signatures=(_own("attn.qkv", _KIND),),
    others=(*_makers(_KIND), _diffusers("cond_type_embed.weight")),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"double": "double_blocks", "refiner": "txt_in.individual_token_refiner.blocks"},
    renames=RENAMES,
    editions=(_inputs("hunyuan_video_1.5_sr", "HunyuanVideo 1.5 SR", 98),),
    text_encoders={"qwen25_7b": ("te1", "te"), "byt5_small": ("te2",)},
)

HUNYUAN_IMAGE_21 = Arch(
    id="hunyuan_image_2.1",
    title="HunyuanImage 2.1",
    signatures=(_own("attn.qkv", lacks=(_VECTOR, _KIND)),),
    others=(*_makers(lacks=(_VECTOR, _KIND)), _diffusers("time_guidance_embed.timestep_embedder.linear_1.weight")),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**DOUBLE_SINGLE, "refiner": "txt_in.individual_token_refiner.blocks"},
    block_presets=STREAM_PRESETS,
    renames=RENAMES,
    editions=(_inputs("hunyuan_image_2.1_refiner", "HunyuanImage 2.1 refiner", 128),),
    text_encoders={"qwen25_7b": ("te1", "te"), "byt5_small": ("te2",)},
)

HUNYUAN_VIDEOS = (HUNYUAN_VIDEO, HUNYUAN_VIDEO_15, HUNYUAN_IMAGE_21)
