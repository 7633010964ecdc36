"""Makes docs/kinds.md: what becomes of every type of PEFT and every algorithm of LyCORIS.

`python -m tests.peers.kind_table` runs all cases and writes the page.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from lycoris.modules.norms import NormModule
from lycoris.modules.tlora import TLoraModule
from lycoris.wrapper import network_module_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_core.errors import LoraError
from lora_core.reading.lorafile import LoraFile
from tests.peers.kind_cases import cases
from tests.peers.kinds import Case, error, ours

PAGE = Path(__file__).parents[2] / "docs/kinds.md"
SEEDS = range(1, 4)
ALGORITHMS: dict[str, type] = {**network_module_dict, "norm": NormModule}
# What of a type is not as the others
LIMITS = {
    "LORA": "refused by name: aLoRA, Arrow, BD-LoRA, KaSA, QA-LoRA, `layer_replication`, `target_parameters`, "
    "`fan_in_fan_out`",
    "FOURIERFT": "places are drawn from the seed by PyTorch's generator, as PEFT does",
    "WAVEFT": "places as FourierFT; wavelets other than `db1` are refused",
    "GLORA": "layers whose bias depends on the weight (`config_C` on a layer with a bias) are named and not applied",
    "TINYLORA": "where all layers share one group (`weight_tying` 1) and projections are saved; else refused",
    "UNILORA": "with `save_indices`; else refused",
    "VERA": "with `save_projection`, PEFT's default; else refused",
    "PVERA": "with `save_projection`, PEFT's default; else refused",
    "OSF": "by the singular values of the weight that it is put on",
}
HEAD = """# Kinds of adapters

What becomes of every type of PEFT and every algorithm of LyCORIS. *Exact* is the largest error of the change over all
cases and three seeds, in units of the change, against the program that defined the kind; both sides compute in fp32.
`python -m tests.peers.kind_table` writes this page.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One type or algorithm."""

    name: str
    kinds: str  # as reports call them
    result: str

    @property
    def is_exact(self) -> bool:
        return self.result.startswith("exact")


def peft_rows(measured: Callable[[Case], float]) -> Iterator[Row]:
    for name in sorted(key.name for key in PEFT_TYPE_TO_CONFIG_MAPPING):
        found = [case for case in cases() if case.oracle.startswith("PEFT") and case.algorithm == name]
        if found:
            yield _exact(name, found, measured)
        else:
            tensors = {"prompt_embeddings": torch.ones(4, 8), "base_model.model.m.lora_A.weight": torch.ones(2, 4)}
            of_prompt = not hasattr(PEFT_TYPE_TO_CONFIG_MAPPING[name], "target_modules") and name != "XLORA"
            key = "prompt_embeddings" if of_prompt else "base_model.model.m.lora_A.weight"
            yield Row(name, "", f"refused: {refusal({key: tensors[key]}, name)}")


def lycoris_rows(measured: Callable[[Case], float]) -> Iterator[Row]:
    for name, cls in ALGORITHMS.items():
        found = [case for case in cases() if case.oracle.startswith("LyCORIS") and case.algorithm == cls.__name__]
        if cls is TLoraModule:
            yield Row(name, "T-LoRA", f"refused: {_unsupported(cls)}")
        else:
            yield _exact(name, found, measured)


def refusal(tensors: dict[str, Tensor], peft_type: str) -> str:
    """Return what a user is told of a folder of this type."""
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, Path(folder) / "adapter_model.safetensors")
        (Path(folder) / "adapter_config.json").write_text(json.dumps({"peft_type": peft_type}))
        try:
            LoraFile(folder).file.close()
        except LoraError as caught:
            return str(caught).partition(": ")[2]
    raise AssertionError(f"{peft_type} is neither applied nor refused")


def largest_error(case: Case) -> float:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return max(error(ours(made := case.make(seed), Path(folder) / str(seed)), made) for seed in SEEDS)


def page(measured: Callable[[Case], float]) -> str:
    lines = [HEAD]
    peers = (
        ("PEFT", version("peft"), "type", peft_rows),
        ("LyCORIS", version("lycoris-lora"), "algorithm", lycoris_rows),
    )
    for peer, number, what, rows in peers:
        lines += [f"## {peer} {number}", "", f"| {what} | kinds in reports | result |", "|---|---|---|"]
        lines += [f"| {row.name} | {row.kinds} | {row.result} |" for row in rows(measured)]
        lines.append("")
    return "\n".join(lines)


def _exact(name: str, found: list[Case], measured: Callable[[Case], float]) -> Row:
    kinds = ", ".join(dict.fromkeys(case.kind for case in found))
    worst = max(map(measured, found))
    limit = f"; {LIMITS[name]}" if name in LIMITS else ""
    return Row(name, kinds, f"exact, {max(worst, 6e-8):.1e}{limit}".replace("e-0", "e-"))


def _unsupported(cls: type) -> str:
    """Return what a user is told of modules of this class."""
    module = cls("lora_unet_m", nn.Linear(8, 6), 1.0, lora_dim=2)
    with tempfile.TemporaryDirectory() as folder:
        save_file(
            {f"lora_unet_m.{key}": value for key, value in module.state_dict().items()}, f"{folder}/m.safetensors"
        )
        with LoraFile(f"{folder}/m.safetensors") as file:
            assert not file.adapters and set(file.unsupported.values()) == {"T-LoRA"}
    return "modules are named and not applied: its rank changes with the time step, so that no weights can stand for it"


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # LyCORIS tells every layer that it makes
    PAGE.write_text(page(largest_error), encoding="utf-8")
