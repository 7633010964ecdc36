"""Nodes for tests only: conditioning without a text encoder, for models whose encoders are too large for a test."""

import torch


class RandomConditioning:
    """Seeded noise in the shape of a text encoder's output."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "make"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        size = ("INT", {"default": 16, "min": 1, "max": 65536})
        return {
            "required": {"tokens": size, "width": size, "pooled": size, "seed": ("INT", {"default": 0, "max": 2**31})}
        }

    def make(self, tokens: int, width: int, pooled: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        text = torch.randn(1, tokens, width, generator=generator)
        return ([[text, {"pooled_output": torch.randn(1, pooled, generator=generator), "guidance": 3.5}]],)


NODE_CLASS_MAPPINGS = {"LoraCoreTestRandomConditioning": RandomConditioning}
