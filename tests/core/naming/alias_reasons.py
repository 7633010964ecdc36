"""Names that ComfyUI accepts and that have no target here, with reasons; which encoders go with which model."""

from __future__ import annotations

SDXL = ("sdxl", "sdxl_refiner", "ssd1b", "segmind_vega", "koala_700m", "koala_1b", "lotus_d", "svd_img2vid")
FLUX = ("flux1_dev", "flux1_fill", "flux1_schnell", "chroma", "chroma_radiance", "longcat_image", "ovis_image")
FLUX2 = ("flux2_dev", "flux2_klein_9b", "flux2_klein_4b")

# reason -> the names, and the alias tables where that is so
LACKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a name of Flux.2, which ComfyUI generates for Flux.1 and its kin too": (
        r"(.*[._])?transformer_blocks[._]\d+[._]ff(_context)?[._]linear_(in|out)"
        r"|(.*[._])?single_transformer_blocks[._]\d+[._]attn[._]to_(out|qkv_mlp_proj)",
        FLUX,
    ),
    "a name of Flux.1, which ComfyUI generates for Flux.2 too": (
        r"(.*[._])?transformer_blocks[._]\d+[._](proj_out|ff(_context)?[._]net[._](0[._]proj|2))",
        FLUX2,
    ),
    "a name of Stable Cascade's text encoder": (
        r"lora_prior_te_.*",
        ("te_hidream_i1", "te_sd3", "te_sd3_no_t5", "te_sdxl", "te_sdxl_refiner"),
    ),
    "the number of SDXL's second text encoder, for one that stands alone": (
        r"lora_te2_text_projection",
        ("te_sdxl_refiner", "te_stable_cascade"),
    ),
    "a name of SD 2.1-unclip, generated for every U-Net; these call it add_embedding": (
        r"(.*[._])?class_embedding[._]linear_[12]",
        SDXL,
    ),
}

# Names that ComfyUI sends to another place, and why it is wrong there
FAULTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Lumina 2 has fewer heads of keys and values; ComfyUI takes Z-Image's, as many as of queries": (
        r"(.*[._])?(layers|noise_refiner|context_refiner)[._]\d+[._]attention[._]to_[kv]",
        ("lumina2", "newbie_image"),
    ),
    "the gated MLP of these single blocks is six or eight times as wide as the model; ComfyUI takes Flux.1's four": (
        r"(.*[._])?single_transformer_blocks[._]\d+[._]proj_mlp",
        (*FLUX2, "ovis_image"),
    ),
}

# A table of text encoders -> the model that it goes with, where its name does not say it
MODEL_OF = {
    "te_ace_step_1.5_2b": "ace_step_1.5",
    "te_cogvideox": "cogvideox_5b",
    "te_cosmos_predict2": "cosmos_predict2_2b",
    "te_flux1": "flux1_dev",
    "te_hunyuandit": "hunyuandit_1.2",
    "te_kandinsky5": "kandinsky5_pro_video",
    "te_ltx2": "ltx2_19b",
    "te_ltx2_gemma3_only": "ltx2_19b",
    "te_ltx2.3": "ltx2.3_22b",
    "te_ltx2.5": "ltx2.3_22b",
    "te_pixeldit": "pixeldit_t2i",
    "te_stable_audio_3": "stable_audio_3_medium",
    "te_ltxv": "ltxv_2b",
    "te_pixart": "pixart_sigma",
    "te_sd3": "sd35_large",
    "te_sd3_no_t5": "sd3_medium",
    "te_stable_cascade": "stable_cascade_c",
    "te_wan": "wan21_t2v_14b",
}

# Names that only one of the two layouts has: model -> names of modules (own layout), keys (diffusers' layout)
# (diffusers' name of an upsampler stands for both of its own names; its bias by full name has one)
_UPSAMPLER_BIAS = (r"diffusion_model\.output_blocks\.\d+\.2\.conv\.bias",)
# (the biases in Animate's motion encoder have another number of axes in diffusers; its blur kernels are constants)
_ANGLES = r"diffusion_model\.(.*\.)?(rope|rotary_pos_emb)\.inv_freq"
ONLY_IN_OWN_LAYOUT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("sd15", "sd21", *SDXL), _UPSAMPLER_BIAS),
    # the empty prompt, which diffusers encodes anew
    **dict.fromkeys(("pixart_alpha", "pixart_sigma"), (r"diffusion_model\.y_embedder\.y_embedding",)),
    # diffusers keeps these in models of their own
    **dict.fromkeys(
        ("ltx2_19b", "ltx2.3_22b"), (r"(diffusion_model\.|lora_unet_)?(audio|video)_embeddings_connector[._].*",)
    ),
    "minimax_music3": (
        r"(diffusion_model\.|lora_unet_)(latent_conditioners|cond_layer_(logits|scale))[._]?.*",
        _ANGLES,
    ),
    # numbers that are computed, and that diffusers keeps in another shape or not at all
    "minimax_h3": (_ANGLES,),
    "stable_audio_1": (r"(diffusion_model\.|lora_unet_)timestep_features", _ANGLES),
    # diffusers fuses them, and the name of one of them alone has no place there
    "ovis_image": (r"(diffusion_model\.|lora_unet_)double_blocks[._]\d+[._](img|txt)_mlp[._](gate|up)_proj(\.bias)?",),
    "ace_step_1.5": (r"(diffusion_model\.|lora_unet_)(null_condition_emb|(encoder|(de)?tokenizer)[._].*)",),
    "krea2": (r"diffusion_model\.blocks\.\d+\.mod\.lin",),  # a vector here, a table of six rows there
    "wan22_animate_14b": (r"diffusion_model\.motion_encoder\.enc\.net_app\.convs\..*\.(bias|kernel)",),
}
ONLY_IN_DIFFUSERS: dict[str, tuple[str, ...]] = {
    "krea2": (r"transformer_blocks\.\d+\.scale_shift_table",),
    "wan22_animate_14b": (r"motion_encoder\..*\.act_fn\.bias",),
    "stable_audio_1": (r"time_proj\.weight", r"transformer_blocks\.\d+\.norm\d\.bias"),
    "stable_audio_3_medium": (r"prompt_padding_embedding",),
    "cogvideox_5b_i2v": (r"patch_embed\.pos_embedding",),
    # no layers: single numbers, tables of positions, scales of norms; ours are told by the makers' names
    "svd_img2vid": (r".*\.time_mixer\.mix_factor",),
    "animatediff_motion_v2": (r".*\.pos_embed\.pe",),
    "skyreels_v1_i2v": (r".*\.norm_(added_)?[qk]\.weight",),
    "ovis_image": (r".*\.net\.0\.proj\.(weight|bias)",),  # fused there alone: the pieces are written by their own names
}
