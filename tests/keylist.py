"""Writes the key list of a real file into tests/data, without its weights.

    python -m tests.keylist checkpoint NAME FILE [--prefix model.diffusion_model.] [--diffusers FILE ...]
    python -m tests.keylist trainer TRAINER-NAME FILE --how "kohya's train_network.py, 48d368fa, --network_dim 4"
        [--dialect DIALECT] [--kind KIND]
    COMFYUI/.venv/bin/python -m tests.keylist aliases NAME COMFYUI

NAME is the architecture's or edition's id; TRAINER-NAME a word for the trainer, a hyphen and that id. Only the header
of a file is read; a .json is such a header, or {name: shape}. The diffusers files are the shards of the same model
there. DIALECT and KIND are what a report has to say of the file: a dialect's id, and a kind's name. The aliases are
what ComfyUI, in the folder COMFYUI, accepts for the key list that `checkpoint` wrote.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from lora_core.files.tensorfile import TensorFile
from tests import manifests
from tests.manifests import DATA, SUFFIX

FOLDERS = {"checkpoint": "checkpoints", "trainer": "trainers", "aliases": "lora_keys"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=tuple(FOLDERS))
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--diffusers", type=Path, nargs="*", default=[])
    parser.add_argument("--how", default="")
    parser.add_argument("--dialect", default="")
    parser.add_argument("--kind", default="", dest="adapter")
    options = parser.parse_args()
    content = {"checkpoint": checkpoint, "trainer": trainer, "aliases": aliases}[options.kind](options)
    write(FOLDERS[options.kind], options.name, content)


def checkpoint(options: argparse.Namespace) -> dict[str, Any]:
    keys = {name: shape for name, (_, shape) in read(options.file)[0].items()}
    there = {name: shape for file in options.diffusers for name, (_, shape) in read(file)[0].items()}
    return {"arch": options.name, "prefix": options.prefix, "keys": keys, "diffusers_keys": there}


def trainer(options: argparse.Namespace) -> dict[str, Any]:
    tensors, metadata = read(options.file)
    writer, _, arch = options.name.partition("-")
    told = {"dialect": options.dialect, "kind": options.adapter}
    return {"trainer": writer, "arch": arch, "how": options.how, "metadata": metadata, "tensors": tensors} | {
        name: value for name, value in told.items() if value
    }


def aliases(options: argparse.Namespace) -> dict[str, Any]:
    """ComfyUI's own table, of its model without weights."""
    import torch

    sys.path.insert(0, str(options.file))
    sys.argv[1:] = ["--cpu"]  # ComfyUI reads them, and would look for a GPU
    import comfy.options  # pyright: ignore[reportMissingImports]

    comfy.options.enable_args_parsing()
    import comfy.lora  # pyright: ignore[reportMissingImports]
    import comfy.model_detection as detection  # pyright: ignore[reportMissingImports]

    listed = manifests.checkpoint(options.name)
    with torch.device("meta"):
        keys = {key: torch.empty(shape) for key, shape in listed.keys.items()}
        config = detection.model_config_from_unet(keys, listed.prefix)
        if config is None:
            sys.exit(f"ComfyUI does not recognise the keys of tests/data/checkpoints/{options.name}{SUFFIX}.")
        model = config.get_model(keys, listed.prefix, device="meta")
    found = {name: plain(target) for name, target in comfy.lora.model_lora_keys_unet(model, {}).items()}
    shapes = {key: list(value.shape) for key, value in model.state_dict().items() if key.startswith("diffusion_model.")}
    class_name = type(config).__name__
    return {"arch": options.name, "comfy_class": class_name, "aliases": found, "target_shapes": shapes}


def plain(target: Any) -> Any:
    """A target as JSON has it: a key, or [key, [dim, start, length] or null, a function's name]."""
    if isinstance(target, str):
        return target
    key, span, *functions = target
    return [key, list(span) if span else None, *(function.__name__ for function in functions)]


def read(path: Path) -> tuple[dict[str, tuple[str, list[int]]], dict[str, str]]:
    """Return (number format, shape) of every tensor, and the metadata; of a list without formats they are F32."""
    if path.suffix == ".json":
        listed: dict[str, Any] = json.loads(path.read_text("utf-8"))
        metadata = listed.pop("__metadata__", {})
        found = {name: one if isinstance(one, dict) else {"shape": one} for name, one in listed.items()}
        return {name: (one.get("dtype", "F32"), one["shape"]) for name, one in found.items()}, metadata
    with TensorFile(path) as file:
        return {name: (info.dtype, list(info.shape)) for name, info in file.items()}, dict(file.metadata)


def write(folder: str, name: str, content: dict[str, Any]) -> None:
    path = DATA / folder / (name + SUFFIX)
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
