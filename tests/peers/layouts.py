"""Hand-written conversions of diffusers' weights into the original checkpoints' layout, apart from lora_core's tables.

test_diffusers holds each of them against the converters that diffusers itself has for the other direction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch

Weights = dict[str, torch.Tensor]


class Mover:
    """Takes tensors out of a diffusers model and puts them where the original has them, each exactly once."""

    def __init__(self, source: Mapping[str, torch.Tensor]) -> None:
        self._left = dict(source)
        self._moved: Weights = {}

    def __call__(self, there: str, *here: str, swap: bool = False, ends: tuple[str, ...] = ("weight", "bias")) -> None:
        """Move module `here`; several are laid one after the other; `swap` exchanges the halves of the rows."""
        for end in ends:
            if f"{here[0]}.{end}" in self._left:
                rows = torch.cat([self._left.pop(f"{name}.{end}") for name in here])
                self._moved[f"{there}.{end}"] = torch.cat(rows.chunk(2)[::-1]) if swap else rows

    def key(self, there: str, here: str) -> None:
        self._moved[there] = self._left.pop(here)

    def numbers(self, stem: str) -> list[int]:
        found = (re.match(re.escape(stem) + r"\.(\d+)\.", name) for name in self._left)
        return sorted({int(match[1]) for match in found if match})

    def names(self) -> Iterator[str]:
        yield from list(self._left)

    def result(self) -> Weights:
        assert not self._left, f"not converted: {sorted(self._left)}"
        return {key: tensor.contiguous() for key, tensor in self._moved.items()}


def flux(source: Mapping[str, torch.Tensor]) -> Weights:
    move = Mover(source)
    streams = (
        ("img", "norm1", "to_{}", "to_out.0", "norm_{}", "ff"),
        ("txt", "norm1_context", "add_{}_proj", "to_add_out", "norm_added_{}", "ff_context"),
    )
    for i in move.numbers("transformer_blocks"):
        here = f"transformer_blocks.{i}"
        for name, mod, project, out, norm, feed in streams:
            there = f"double_blocks.{i}.{name}"
            move(f"{there}_mod.lin", f"{here}.{mod}.linear")
            move(f"{there}_attn.qkv", *(f"{here}.attn.{project.format(x)}" for x in "qkv"))
            move(f"{there}_attn.proj", f"{here}.attn.{out}")
            move.key(f"{there}_attn.norm.query_norm.scale", f"{here}.attn.{norm.format('q')}.weight")
            move.key(f"{there}_attn.norm.key_norm.scale", f"{here}.attn.{norm.format('k')}.weight")
            move(f"{there}_mlp.0", f"{here}.{feed}.net.0.proj")
            move(f"{there}_mlp.2", f"{here}.{feed}.net.2")
    for i in move.numbers("single_transformer_blocks"):
        here, there = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        move(f"{there}.linear1", *(f"{here}.attn.to_{x}" for x in "qkv"), f"{here}.proj_mlp")
        move(f"{there}.linear2", f"{here}.proj_out")
        move(f"{there}.modulation.lin", f"{here}.norm.linear")
        move.key(f"{there}.norm.query_norm.scale", f"{here}.attn.norm_q.weight")
        move.key(f"{there}.norm.key_norm.scale", f"{here}.attn.norm_k.weight")
    move("img_in", "x_embedder")
    move("txt_in", "context_embedder")
    for there, here in (("time_in", "timestep"), ("vector_in", "text"), ("guidance_in", "guidance")):
        move(f"{there}.in_layer", f"time_text_embed.{here}_embedder.linear_1")
        move(f"{there}.out_layer", f"time_text_embed.{here}_embedder.linear_2")
    move("final_layer.adaLN_modulation.1", "norm_out.linear", swap=True)
    move("final_layer.linear", "proj_out")
    return move.result()


def sd3(source: Mapping[str, torch.Tensor]) -> Weights:
    move = Mover(source)
    blocks = move.numbers("transformer_blocks")
    for i in blocks:
        here, there = f"transformer_blocks.{i}", f"joint_blocks.{i}"
        for attention in ("attn", "attn2"):
            move(f"{there}.x_block.{attention}.qkv", *(f"{here}.{attention}.to_{x}" for x in "qkv"))
            move(f"{there}.x_block.{attention}.proj", f"{here}.{attention}.to_out.0")
            for x in "qk":
                move(f"{there}.x_block.{attention}.ln_{x}", f"{here}.{attention}.norm_{x}")
        move(f"{there}.context_block.attn.qkv", *(f"{here}.attn.add_{x}_proj" for x in "qkv"))
        move(f"{there}.context_block.attn.proj", f"{here}.attn.to_add_out")
        for x in "qk":
            move(f"{there}.context_block.attn.ln_{x}", f"{here}.attn.norm_added_{x}")
        for stream, norm, feed in (("x_block", "norm1", "ff"), ("context_block", "norm1_context", "ff_context")):
            is_last_context = stream == "context_block" and i == blocks[-1]
            move(f"{there}.{stream}.adaLN_modulation.1", f"{here}.{norm}.linear", swap=is_last_context)
            move(f"{there}.{stream}.mlp.fc1", f"{here}.{feed}.net.0.proj")
            move(f"{there}.{stream}.mlp.fc2", f"{here}.{feed}.net.2")
    move.key("pos_embed", "pos_embed.pos_embed")
    move("x_embedder.proj", "pos_embed.proj")
    move("context_embedder", "context_embedder")
    for there, here in (("t_embedder", "timestep"), ("y_embedder", "text")):
        move(f"{there}.mlp.0", f"time_text_embed.{here}_embedder.linear_1")
        move(f"{there}.mlp.2", f"time_text_embed.{here}_embedder.linear_2")
    move("final_layer.adaLN_modulation.1", "norm_out.linear", swap=True)
    move("final_layer.linear", "proj_out")
    return move.result()


def wan(source: Mapping[str, torch.Tensor]) -> Weights:
    move = Mover(source)
    for i in move.numbers("blocks"):
        block = f"blocks.{i}"
        for there, here in (("self_attn", "attn1"), ("cross_attn", "attn2")):
            for x in "qkv":
                move(f"{block}.{there}.{x}", f"{block}.{here}.to_{x}")
            move(f"{block}.{there}.o", f"{block}.{here}.to_out.0")
            for x in "qk":
                move(f"{block}.{there}.norm_{x}", f"{block}.{here}.norm_{x}")
        for x in "kv":
            move(f"{block}.cross_attn.{x}_img", f"{block}.attn2.add_{x}_proj")
        move(f"{block}.cross_attn.norm_k_img", f"{block}.attn2.norm_added_k")
        move(f"{block}.norm3", f"{block}.norm2")
        move(f"{block}.ffn.0", f"{block}.ffn.net.0.proj")
        move(f"{block}.ffn.2", f"{block}.ffn.net.2")
        move.key(f"{block}.modulation", f"{block}.scale_shift_table")
    for name in ("time", "text"):
        move(f"{name}_embedding.0", f"condition_embedder.{name}_embedder.linear_1")
        move(f"{name}_embedding.2", f"condition_embedder.{name}_embedder.linear_2")
    move("time_projection.1", "condition_embedder.time_proj")
    image = {"0": "norm1", "1": "ff.net.0.proj", "3": "ff.net.2", "4": "norm2"}
    for there, here in image.items():
        move(f"img_emb.proj.{there}", f"condition_embedder.image_embedder.{here}")
    move("patch_embedding", "patch_embedding")
    move.key("head.modulation", "scale_shift_table")
    move("head.head", "proj_out")
    return move.result()


RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)


def unet(source: Mapping[str, torch.Tensor]) -> Weights:
    """Two resnets per level on the way down, three on the way up, as all Stable Diffusion U-Nets have."""
    move = Mover(source)
    upsampled_after_attention = {name.split(".")[1] for name in source if re.match(r"up_blocks\.\d+\.attentions", name)}

    def block(there: str, here: str, place: int) -> None:
        for name, other in RESNET:
            move(f"{there}.0.{other}", f"{here}.resnets.{place}.{name}")
        attention = f"{here}.attentions.{place}."
        for key in move.names():
            if key.startswith(attention):
                move.key(f"{there}.1.{key.removeprefix(attention)}", key)

    for level in move.numbers("down_blocks"):
        for place in (0, 1):
            block(f"input_blocks.{3 * level + place + 1}", f"down_blocks.{level}", place)
        move(f"input_blocks.{3 * level + 3}.0.op", f"down_blocks.{level}.downsamplers.0.conv")
    for level in move.numbers("up_blocks"):
        for place in (0, 1, 2):
            block(f"output_blocks.{3 * level + place}", f"up_blocks.{level}", place)
        slot = 2 if str(level) in upsampled_after_attention else 1
        move(f"output_blocks.{3 * level + 2}.{slot}.conv", f"up_blocks.{level}.upsamplers.0.conv")
    for place in (0, 1):
        for name, other in RESNET:
            move(f"middle_block.{2 * place}.{other}", f"mid_block.resnets.{place}.{name}")
    for key in move.names():
        if key.startswith("mid_block.attentions.0."):
            move.key(key.replace("mid_block.attentions.0", "middle_block.1"), key)
    for there, here in (("time_embed", "time_embedding"), ("label_emb.0", "add_embedding")):
        move(f"{there}.0", f"{here}.linear_1")
        move(f"{there}.2", f"{here}.linear_2")
    for there, here in (("input_blocks.0.0", "conv_in"), ("out.0", "conv_norm_out"), ("out.2", "conv_out")):
        move(there, here)
    return move.result()


def open_clip(source: Mapping[str, torch.Tensor]) -> Weights:
    """From transformers' CLIPTextModelWithProjection."""
    move = Mover(source)
    for i in move.numbers("text_model.encoder.layers"):
        here, there = f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}"
        move(f"{there}.attn.in_proj", *(f"{here}.self_attn.{x}_proj" for x in "qkv"))
        move(f"{there}.attn.out_proj", f"{here}.self_attn.out_proj")
        for other, name in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2")):
            move(f"{there}.{other}", f"{here}.{name}")
        for other, name in (("c_fc", "fc1"), ("c_proj", "fc2")):
            move(f"{there}.mlp.{other}", f"{here}.mlp.{name}")
    move("ln_final", "text_model.final_layer_norm")
    move("token_embedding", "text_model.embeddings.token_embedding")
    move.key("positional_embedding", "text_model.embeddings.position_embedding.weight")
    move.key("text_projection", "text_projection.weight")
    moved = move.result()
    moved["text_projection"] = moved["text_projection"].t().contiguous()
    # torch's own attention module keeps the fused projection as two bare parameters
    return {re.sub(r"in_proj\.(weight|bias)$", r"in_proj_\1", key): tensor for key, tensor in moved.items()}


def clip_l(source: Mapping[str, torch.Tensor]) -> Weights:
    """From transformers 5's CLIPTextModel, which has no `text_model.` level any more."""
    return {f"text_model.{key}": tensor.contiguous() for key, tensor in source.items()}
