"""Language models in transformers' layout: those that image and video models use, and their families in any size."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from .base import Arch, Edition, Rename, Shape, Signature

# What stands before the layers, and before everything else: language models alone, without their head, and those
# inside vision-language models of transformers 5 and 4
_LEVELS = (
    ("model.", ""),
    ("", ""),
    ("model.language_model.", "model."),
    ("language_model.model.", ""),
    ("language_model.", ""),
)
_OWN, *_OTHERS = (text for text, _ in _LEVELS)
_Q, _K, _V = (f"self_attn.{letter}_proj" for letter in "qkv")
_GATE, _UP = "mlp.gate_proj", "mlp.up_proj"

_LEVEL_ROWS = (
    *(
        Rename(f"{_OWN}{name}", f"{level}{name}", read_only=bool(level))
        for level in _OTHERS
        for name in ("layers.{rest}", "embed_tokens", "norm")
    ),
    Rename("lm_head", "model.lm_head", read_only=True),  # ComfyUI
    Rename("model.lm_head", "lm_head", read_only=True),
)
_SPLIT_ROWS = (
    *_LEVEL_ROWS,
    Rename("lm_head", "language_model.lm_head", read_only=True),
    Rename("visual.{rest}", "model.visual.{rest}", read_only=True),
    Rename("vision_model.{rest}", "vision_tower.vision_model.{rest}", read_only=True),
    *(
        Rename(f"vision_model.{name}", f"vision_tower.{name}", read_only=True)  # transformers 5
        for name in ("encoder.{rest}", "embeddings.{rest}", "post_layernorm")
    ),
    Rename("vision_tower.{rest}", "model.vision_tower.{rest}", read_only=True),
    Rename("multi_modal_projector.{rest}", "model.multi_modal_projector.{rest}", read_only=True),
    # names of models that fuse, and of the same experts in transformers 5
    *(
        Rename(tuple(f"{level}layers.{{i}}.{name}" for name in names), f"{level}layers.{{i}}.{fused}", read_only=True)
        for level in (_OWN, *_OTHERS)
        for names, fused in (((_Q, _K, _V), "self_attn.qkv_proj"), ((_GATE, _UP), "mlp.gate_up_proj"))
    ),
    Rename("model.layers.{i}.block_sparse_moe.gate", "model.layers.{i}.mlp.gate", read_only=True),
)
_FUSED_ROWS = (
    *_LEVEL_ROWS,
    # as many query heads as there are columns for, and `groups` of them to each head of keys and of values
    *(
        Rename(
            "model.layers.{i}.self_attn.qkv_proj",
            tuple(f"model.layers.{{i}}.{name}" for name in (_Q, _K, _V)),
            sizes=(groups, 1, 1),
            chunks=Fraction(groups + 2, groups),
            read_only=True,
        )
        for groups in range(1, 9)
    ),
    Rename(
        "model.layers.{i}.mlp.gate_up_proj",
        tuple(f"model.layers.{{i}}.{name}" for name in (_GATE, _UP)),
        read_only=True,
    ),
)


def _signatures(
    shapes: Mapping[str, tuple[int | None, ...]], has: tuple[str, ...] = (), lacks: tuple[str, ...] = ()
) -> tuple[Signature, ...]:
    """Return the same condition at every level; names of the layers are those below the first layer."""

    def at(name: str, text: str, rest: str) -> str:
        if name.startswith("visual."):
            return rest + name
        return f"{text}{name}.weight" if name == "embed_tokens" else f"{text}layers.0.{name}"

    return tuple(
        Signature(
            has=tuple(at(name, *level) for name in has),
            lacks=tuple(at(name, *level) for name in lacks),
            shapes={at(name, *level): shape for name, shape in shapes.items()},
        )
        for level in _LEVELS
    )


def _encoder(
    encoder: str,
    title: str,
    shapes: Mapping[str, Shape],
    has: tuple[str, ...] = (),
    lacks: tuple[str, ...] = (),
    wrappers: tuple[str, ...] = (),
    editions: tuple[Edition, ...] = (),
    prefixes: tuple[str, ...] = (),
    renames: tuple[Rename, ...] = _SPLIT_ROWS,
) -> Arch:
    own, *others = _signatures(shapes, has, lacks)
    names = wrappers or (encoder,)
    return Arch(
        id=encoder,
        title=title,
        role="text_encoder",
        signatures=(own,),
        others=tuple(others),
        prefixes=prefixes
        or (
            *(f"{text}{name}.transformer." for name in names for text in ("text_encoders.", "")),
            *_LONE,
        ),
        renames=renames,
        editions=editions,
        kohya_names="there",
        kohya_modules="layers.",
    )


_LONE = ("transformer.", "")
_VISION = "visual.pos_embed.weight"
_GATE_KEY, _NORM_KEY = f"{_GATE}.weight", "self_attn.q_norm.weight"
_SCALAR = "layer_scalar"  # Gemma 4
_SINKS = "layers.0.self_attn.sinks"

ENCODERS = (
    _encoder("llama", "LLaVA Llama 3 8B", {_GATE_KEY: (14336, 4096), "embed_tokens": (128320, 4096)}),
    _encoder(
        "llama_hidream_i1",
        "Llama 3 8B",
        {_GATE_KEY: (14336, 4096), "embed_tokens": (128256, 4096)},
        wrappers=("llama",),
    ),
    _encoder("mistral3_24b", "Mistral Small 3", {_GATE_KEY: (32768, 5120), f"{_K}.weight": (1024, 5120)}),
    _encoder("ministral3_3b", "Ministral 3 3B", {_GATE_KEY: (9216, 3072), f"{_Q}.weight": (4096, 3072)}),
    _encoder("qwen25_3b", "Qwen 2.5 3B", {_GATE_KEY: (11008, 2048), f"{_K}.bias": (256,)}),
    _encoder("qwen25_7b", "Qwen 2.5 7B", {_GATE_KEY: (18944, 3584), f"{_K}.bias": (512,)}),
    _encoder(
        "qwen3_06b",
        "Qwen 3 0.6B",
        {_GATE_KEY: (3072, 1024), _NORM_KEY: (128,), "embed_tokens": (151936, 1024)},
    ),
    _encoder(
        "qwen3_06b_ace_step_1.5_2b",
        "Qwen 3 0.6B Embedding",
        {_GATE_KEY: (3072, 1024), _NORM_KEY: (128,), "embed_tokens": (151669, 1024)},
        wrappers=("qwen3_06b",),
    ),
    _encoder("qwen3_2b", "Qwen 3 1.7B", {_GATE_KEY: (6144, 2048), _NORM_KEY: (128,)}),
    _encoder("qwen3_4b", "Qwen 3 4B", {_GATE_KEY: (9728, 2560), _NORM_KEY: (128,)}, lacks=(_VISION,)),
    _encoder("qwen3vl_4b", "Qwen 3 VL 4B", {_GATE_KEY: (9728, 2560), _NORM_KEY: (128,)}, has=(_VISION,)),
    _encoder(  # Qwen 3 8B's layers among its own embeddings and audio heads
        "minimax_music3_ar",
        "MiniMax Music 3's language model",
        {_GATE_KEY: (12288, 4096), _NORM_KEY: (128,), "embed_tokens": (200000, 4096)},
        prefixes=("text_encoders.", ""),
        renames=(*_LEVEL_ROWS, Rename("model.{rest}", "{rest}", read_only=True)),
    ),
    _encoder(
        "qwen3_8b",
        "Qwen 3 8B",
        {_GATE_KEY: (12288, 4096), _NORM_KEY: (128,)},
        wrappers=("qwen3_8b", "qwen3vl_8b"),
        editions=(
            Edition("qwen3vl_8b", "Qwen 3 VL 8B", Signature(has=(_VISION,))),
            # a file of its layers for ComfyUI, which has no use for the last norm
            Edition("qwen3vl_8b_text_only", "Qwen 3 VL 8B, text only", Signature(lacks=("model.norm.weight",))),
        ),
    ),
    _encoder(
        "qwen3vl_32b_minimax_h3",
        "Qwen 3 VL 32B",
        {_GATE_KEY: (25600, 5120), _NORM_KEY: (128,)},
        has=(_VISION,),
        wrappers=("qwen3vl_32b",),
    ),
    _encoder("gemma2_2b", "Gemma 2 2B", {_GATE_KEY: (9216, 2304)}, has=("pre_feedforward_layernorm.weight",)),
    _encoder("gemma3_4b", "Gemma 3 4B", {_GATE_KEY: (10240, 2560), _NORM_KEY: (256,)}, wrappers=("gemma",)),
    _encoder("gemma3_12b", "Gemma 3 12B", {_GATE_KEY: (15360, 3840), _NORM_KEY: (256,)}, lacks=(_SCALAR,)),
    _encoder(
        "gemma4_12b",
        "Gemma 4 12B",
        {_GATE_KEY: (15360, 3840), _NORM_KEY: (256,)},
        has=(_SCALAR,),
        wrappers=("gemma3_12b",),  # so ComfyUI calls it
    ),
    Arch(
        id="gpt_oss_20b",
        title="GPT-OSS 20B",
        role="text_encoder",
        signatures=(Signature(has=(_SINKS,), shapes={"layers.0.mlp.router.weight": (32, 2880)}),),
        others=(Signature(has=(f"model.{_SINKS}",), shapes={"model.layers.0.mlp.router.weight": (32, 2880)}),),
        prefixes=("text_encoders.gpt_oss.transformer.", "gpt_oss.transformer.", *_LONE),
        renames=tuple(Rename(name, f"model.{name}") for name in ("layers.{rest}", "embed_tokens", "norm")),
        kohya_modules="layers.",
    ),
    Arch(
        id="t5gemma_b",
        title="T5Gemma B",
        role="text_encoder",
        signatures=(
            Signature(
                has=("model.encoder.layers.0.pre_self_attn_layernorm.weight",),
                shapes={"model.encoder.embed_tokens.weight": (None, 768)},
            ),
        ),
        prefixes=("text_encoders.t5gemma.transformer.", "t5gemma.transformer.", *_LONE),
        renames=(Rename("model.{rest}", "{rest}", read_only=True),),
        kohya_modules="model.encoder.layers.",
    ),
)

# Titles of the family, the first that fits; another size or maker is "Llama-like"
_NORM_4 = "model.layers.0.pre_feedforward_layernorm.weight"
_INPUT_NORM, _QUERY_NORM = "model.layers.0.input_layernorm.weight", f"model.layers.0.{_NORM_KEY}"
_FAMILIES = (
    Edition("gemma4", "Gemma 4", Signature(has=(_NORM_4, _QUERY_NORM, f"model.layers.0.{_SCALAR}"))),
    Edition("gemma3", "Gemma 3", Signature(has=(_NORM_4, _QUERY_NORM))),
    Edition("gemma2", "Gemma 2", Signature(has=(_NORM_4,))),
    Edition("qwen3", "Qwen 3", Signature(has=(_QUERY_NORM, _INPUT_NORM), lacks=(f"model.layers.0.{_Q}.bias",))),
    Edition("qwen2", "Qwen 2", Signature(has=(f"model.layers.0.{_Q}.bias", f"model.layers.0.{_GATE_KEY}"))),
    Edition("mixtral", "Mixtral", Signature(has=("model.layers.0.block_sparse_moe.gate.weight",))),
    *(
        Edition(family, title, Signature(shapes={"model.embed_tokens.weight": (vocabulary,), **shapes}))
        for family, title, vocabulary, shapes in (
            ("llama3", "Llama 3", 128256, {}),
            ("mistral", "Mistral", 131072, {}),
            ("mistral", "Mistral", 32768, {}),
            ("mistral", "Mistral", 32000, {f"model.layers.0.{_GATE_KEY}": (14336, 4096)}),
            ("llama2", "Llama", 32000, {}),
            ("gemma", "Gemma", 256000, {}),
        )
    ),
)

_LAYER, *_OTHER_LAYERS = _signatures({}, has=("self_attn.o_proj.weight",))
_FUSED_LAYER, *_OTHER_FUSED_LAYERS = _signatures({}, has=("self_attn.qkv_proj.weight", "mlp.gate_up_proj.weight"))

PHI3 = Arch(
    id="phi3",
    title="Phi 3",
    role="text_encoder",
    signatures=(_FUSED_LAYER,),
    others=tuple(_OTHER_FUSED_LAYERS),
    prefixes=_LONE,
    renames=_FUSED_ROWS,
)
LANGUAGE_MODEL = Arch(
    id="language_model",
    title="Llama-like language model",
    role="text_encoder",
    signatures=(_LAYER,),
    others=tuple(_OTHER_LAYERS),
    prefixes=_LONE,
    renames=_SPLIT_ROWS,
    editions=_FAMILIES,
)

# The exact ones stand before their families: of the text encoders that fit at one place, the first counts
LANGUAGE_MODELS = (*ENCODERS, PHI3, LANGUAGE_MODEL)
