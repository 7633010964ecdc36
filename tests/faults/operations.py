"""The operations that write files, on small models, each as the command line runs it; and what must be true after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests import tiny

OPERATIONS = ("merge", "extract", "resize", "convert", "combine")
WIDTH = 256  # of the layers of the model: the files have a few MB, so that there are many points at which to stop
_MODULES = {f"double_blocks.{block}.img_attn.proj": (WIDTH, WIDTH) for block in range(6)} | {
    f"double_blocks.{block}.txt_mlp.0": (4 * WIDTH, WIDTH) for block in range(6)
}
_EXTRA = {
    "img_in.weight": (WIDTH, 64),
    "vector_in.in_layer.weight": (WIDTH, 768),
    "guidance_in.in_layer.weight": (WIDTH, 256),
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One operation that writes one file, new or over an old one."""

    operation: str
    overwrites: bool
    inputs: Path  # folder of base, tuned and lora
    expected: bytes  # what an undisturbed run writes

    def out(self, folder: Path) -> Path:
        return folder / "out.safetensors"

    def arguments(self, folder: Path) -> list[str]:
        return arguments(self.operation, self.inputs, self.out(folder), overwrite=self.overwrites)

    def prepare(self, folder: Path) -> None:
        """Make the folder as it is before a run."""
        folder.mkdir(parents=True, exist_ok=True)
        self.out(folder).unlink(missing_ok=True)
        if self.overwrites:
            self.out(folder).write_bytes(OLD)

    def state(self, folder: Path) -> str:
        """Return what became of the target: absent, old, complete, or LOST."""
        out = self.out(folder)
        if not out.exists():
            return "LOST" if self.overwrites else "absent"
        content = out.read_bytes()
        if content == self.expected:
            return "complete" if _loads(out) else "LOST"
        return "old" if self.overwrites and content == OLD else "LOST"


OLD = b"what was there before, and is precious" * 1000


def arguments(operation: str, inputs: Path, out: Path, *, overwrite: bool = False) -> list[str]:
    base, tuned, lora = (str(inputs / f"{name}.safetensors") for name in ("base", "tuned", "lora"))
    given = {
        "merge": ["merge", "--base", base, "--lora", lora, "0.8", "--dtype", "bf16"],
        "extract": ["extract", "--base", base, "--tuned", tuned, "--rank", "8"],
        "resize": ["resize", lora, "--rank", "4"],
        "convert": ["convert", lora, "--dialect", "diffusers", "--base", base],
        "combine": ["combine", "--lora", lora, "0.5", "--lora", lora, "0.25", "--rank", "8", "--base", base],
    }[operation]
    return [*given, "--out", str(out), *(["--overwrite"] if overwrite else [])]


def make_inputs(folder: Path) -> dict[str, bytes]:
    """Write base, tuned and lora, and return their bytes by name."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {**_EXTRA, **{f"{name}.weight": shape for name, shape in _MODULES.items()}}
    weights = {key: tiny.fill(key, shape).half() for key, shape in shapes.items()}
    save_file(weights, folder / "base.safetensors")
    torch.manual_seed(0)
    tuned = {
        key: value + (torch.randn(len(value), 4) @ torch.randn(4, WIDTH) * 0.01).half()
        if key.removesuffix(".weight") in _MODULES
        else value
        for key, value in weights.items()
    }
    save_file(tuned, folder / "tuned.safetensors")
    tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", _MODULES), 16)
    return contents(folder)


def contents(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _loads(path: Path) -> bool:
    try:
        return len(load_file(path)) > 0
    except (SafetensorError, OSError):
        return False
