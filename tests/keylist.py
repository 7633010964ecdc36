"""Writes the key list of a real file into tests/data, without its weights.

    python -m tests.keylist checkpoint NAME FILE [--prefix model.diffusion_model.] [--diffusers FILE ...]
    python -m tests.keylist trainer TRAINER-NAME FILE --how "kohya's train_network.py, 48d368fa, --network_dim 4"

NAME is the architecture's or edition's id. The diffusers files are the shards of the same model there.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from lora_core.tensorfile import TensorFile
from tests.manifests import DATA, SUFFIX


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("checkpoint", "trainer"))
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--diffusers", type=Path, nargs="*", default=[])
    parser.add_argument("--how", default="")
    options = parser.parse_args()
    content = checkpoint(options) if options.kind == "checkpoint" else trainer(options)
    write(f"{options.kind}s", options.name, content)


def checkpoint(options: argparse.Namespace) -> dict[str, Any]:
    keys = {name: list(info.shape) for name, info in read(options.file)[0].items()}
    there = {name: list(info.shape) for file in options.diffusers for name, info in read(file)[0].items()}
    return {"arch": options.name, "prefix": options.prefix, "keys": keys, "diffusers_keys": there}


def trainer(options: argparse.Namespace) -> dict[str, Any]:
    infos, metadata = read(options.file)
    writer, _, arch = options.name.partition("-")
    tensors = {name: [info.dtype, list(info.shape)] for name, info in infos.items()}
    return {"trainer": writer, "arch": arch, "how": options.how, "metadata": metadata, "tensors": tensors}


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with TensorFile(path) as file:
        return dict(file), dict(file.metadata)


def write(folder: str, name: str, content: dict[str, Any]) -> None:
    path = DATA / folder / (name + SUFFIX)
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
