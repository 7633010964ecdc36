"""LoRA files that are hostile, odd or merely large, and what lies beside them; each is written below one folder."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.attacks.pickles import as_archive, hostile_archives, hostile_pickles
from tests.tiny import DTYPES, flat, make_lora, modules

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
MODULE = "lora_unet_double_blocks_0_img_attn_proj"  # of the tiny model, 128 by 128
RANGES = "[!-\U0010ffff]" * 12


def write_loras(folder: Path) -> list[str]:
    """Write all files, and return their names."""
    folder.mkdir(parents=True)
    for name, data in hostile_pickles():
        (folder / f"pickle-{name}.pt").write_bytes(data)
        (folder / f"archive-{name}.pt").write_bytes(as_archive(data))
    for name, data in hostile_archives():
        (folder / f"zip-{name}.pt").write_bytes(data)
    for name, write in (*_PATTERNS.items(), *_SHAPES.items(), *_VALUES.items(), *_HEADERS.items()):
        write(folder / name)
    _write_gguf(folder)
    _write_beside(folder)
    _write_odd(folder)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in SUFFIXES)


SUFFIXES = (".safetensors", ".pt", ".gguf", ".ckpt")


def sparse(path: Path, keys: Shapes, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a file with this header, whose values are zero and take no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for key, (dtype, shape) in keys.items():
        start, count = end, 1
        for size in shape:
            count *= size
        end += count * DTYPES[dtype].itemsize
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return raw(path, json.dumps(header, separators=(",", ":")).encode(), end)


def raw(path: Path, header: bytes, size: int = 0) -> Path:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return path


def peft(path: Path, count: int, patterns: Mapping[str, Any], *, beside: bool = False) -> None:
    """A PEFT LoRA of many modules whose alphas are told by patterns."""
    folder = path.with_suffix("") if beside else path.parent
    keys = {
        f"base_model.model.blocks.{number}.attn.to_q.lora_{side}.weight": ("F16", (2, 2))
        for number in range(count)
        for side in "AB"
    }
    config = json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "alpha_pattern": dict(patterns)})
    if beside:
        sparse(folder / "adapter_model.safetensors", keys)
        (folder / "adapter_config.json").write_text(config, "utf-8")
    else:
        sparse(path, keys, {"lora_adapter_metadata": config, "format": "pt"})


def _honest(count: int) -> dict[str, float]:
    return {f"blocks.{number}.attn.to_q": 2.0 + number for number in range(count)}


Write = Callable[[Path], Any]
_PATTERNS: dict[str, Write] = {
    "patterns-ranges.safetensors": lambda path: peft(path, 100, {RANGES + str(n): 1 for n in range(50)}),
    "patterns-10000.safetensors": lambda path: peft(path, 100, {f"x{n}.*y{n}[a-z]+": 1 for n in range(10_000)}),
    "patterns-repeats.safetensors": lambda path: peft(path, 500, {"(" * 15 + ".*" + ")*" * 15: 1}),
    "patterns-honest-90.safetensors": lambda path: peft(path, 90, _honest(90)),
    "patterns-honest-720.safetensors": lambda path: peft(path, 720, _honest(720)),
    "patterns-honest-5000.safetensors": lambda path: peft(path, 5_000, _honest(5_000)),
    "patterns-beside": lambda path: peft(path, 200, {RANGES + str(n): 1 for n in range(30)}, beside=True),
}


def _lokr(rank: int) -> Shapes:
    return {
        f"{MODULE}.lokr_w1_a": ("F16", (1, rank)),
        f"{MODULE}.lokr_w1_b": ("F16", (rank, 1)),
        f"{MODULE}.lokr_w2": ("F16", (128, 128)),
        f"{MODULE}.alpha": ("F16", ()),
    }


def _low_rank(module: str, rank: int, out: int, width: int) -> Shapes:
    return {f"{module}.lora_up.weight": ("F16", (out, rank)), f"{module}.lora_down.weight": ("F16", (rank, width))}


_SHAPES: dict[str, Write] = {
    "lokr-32768.safetensors": lambda path: sparse(path, _lokr(32_768)),
    "lokr-huge-kron.safetensors": lambda path: sparse(
        path, {f"{MODULE}.lokr_w1": ("F16", (20_000, 1)), f"{MODULE}.lokr_w2": ("F16", (1, 20_000))}
    ),
    "tucker.safetensors": lambda path: sparse(
        path,
        {
            f"{MODULE}.lora_up.weight": ("F16", (128, 4_096, 1, 1)),
            f"{MODULE}.lora_mid.weight": ("F16", (4_096, 2, 3, 3)),
            f"{MODULE}.lora_down.weight": ("F16", (2, 128, 1, 1)),
        },
    ),
    "loha-rank.safetensors": lambda path: sparse(
        path,
        {
            f"{MODULE}.hada_w{n}_{side}": ("F16", (128, 9_000) if side == "a" else (9_000, 128))
            for n in (1, 2)
            for side in "ab"
        },
    ),
    "reshape.safetensors": lambda path: sparse(
        path,
        {**_low_rank(MODULE, 1, 20_000, 20_000), f"{MODULE}.reshape_weight": ("I64", (2,))},
    ),
    "rank-1e6.safetensors": lambda path: sparse(path, _low_rank(MODULE, 1_000_000, 128, 128)),
    "modules-50000.safetensors": lambda path: sparse(
        path,
        {key: value for n in range(50_000) for key, value in _low_rank(f"lora_unet_blocks_{n}_x", 1, 2, 2).items()},
    ),
    "module-name-10kb.safetensors": lambda path: sparse(path, _low_rank("a_" * 5_000, 1, 2, 2)),
    "modules-dotted.safetensors": lambda path: sparse(path, _low_rank("a." * 4_000 + "b", 1, 2, 2)),
}


def _valued(value: float, dtype: torch.dtype = torch.float32) -> Write:
    def write(path: Path) -> None:
        up, down = torch.full((128, 4), 0.01), torch.full((4, 128), 0.01)
        up[3, 1] = value
        tensors = {f"{MODULE}.lora_up.weight": up.to(dtype), f"{MODULE}.lora_down.weight": down.to(dtype)}
        save_file(tensors, path)

    return write


_VALUES: dict[str, Write] = {
    "value-nan.safetensors": _valued(float("nan")),
    "value-infinity.safetensors": _valued(float("inf")),
    "value-huge.safetensors": _valued(3e38),
    "value-fp8.safetensors": _valued(0.5, torch.float8_e4m3fn),
    "alpha-nan.safetensors": lambda path: save_file(
        {f"{MODULE}.lora_up.weight": torch.ones(128, 4), f"{MODULE}.lora_down.weight": torch.ones(4, 128),
         f"{MODULE}.alpha": torch.tensor(float("nan"))}, path
    ),
    "good.safetensors": lambda path: make_lora(path, flat("lora_unet_", modules("flux")), 4),
}  # fmt: skip


def _entry(dtype: str) -> bytes:
    return json.dumps({"a.lora_up.weight": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}).encode()


_HEADERS: dict[str, Write] = {
    "header-dtype-20mb.safetensors": lambda path: raw(path, _entry("x" * 20_000_000), 1),
    "header-deep.safetensors": lambda path: raw(path, b'{"a":' * 300_000 + b"1" + b"}" * 300_000),
    "header-lists.safetensors": lambda path: raw(path, b'{"a":[' + b"[]," * 5_000_000 + b"0]}"),
    "header-empty-keys.safetensors": lambda path: raw(
        path, b'{"__metadata__":{' + b",".join(b'"%d":"x"' % n for n in range(1_000_000)) + b"}}"
    ),
    "header-number.safetensors": lambda path: raw(path, b'{"a":{"dtype":"F16","shape":[' + b"9" * 2_000_000 + b"]}}"),
    "header-claims.safetensors": lambda path: path.write_bytes(struct.pack("<Q", 2**62) + b"{}"),
    "header-shape.safetensors": lambda path: raw(
        path, b'{"a.lora_up.weight":{"dtype":"F16","shape":[' + b"1," * 2_000_000 + b'1],"data_offsets":[0,2]}}', 2
    ),
    "metadata-tags-16mb.safetensors": lambda path: sparse(
        path, _low_rank(MODULE, 1, 128, 128),
        {"ss_tag_frequency": json.dumps({"a": {f"tag {n}": n for n in range(700_000)}})},
    ),
    "metadata-deep.safetensors": lambda path: sparse(
        path, _low_rank(MODULE, 1, 128, 128),
        {"ss_tag_frequency": "[" * 200_000, "lora_adapter_metadata": '{"a":' * 100_000, "trained_words": "[" * 100_000},
    ),
    "metadata-long.safetensors": lambda path: sparse(
        path, _low_rank(MODULE, 1, 128, 128), {"modelspec.description": "<br>" * 4_000_000, "a": "<" * 4_000_000}
    ),
}  # fmt: skip


def _write_gguf(folder: Path) -> None:
    start = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    string = struct.pack("<Q", 12) + b"general.arch"
    (folder / "gguf-claims.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60))
    (folder / "gguf-list.gguf").write_bytes(start + string + struct.pack("<IIQ", 9, 4, 3_000_000) + bytes(12_000_000))
    nested = b"".join(struct.pack("<IQ", 9, 1) for _ in range(200_000))
    (folder / "gguf-nested.gguf").write_bytes(start + string + struct.pack("<I", 9) + nested)


def _write_beside(folder: Path) -> None:
    """Good LoRAs beside which something hostile lies."""
    big = b"[" * 8_000_000
    words = json.dumps({"trainedWords": ["x" * 40_000] * 190}).encode()
    beside = {
        ".civitai.info": big,
        ".metadata.json": b'{"civitai":' * 500_000,
        ".json": b"9" * 8_000_000,
        ".txt": b"," * 65_000,
        ".sha256": b"a" * 60_000,
        ".png": b"\x89PNG\r\n\x1a\n" + bytes(20_000_000),
        ".safetensors.rgthree-info.json": words,
    }
    for number, (suffix, data) in enumerate(beside.items()):
        _VALUES["good.safetensors"](folder / f"beside-{number}.safetensors")
        (folder / f"beside-{number}{suffix}").write_bytes(data)


def _write_odd(folder: Path) -> None:
    """What is no regular file, and files that are alike in size alone."""
    os.mkfifo(folder / "odd-pipe.safetensors")
    (folder / "odd-zero.safetensors").symlink_to("/dev/zero")
    (folder / "odd-loop.safetensors").symlink_to(folder / "odd-loop.safetensors")
    (folder / "odd-nowhere.safetensors").symlink_to(folder / "nowhere")
    (folder / "odd-empty.safetensors").touch()
    (folder / "odd-\u202egnp.safetensors").write_bytes(b"x\r\n\x1b[31m")
    for number in range(SAME_COUNT):
        with (folder / f"same-{number}.safetensors").open("wb") as file:
            file.truncate(SAME_SIZE)


SAME_COUNT, SAME_SIZE = 24, 200_000_000


def alike() -> Iterator[dict[str, Any]]:
    """Yield rows of files that are not there, and that any of those of the same size may be."""
    for digit in "0123456789abcdef":
        yield {"on": True, "name": f"gone-{digit}.safetensors", "size": SAME_SIZE, "hash": digit * 64}
