"""Workflows from strangers, real ones with a few values changed: converted and run, or refused by a LoraError."""

from __future__ import annotations

import copy
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lora_core.errors import LoraError
from lora_core.operations import NODES
from lora_core.options import TARGET
from lora_core.workflows.graph import graph_of
from lora_core.workflows.importing import convert_workflow, has_peers
from lora_core.workflows.run import run
from tests import manifests, tiny
from tests.fuzz.choices import Choices
from tests.fuzz.edits import edited
from tests.fuzz.scratch import folder
from tests.fuzz.seen import check_shown

REPO = Path(__file__).resolve().parents[2]
_NAMES = ("ink.safetensors", "styles/ink.safetensors")


def check(data: bytes) -> None:
    choices = Choices(data)
    mode = choices.number(8)
    if mode == 0:
        try:
            workflow = json.loads(choices.rest().decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            return
    elif mode < 5:
        files = _files()
        workflow = edited(choices, files[choices.number(len(files))])
    else:
        workflow = edited(choices, choices.one_of(_prompts()), _pieces())
    _check_read(workflow)
    if mode >= 5:
        _check_run(workflow)
    _check_conversion(workflow, choices.one_of(TARGET.choices))


def _check_read(workflow: Any) -> None:
    has_peers(workflow)
    try:
        nodes = graph_of(workflow, "x.json")
    except LoraError as error:
        check_shown(str(error))
        return
    assert all(isinstance(node.type, str) for node in nodes.values())


def _check_conversion(workflow: Any, to: Any) -> None:
    before = copy.deepcopy(workflow)
    try:
        result = convert_workflow(workflow, to=to, names=_NAMES)
    except LoraError as error:
        check_shown(str(error))
        return
    finally:
        assert json.dumps(workflow) == json.dumps(before)
    for note in result.notes:
        check_shown(note)
    json.dumps(result.workflow, allow_nan=False)


def _check_run(workflow: Any) -> None:
    """Run what needs no ComfyUI on tiny models, and take away what was written."""
    models, output = _models(), folder("workflows") / "output"
    path = folder("workflows") / "x.json"
    path.write_text(json.dumps(workflow), "utf-8")
    try:
        reports = run(path, models=models, output=output)
    except LoraError as error:
        for line in str(error).split("\n"):
            check_shown(line)
    else:
        for report in reports:
            json.dumps(report.to_dict())
            for line in report.text().split("\n"):
                check_shown(line)
    finally:
        shutil.rmtree(output, ignore_errors=True)


@cache
def _files() -> tuple[Any, ...]:
    ours = [manifests.workflow(form) for pack in manifests.workflows() for form in manifests.workflow_forms(pack)]
    examples = sorted((REPO / "example_workflows").glob("*.json"))
    return (*ours, *(json.loads(path.read_text("utf-8")) for path in examples))


@cache
def _models() -> Path:
    models = folder("models")
    for name in ("checkpoints", "loras/styles"):
        (models / name).mkdir(parents=True)
    modules = {"lora_unet_x": (4, 6), "lora_unet_y": (8, 4)}
    tiny.make_lora(models / "loras/ink.safetensors", modules, 2)
    tiny.make_lora(models / "loras/styles/ink.safetensors", modules, 3)
    tiny.make_tiny("wan21", models / "checkpoints/wan.safetensors", dtype=torch.bfloat16)
    return models


@cache
def _prompts() -> tuple[dict[str, Any], ...]:
    """Return one prompt for each node that runs without a loaded model: a stack, and the node."""
    prompts: list[dict[str, Any]] = []
    for node in NODES.values():
        inputs: dict[str, Any] = {option.name: option.default for option in node.options}
        for name in ("lora_name", "base", "tuned", "checkpoint", "against"):
            if name in inputs:
                inputs[name] = "ink.safetensors" if name == "lora_name" else inputs[name] or "wan.safetensors"
        inputs |= {"lora_stack": ["1", 0]} if "lora_stack" in {item.name for item in node.inputs} else {}
        rows = [{"name": "ink", "strength": 0.5}, {"name": "styles/ink.safetensors"}]
        stack = {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": rows}}}
        prompts.append({"1": stack, "2": {"class_type": node.id, "inputs": inputs}})
    return tuple(prompts)


@cache
def _pieces() -> tuple[Any, ...]:
    """Return values that options take, so that combinations of them are tried."""
    choices = [choice for node in NODES.values() for option in node.options for choice in option.choices]
    return (*dict.fromkeys(choices), "wan.safetensors", "ink.safetensors", "styles\\ink.safetensors", 3, 0.9, 32768)


def seeds() -> dict[str, bytes]:
    files = {f"file-{number:02}": bytes([1, number, 0, 0]) for number in range(len(_files()))}
    back = {f"back-{number:02}": bytes([1, number, 0, 1]) for number in range(len(_files()))}
    prompts = {f"prompt-{number}": bytes([5, number, 0, 0]) for number in range(len(_prompts()))}
    texts = {"text-list": b"\0[]", "text-api": b'\0{"1":{"class_type":"LoraLoader"}}', "text-cut": b'\0{"nodes":[{}]}'}
    return files | back | prompts | texts
