"""Cosmos 1 and Cosmos 3: the first counts its blocks in words (`block0`), so each block has rows of its own."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import LAYERS
from .rows import renamed_below

_MOST = 36  # blocks
_ATTENTION = (
    ("to_q.0", "to_q"),
    ("to_k.0", "to_k"),
    ("to_v.0", "to_v"),
    ("to_out.0", "to_out.0"),
    ("to_q.1", "norm_q"),
    ("to_k.1", "norm_k"),
)


def _block(number: int) -> tuple[Rename, ...]:
    here, there = f"blocks.block{number}.blocks.", f"transformer_blocks.{number}."
    return (
        *(row for n in (0, 1) for row in renamed_below(f"{here}{n}.block.attn.", f"{there}attn{n + 1}.", *_ATTENTION)),
        *renamed_below(f"{here}2.block.", f"{there}ff.net.", ("layer1", "0.proj"), ("layer2", "2")),
        *(
            Rename(f"{here}{n}.adaLN_modulation.{place}", f"{there}norm{n + 1}.linear_{place}")
            for n in (0, 1, 2)
            for place in (1, 2)
        ),
    )


def _size(name: str, title: str, width: int) -> Edition:
    return Edition(name, title, Signature(shapes={"x_embedder.proj.1.weight": (width,)}))


COSMOS1 = Arch(
    id="cosmos1",
    title="Cosmos 1",
    signatures=(Signature(has=("blocks.block0.blocks.0.block.attn.to_q.0.weight", "affline_norm.weight")),),
    others=(Signature(has=("patch_embed.proj.weight", "learnable_pos_embed.pos_emb_t", "time_embed.norm.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "blocks.block"},
    renames=(
        *(row for number in range(_MOST) for row in _block(number)),
        Rename("x_embedder.proj.1", "patch_embed.proj"),
        *renamed_below("extra_pos_embedder.", "learnable_pos_embed.", *(f"pos_emb_{axis}" for axis in "thw")),
        *renamed_below("t_embedder.1.", "time_embed.t_embedder.", "linear_1", "linear_2"),
        Rename("affline_norm", "time_embed.norm"),
        *renamed_below("final_layer.", "", ("linear", "proj_out"), ("adaLN_modulation.1", "norm_out.linear_1")),
        Rename("final_layer.adaLN_modulation.2", "norm_out.linear_2"),
    ),
    editions=(
        _size("cosmos1_7b_t2w", "Cosmos 1 7B", 4096),
        _size("cosmos1_14b_v2w", "Cosmos 1 14B", 5120),
    ),
    text_encoders={"t5xxl_cosmos_predict2": ("te1", "te")},
)

COSMOS3 = Arch(
    id="cosmos3_nano",
    title="Cosmos 3 Nano",
    signatures=(Signature(has=("layers.0.self_attn.add_q_proj.weight", "layers.0.mlp_moe_gen.up_proj.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=LAYERS,
)

COSMOSES = (COSMOS1, COSMOS3)
