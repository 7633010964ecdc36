"""The files of tests/data: read from headers and lists of names, written as gzip'd JSON, without weights."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from lora_core.files.tensorfile import TensorFile
from tests.manifests import DATA, SUFFIX

FOLDERS = {"checkpoint": "checkpoints", "host": "checkpoints", "trainer": "trainers", "aliases": "lora_keys"}


def checkpoint(options: argparse.Namespace) -> dict[str, Any]:
    """Return a model's lists; what is not given stays as it was."""
    from tests.keylist import classes

    content = written("checkpoints", options.name) or {"arch": options.name, "prefix": "", "keys": {}}
    there: dict[str, Any] = {}
    if options.diffusers:
        there = {"diffusers_keys": {name: shape for file in options.diffusers for name, shape in shapes(file).items()}}
    if options.diffusers_class:
        there = classes.diffusers(options.diffusers_class, options.config)
    if options.file:
        content |= {"prefix": options.prefix, "keys": shapes(options.file)}
    elif not (content["keys"] or there):
        sys.exit(f"{options.name}: no list is there yet, and no file or class of diffusers was given.")
    elif not content["keys"]:  # a model that only diffusers has is known by its names there
        content["keys"], there["diffusers_keys"] = there["diffusers_keys"], {}
    return content | there


def host(options: argparse.Namespace) -> dict[str, Any]:
    """Return the lists of a model that ComfyUI has a class for; diffusers' stay as they were."""
    from tests.keylist import classes

    content = written("checkpoints", options.name) or {"diffusers_keys": {}}
    return (
        content | {"arch": options.name, "prefix": ""} | classes.host(options.folder, options.of_class, options.config)
    )


def trainer(options: argparse.Namespace) -> dict[str, Any]:
    tensors, metadata = read(options.file)
    writer, _, arch = options.name.partition("-")
    told = {"dialect": options.dialect, "kind": options.adapter}
    return {"trainer": writer, "arch": arch, "how": options.how, "metadata": metadata, "tensors": tensors} | {
        name: value for name, value in told.items() if value
    }


def aliases(options: argparse.Namespace) -> dict[str, Any]:
    from tests.keylist import classes

    return {"arch": options.name} | classes.aliases(options.folder, options.name)


def shapes(path: Path) -> dict[str, list[int]]:
    return {name: shape for name, (_, shape) in read(path)[0].items()}


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


def written(folder: str, name: str) -> dict[str, Any]:
    path = DATA / folder / (name + SUFFIX)
    return json.loads(gzip.decompress(path.read_bytes())) if path.is_file() else {}
