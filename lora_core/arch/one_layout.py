"""Models that everybody calls by the same names, the makers' or diffusers': data alone, and rows for fused names."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Signature
from .blockgroups import BLOCKS, DOUBLE_SINGLE, STREAM_PRESETS, TRANSFORMER_BLOCKS
from .rows import fused

SENSENOVA = Arch(
    id="sensenova_u1.5",
    title="SenseNova U1.5",
    signatures=(
        Signature(
            has=("language_model.model.layers.0.self_attn.q_proj_mot_gen.weight", "fm_modules.fm_head.conv1.weight")
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "language_model.model.layers"},
)

NUCLEUS_IMAGE = Arch(
    id="nucleus_image",
    title="Nucleus-Image",
    signatures=(
        Signature(has=("transformer_blocks.0.encoder_proj.weight", "transformer_blocks.0.attn.add_k_proj.weight")),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=(fused("transformer_blocks.{i}.attn."),),
)

MOTIF_VIDEO = Arch(
    id="motif_video",
    title="Motif-Video",
    signatures=(
        Signature(
            has=("context_embedder.linear_1.weight", "x_embedder.proj.weight"),
            shapes={"single_transformer_blocks.0.proj_mlp.weight": (None, 3072)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"double": "transformer_blocks", "single": "single_transformer_blocks"},
    block_presets=STREAM_PRESETS,
    renames=(fused("transformer_blocks.{i}.attn."), fused("single_transformer_blocks.{i}.attn.")),
)

PRX = Arch(
    id="prx",
    title="PRX",
    signatures=(Signature(has=("blocks.0.attention.img_qkv_proj.weight", "blocks.0.attention.txt_kv_proj.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
)

_SANA = ("caption_norm.weight", "transformer_blocks.0.ff.conv_inverted.weight")

SANA = Arch(
    id="sana",
    title="Sana",
    signatures=(Signature(has=_SANA),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=(
        fused("transformer_blocks.{i}.attn1."),
        fused("transformer_blocks.{i}.attn2.", there="to_kv", parts="kv"),
    ),
    editions=(
        Edition("sana_video_2b", "Sana Video", Signature(has=("transformer_blocks.0.ff.conv_temp.weight",))),
        Edition("sana_1.6b", "Sana 1.6B", Signature(shapes={"caption_norm.weight": (2240,)})),
    ),
    text_encoders={"gemma2_2b": ("te", "te1")},
)

LONGCAT_AUDIO = Arch(
    id="longcat_audio_dit",
    title="LongCat-Audio",
    signatures=(Signature(has=("adaln_global_mlp.mlp.1.weight", "blocks.0.ffn.ff.0.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
    renames=(
        fused("blocks.{i}.self_attn."),
        fused("blocks.{i}.cross_attn.", there="to_kv", parts="kv"),
    ),
)

LONGCAT_VIDEO = Arch(
    id="longcat_video_13b",
    title="LongCat-Video",
    signatures=(Signature(has=("blocks.0.pre_crs_attn_norm.weight", "blocks.0.cross_attn.kv_linear.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
)

LINGBOT_VIDEO = Arch(
    id="lingbot_video",
    title="LingBot-Video",
    signatures=(Signature(has=("time_modulation.1.weight", "text_embedder.norm.weight", "blocks.0.attn.to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
    renames=(fused("blocks.{i}.attn."),),
    editions=(
        Edition("lingbot_video_30b_a3b", "LingBot-Video 30B", Signature(has=("blocks.0.ffn.router.weight",))),
        Edition("lingbot_video_1.3b", "LingBot-Video 1.3B", Signature()),
    ),
)

SEEDVR2 = Arch(
    id="seedvr2",
    title="SeedVR2",
    signatures=(Signature(has=("vid_in.proj.weight", "emb_in.proj_hid.weight", "blocks.0.attn.proj_qkv.vid.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
    editions=(
        Edition("seedvr2_3b", "SeedVR2 3B", Signature(shapes={"vid_in.proj.weight": (2560,)})),
        Edition("seedvr2_7b_shared", "SeedVR2 7B, shared", Signature(has=("blocks.0.mlp.vid.proj_in_gate.weight",))),
        Edition("seedvr2_7b", "SeedVR2 7B", Signature()),
    ),
)

HUNYUAN3D_2 = Arch(
    id="hunyuan3d_2",
    title="Hunyuan3D 2",
    signatures=(Signature(has=("latent_in.weight", "cond_in.weight", "double_blocks.0.img_attn.qkv.weight")),),
    prefixes=("model.", *DIFFUSION_PREFIXES),
    blocks=DOUBLE_SINGLE,
    block_presets=STREAM_PRESETS,
    editions=(
        Edition("hunyuan3d_2mini", "Hunyuan3D 2 mini", Signature(lacks=("double_blocks.8.img_attn.qkv.weight",))),
    ),
)

HUNYUAN3D_21 = Arch(
    id="hunyuan3d_2.1",
    title="Hunyuan3D 2.1",
    signatures=(Signature(has=("blocks.15.moe.gate.weight", "blocks.0.attn1.to_q.weight")),),
    prefixes=("model.", *DIFFUSION_PREFIXES),
    blocks=BLOCKS,
)

TRELLIS2 = Arch(
    id="trellis2",
    title="Trellis 2",
    signatures=(Signature(has=("img2shape.blocks.0.self_attn.to_qkv.weight",)),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "img2shape.blocks"},
)

TRIPOSPLAT = Arch(
    id="triposplat",
    title="TripoSplat",
    signatures=(Signature(has=("context_repo_layers.0.content_map.weight", "cond_embedder2.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"noise": "noise_refiner"},
)

ONE_LAYOUT = (
    SENSENOVA,
    NUCLEUS_IMAGE,
    MOTIF_VIDEO,
    PRX,
    SANA,
    LONGCAT_AUDIO,
    LONGCAT_VIDEO,
    LINGBOT_VIDEO,
    SEEDVR2,
    HUNYUAN3D_2,
    HUNYUAN3D_21,
    TRELLIS2,
    TRIPOSPLAT,
)
