"""MiniMax-H3: video and sound in one stream; its files fuse query, key and value, diffusers' names do not."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .rows import renamed_below, split

_HEADS = 56
_PER_HEAD = tuple(_HEADS * part + head for head in range(_HEADS) for part in range(3))


def _block(here: str, there: str) -> tuple[Rename, ...]:
    return (
        split(f"{here}attn.qkv_proj", f"{there}attn."),
        # the makers' files hold query, key and value of one head after the other, and ComfyUI's all queries first;
        # DiffSynth trains on the makers', and nothing but the adapter's name in its files' names tells
        Rename(f"{here}attn.qkv_proj", f"{here}attn.qkv_proj.default", order=_PER_HEAD, read_only=True),
        # the gate is the first half of the feed-forward here, and the second half there
        Rename(f"{here}mlp.fc1", f"{there}ff.net.0.proj", order=(1, 0)),
        *renamed_below(
            here,
            there,
            ("attn.out_proj", "attn.to_out.0"),
            ("attn.q_norm", "attn.norm_q"),
            ("attn.k_norm", "attn.norm_k"),
            ("mlp.fc2", "ff.net.2"),
            "norm1",
            "norm2",
        ),
    )


RENAMES = (
    *_block("blocks.{i}.", "transformer_blocks.{i}."),
    *_block("token_refiner.blocks.{i}.", "token_refiner.refiner_blocks.{i}."),
    Rename("blocks.{i}.adaln_proj.linear", "transformer_blocks.{i}.adaln_proj.linear"),
    *renamed_below("time_embedder.", "time_embedder.", ("proj_in", "linear_1"), ("proj_out", "linear_2")),
    Rename("video_patch_proj", "proj_in"),
    Rename("audio_patch_proj", "audio_proj_in"),
    Rename("condition_proj", "context_embedder"),
    *renamed_below("final_layer.", "norm_out.", "norm", ("adaln_proj.linear", "linear")),
    *renamed_below("final_layer.", "", ("video_out", "proj_out"), ("audio_out", "audio_proj_out")),
)

MINIMAX_H3 = Arch(
    id="minimax_h3",
    title="MiniMax-H3",
    signatures=(Signature(has=("token_refiner.blocks.0.attn.qkv_proj.weight", "blocks.0.adaln_proj.linear.weight")),),
    others=(
        Signature(
            has=("token_refiner.refiner_blocks.0.attn.to_q.weight", "transformer_blocks.0.adaln_proj.linear.weight")
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "blocks", "refiner": "token_refiner.blocks"},
    renames=RENAMES,
    editions=(
        # modulation is looked up in a table of 8 numbers a step: a LoRA of it fits no other edition
        Edition("minimax_h3_pruned", "MiniMax-H3, pruned", Signature(has=("adaln_t_table",))),
    ),
    text_encoders={"qwen3vl_32b_minimax_h3": ("te", "te1")},
)
