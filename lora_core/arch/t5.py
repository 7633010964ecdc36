"""T5 text encoders: T5, UMT5, mT5, Pile-T5 and ByT5 in the sizes of image and video models, and any other size."""

from __future__ import annotations

from .base import Arch, Signature

_GATED, _PLAIN = (f"encoder.block.0.layer.1.DenseReluDense.{name}.weight" for name in ("wi_1", "wi"))
_EVERY_BLOCK = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"  # UMT5 and Pile-T5 have it


def _t5(
    encoder: str, title: str, vocabulary: int, width: int, inner: int, *, has: str = "", plain: bool = False
) -> Arch:
    wrapper = encoder.removesuffix("_cosmos_predict2")
    return Arch(
        id=encoder,
        title=title,
        role="text_encoder",
        signatures=(
            Signature(
                has=(has,) if has else (),
                lacks=() if has else (_EVERY_BLOCK,),
                shapes={_PLAIN if plain else _GATED: (inner, width), "shared.weight": (vocabulary, width)},
            ),
        ),
        prefixes=(f"text_encoders.{wrapper}.transformer.", f"{wrapper}.transformer.", ""),
        kohya_modules="encoder.block.",
    )


T5S = (
    _t5("t5xxl", "T5-XXL", 32128, 4096, 10240),
    _t5("t5xxl_cosmos_predict2", "T5-11B", 32128, 1024, 65536, plain=True),
    _t5("umt5xxl", "UMT5-XXL", 256384, 4096, 10240, has=_EVERY_BLOCK),
    _t5("umt5base", "UMT5 base", 256384, 768, 2048, has=_EVERY_BLOCK),
    _t5("pile_t5xl", "Pile-T5-XL", 32128, 2048, 5120, has=_EVERY_BLOCK),
    _t5("mt5xl", "mT5-XL", 250112, 2048, 5120),
    _t5("t5base", "T5 base", 32128, 768, 3072, plain=True),
    _t5("byt5_small", "ByT5 small", 1510, 1472, 3584),
    Arch(
        id="t5",
        title="T5",
        role="text_encoder",
        signatures=(Signature(has=("encoder.block.0.layer.0.SelfAttention.q.weight",)),),
        prefixes=("transformer.", ""),
        kohya_modules="encoder.block.",
    ),
)
