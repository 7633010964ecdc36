"""The main job on a tiny Flux.1 model made on the spot: inspect, merge, extract, and compare."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import LoraError, OutputError
from ..files.dtypes import dtype_name
from ..files.layout import PlannedTensor
from ..files.outputs import as_output_error
from ..files.tensorfile import TensorFile
from ..files.tensorwriter import TensorWriter
from ..lazytorch import torch
from ..operations.extracting.extract import extract
from ..operations.inspecting.inspect import inspect
from ..operations.merging.merge import merge
from ..report import Report

NAMES = ("model", "merged", "extracted", "merged_from_extracted", "ink", "light")
STRENGTHS = (0.8, -0.5)  # of the last two
WIDTH, RANK = 128, 4
TOLERANCE = 0.02  # of the change; the fp16 rounding of the factors leaves far less


def demo(folder: Path) -> list[Report]:
    """Write a model and two LoRAs to `folder`, merge, extract again, and check that the extracted LoRA gives the same.

    Returns the reports; raises LoraError if one of its files is there already, or the result is off.
    """
    base, merged, extracted, again, *paths = (folder / f"{name}.safetensors" for name in NAMES)
    _check_free(folder, (base, merged, extracted, again, *paths))
    loras = list(zip(paths, STRENGTHS, strict=True))
    _save(base, dict(_model()))
    for seed, (path, _) in enumerate(loras):
        _save(path, dict(_lora(seed)))
    reports = [
        inspect(loras[0][0], [base]),
        merge(base, loras, merged, verify=True),
        extract(base, merged, extracted, rank=2 * RANK),
        merge(base, [extracted], again),
    ]
    error = _relative_error(base, merged, again)
    reports[-1].notes.append(f"merged and re-extracted weights differ by {error:.3%} of the change")
    if error > TOLERANCE:
        raise LoraError(f"demo: the extracted LoRA is off by {error:.1%} of the change; expected below 2%.")
    return reports


def _check_free(folder: Path, paths: Sequence[Path]) -> None:
    """Make the folder, and raise OutputError if anything has the name of one of the files."""
    with as_output_error(folder):
        if not folder.is_dir():
            folder.mkdir(parents=True)
        taken = [path.name for path in paths if os.path.lexists(path)]
    if taken:
        raise OutputError(
            f"{folder.name or folder}: {', '.join(taken)} already there, and the demo replaces nothing; name a "
            "folder that is empty or does not exist."
        )


def _model() -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for name, (out, width) in _modules().items():
        yield f"model.diffusion_model.{name}.weight", torch.randn(out, width, generator=generator) / width**0.5
        yield f"model.diffusion_model.{name}.bias", torch.zeros(out)
    for stream in ("img", "txt"):
        for norm in ("query_norm", "key_norm"):
            yield f"model.diffusion_model.double_blocks.0.{stream}_attn.norm.{norm}.scale", torch.ones(WIDTH)


def _lora(seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed + 1)
    for name, (out, width) in _modules().items():
        module = "lora_unet_" + name.replace(".", "_")
        yield f"{module}.lora_down.weight", torch.randn(RANK, width, generator=generator) / width**0.5
        yield f"{module}.lora_up.weight", torch.randn(out, RANK, generator=generator) * 0.1
        yield f"{module}.alpha", torch.tensor(RANK / 2)


def _modules() -> dict[str, tuple[int, int]]:
    modules = {"img_in": (WIDTH, 64), "vector_in.in_layer": (WIDTH, 768), "guidance_in.in_layer": (WIDTH, 256)}
    for stream in ("img", "txt"):
        modules[f"double_blocks.0.{stream}_attn.qkv"] = (3 * WIDTH, WIDTH)
        modules[f"double_blocks.0.{stream}_mlp.0"] = (4 * WIDTH, WIDTH)
    modules["single_blocks.0.linear1"] = (7 * WIDTH, WIDTH)
    modules["single_blocks.0.linear2"] = (WIDTH, 5 * WIDTH)
    return modules


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    plan = [PlannedTensor(name, dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()]
    with TensorWriter(path, plan) as writer:
        for name, tensor in tensors.items():
            writer.put(name, tensor)
        writer.commit()


def _relative_error(base: Path, first: Path, second: Path) -> float:
    """Return |second - first| / |first - base| over all tensors."""
    error = change = 0.0
    with TensorFile(base) as a, TensorFile(first) as b, TensorFile(second) as c:
        for name in a:
            before, one, other = (file.tensor(name).double() for file in (a, b, c))
            error += float((other - one).square().sum())
            change += float((one - before).square().sum())
    return (error / change) ** 0.5
