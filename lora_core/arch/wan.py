"""Wan 2.1 and 2.2 video models, with VACE's and Animate's additions: split attention in both naming styles."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import BLOCKS

_ATTENTION = (("self_attn", "attn1"), ("cross_attn", "attn2"))
_PARTS = (
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("o", "to_out.0"),
    ("norm_q", "norm_q"),
    ("norm_k", "norm_k"),
    ("k_img", "add_k_proj"),
    ("v_img", "add_v_proj"),
    ("norm_k_img", "norm_added_k"),
)


def _block(block: str, image: bool) -> tuple[Rename, ...]:
    cross = f"{block}.cross_attn."
    rows = (
        *(
            Rename(f"{block}.{here}.{part}", f"{block}.{there}.{other}")
            for here, there in _ATTENTION
            for part, other in _PARTS
            if not part.endswith("_img") or (image and here == "cross_attn")  # only cross attention sees the image
        ),
        Rename(f"{block}.norm3", f"{block}.norm2"),
        Rename(f"{block}.ffn.0", f"{block}.ffn.net.0.proj"),
        Rename(f"{block}.ffn.2", f"{block}.ffn.net.2"),
        Rename(f"{block}.modulation", f"{block}.scale_shift_table"),
        # diffusers after fuse_qkv_projections
        Rename(tuple(f"{block}.self_attn.{part}" for part in "qkv"), f"{block}.attn1.to_qkv"),
        Rename((f"{cross}k", f"{cross}v"), f"{block}.attn2.to_kv"),
    )
    return (*rows, Rename((f"{cross}k_img", f"{cross}v_img"), f"{block}.attn2.to_added_kv")) if image else rows


_ANIMATE2 = (  # diffusers keeps the makers' names of Animate 2 but for these
    *(
        Rename(f"blocks.{{i}}.{attention}.{part}", f"blocks.{{i}}.{attention}.{other}", read_only=True)
        for attention, _ in _ATTENTION
        for part, other in _PARTS
        if part != other and (attention == "cross_attn" or not part.endswith("_img"))
    ),
)

# WanDancer's music encoder; ComfyUI splits it
_MUSIC = "music_encoder.{i}.self_attn."
_WANDANCER = (Rename(f"{_MUSIC}in_proj", tuple(f"{_MUSIC}{part}_proj" for part in "qkv")),)

_FUSER, _ADAPTER = "face_adapter.fuser_blocks.{i}.", "face_adapter.{i}."
_MOTION = "motion_encoder.enc.net_app.convs"

_ANIMATE = (
    Rename(f"{_FUSER}linear1_kv", (f"{_ADAPTER}to_k", f"{_ADAPTER}to_v")),
    Rename(f"{_FUSER}linear1_q", f"{_ADAPTER}to_q"),
    Rename(f"{_FUSER}linear2", f"{_ADAPTER}to_out"),
    Rename(f"{_FUSER}q_norm", f"{_ADAPTER}norm_q"),
    Rename(f"{_FUSER}k_norm", f"{_ADAPTER}norm_k"),
    *(Rename(f"face_encoder.{name}.conv", f"face_encoder.{name}") for name in ("conv1_local", "conv2", "conv3")),
    Rename("motion_encoder.dec.direction", "motion_encoder.motion_synthesis_weight"),
    Rename("motion_encoder.enc.fc.{i}", "motion_encoder.motion_network.{i}"),
    Rename(f"{_MOTION}.0.0", "motion_encoder.conv_in"),
    *(
        Rename(f"{_MOTION}.{number + 1}.{here}", f"motion_encoder.res_blocks.{number}.{there}")
        for number in range(7)
        for here, there in (("conv1.0", "conv1"), ("conv2.1", "conv2"), ("skip.1", "conv_skip"))
    ),
    Rename(f"{_MOTION}.8", "motion_encoder.conv_out"),
)

RENAMES = (
    *_block("blocks.{i}", image=True),
    *_block("vace_blocks.{i}", image=False),
    Rename("vace_blocks.{i}.before_proj", "vace_blocks.{i}.proj_in"),
    Rename("vace_blocks.{i}.after_proj", "vace_blocks.{i}.proj_out"),
    Rename("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    Rename("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    Rename("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    Rename("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    Rename("time_projection.1", "condition_embedder.time_proj"),
    Rename("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    Rename("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    Rename("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    Rename("img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
    Rename("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
    Rename("head.modulation", "scale_shift_table"),
    Rename("head.modulation", "norm_out.scale_shift_table", read_only=True),  # Helios
    Rename("head.head", "proj_out"),
    *_ANIMATE,
    *_ANIMATE2,
    *_WANDANCER,
)


def _width(width: int) -> dict[str, tuple[int | None, ...]]:
    return {"head.modulation": (None, None, width)}


_SEES = ("img_emb.proj.0.bias",)
_VACE = ("vace_patch_embedding.weight",)

WAN21 = Arch(
    id="wan21",
    title="Wan",
    signatures=(
        Signature(has=("head.modulation", "head.head.weight", "blocks.0.self_attn.q.weight", "patch_embedding.weight")),
    ),
    others=(
        Signature(
            has=("blocks.0.attn1.to_q.weight", "condition_embedder.time_proj.weight", "patch_embedding.weight"),
        ),
        Signature(  # Animate 2 in diffusers
            has=(
                "blocks.0.self_attn.to_q.weight",
                "blocks.0.ffn.0.weight",
                "head.modulation",
                "patch_embedding.weight",
            ),
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**BLOCKS, "vace": "vace_blocks", "face": "face_adapter.fuser_blocks"},
    renames=RENAMES,
    editions=(
        Edition("wan21_vace_14b", "Wan 2.1 VACE 14B", Signature(has=_VACE, shapes=_width(5120))),
        Edition("wan21_vace_1.3b", "Wan 2.1 VACE 1.3B", Signature(has=_VACE)),
        Edition("wan22_animate_14b", "Wan 2.2 Animate", Signature(has=("face_adapter.fuser_blocks.0.k_norm.weight",))),
        *(
            Edition(name, title, Signature(has=(key,)))
            for name, title, key in (
                ("wan22_s2v_14b", "Wan 2.2 S2V", "audio_injector.injector.0.q.weight"),
                ("wan22_wandancer_14b", "WanDancer", "music_injector.injector.0.q.weight"),
                ("wan21_humo_17b", "HuMo 17B", "audio_proj.audio_proj_glob_1.layer.weight"),
                ("wan21_scail2_14b", "SCAIL 2", "patch_embedding_mask.weight"),
                ("wan21_scail_14b", "SCAIL", "patch_embedding_pose.weight"),
                ("wan21_flf2v_14b", "Wan 2.1 FLF2V", "img_emb.emb_pos"),
                ("helios_14b", "Helios", "patch_short.weight"),
                ("anyflow_14b", "AnyFlow", "condition_embedder.delta_embedder.linear_1.weight"),
            )
        ),
        *(
            Edition(
                f"{version}_fun_{kind}_{size}", f"{title} Fun {kind.title()}", Signature(has=(key, *more), lacks=less)
            )
            for kind, key in (("control", "ref_conv.weight"), ("camera", "control_adapter.conv.weight"))
            for version, title, size, more, less in (
                ("wan21", "Wan 2.1", "14b", _SEES, ()),
                ("wan22", "Wan 2.2", "a14b", (), _SEES),
            )
        ),
        # ChronoEdit and Wan 2.2 Animate 2 have the same keys; Animate 2's file says in its header what it is
        Edition("wan22_animate2_14b", "Wan 2.2 Animate 2", Signature(has=_SEES, settings={"model_type": "animate2"})),
        Edition("wan21_i2v_14b", "Wan 2.1 I2V", Signature(has=_SEES)),
        Edition("wan22_i2v_a14b", "Wan 2.2 I2V", Signature(shapes={"patch_embedding.weight": (5120, 36)})),
        Edition("wan22_ti2v_5b", "Wan 2.2 TI2V 5B", Signature(shapes=_width(3072))),
        Edition("wan21_t2v_14b", "Wan 2.1 T2V 14B", Signature(shapes=_width(5120))),
        Edition("wan21_t2v_1.3b", "Wan 2.1 T2V 1.3B", Signature(shapes=_width(1536))),
    ),
    text_encoders={"umt5xxl": ("te", "te1")},
    host_splits=("music_encoder.",),
)
