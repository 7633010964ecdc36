"""Workflow files without ComfyUI: both formats, subgraphs, muted and bypassed nodes, and what needs ComfyUI."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.cli.entry import main
from lora_core.errors import FileFormatError, WorkflowError
from tests import tiny
from tests.core.samples import load, same_bytes

MERGE_VALUES = ["wan.safetensors", "out/merged", "keep", "paper", "warn", False]
ROWS = {"v": 1, "rows": [{"on": True, "name": "a.safetensors", "strength": 0.7}]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.make_tiny("wan21", folder / "checkpoints/wan.safetensors")
    tiny.make_tiny("wan21", folder / "diffusion_models/wan.safetensors", seed=1)
    for name in "ab":
        tiny.make_lora(folder / f"loras/{name}.safetensors", tiny.modules("wan21"), seed=ord(name))
    return folder


def stack(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": "LoraCoreStack", "mode": 0, "widgets_values": [ROWS], **more}


def merge(number: int, link: int, *, model: str = "wan.safetensors", **more: Any) -> dict[str, Any]:
    inputs = [{"name": "lora_stack", "type": "LORA_STACK", "link": link}]
    values = [model, *MERGE_VALUES[1:]]
    return {"id": number, "type": "LoraCoreMerge", "mode": 0, "inputs": inputs, "widgets_values": values, **more}


def editor(*nodes: dict[str, Any], links: list[Any], **more: Any) -> dict[str, Any]:
    return {"version": 0.4, "nodes": list(nodes), "links": links, **more}


def api(**merge_inputs: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoraCoreStack", "inputs": {"rows": ROWS}},
        "2": {
            "class_type": "LoraCoreMerge",
            "inputs": {"checkpoint": "wan.safetensors", "lora_stack": ["1", 0], "filename_prefix": "out/merged",
                       **merge_inputs},
        },
    }  # fmt: skip


def run(tmp_path: Path, models: Path, workflow: Any) -> list[Path]:
    """Run `workflow` and return the files that it wrote."""
    file, output = tmp_path / "workflow.json", tmp_path / "output"
    file.write_text(workflow if isinstance(workflow, str) else json.dumps(workflow), encoding="utf-8")
    lora_core.run(file, models=models, output=output)
    return sorted(output.rglob("*.safetensors"))


def expected(tmp_path: Path, models: Path, *loras: Any, base: str = "checkpoints/wan.safetensors") -> bytes:
    out = tmp_path / "expected.safetensors"
    stack = [(models / "loras" / name, *strengths) for name, *strengths in loras]
    lora_core.merge(models / base, stack, out, overwrite=True)
    return out.read_bytes()


@pytest.mark.parametrize(
    "workflow",
    [
        pytest.param(api(), id="api"),
        pytest.param({"prompt": api(), "client_id": "x"}, id="posted"),
        pytest.param(editor(stack(1), merge(2, 5), links=[[5, 1, 0, 2, 0, "LORA_STACK"]]), id="editor"),
        pytest.param(
            editor(
                stack(1),
                merge(2, 5),
                links=[{"id": 5, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "X"}],
            ),
            id="editor-1.0",
        ),
    ],
)
def test_every_format_writes_the_same(tmp_path: Path, models: Path, workflow: Any) -> None:
    (written,) = run(tmp_path, models, workflow)
    assert written.relative_to(tmp_path / "output").as_posix() == "out/merged_00001_.safetensors"
    assert written.read_bytes() == expected(tmp_path, models, ("a.safetensors", 0.7))


def test_subgraph(tmp_path: Path, models: Path) -> None:
    """A merge inside a subgraph, its stack outside; and a stack inside another, its merge outside."""
    inner_merge = {
        "id": "m", "nodes": [merge(9, 3)],
        "links": [{"id": 3, "origin_id": -10, "origin_slot": 0, "target_id": 9, "target_slot": 0, "type": "X"}],
    }  # fmt: skip
    inner_stack = {
        "id": "s", "nodes": [stack(9)],
        "links": [{"id": 3, "origin_id": 9, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "X"}],
    }  # fmt: skip
    workflow = editor(
        {"id": 1, "type": "s", "inputs": [], "outputs": [{"name": "LORA_STACK"}]},
        {"id": 2, "type": "m", "inputs": [{"name": "lora_stack", "link": 5}]},
        links=[[5, 1, 0, 2, 0, "LORA_STACK"]],
        definitions={"subgraphs": [inner_merge, inner_stack]},
    )
    (written,) = run(tmp_path, models, workflow)
    assert written.read_bytes() == expected(tmp_path, models, ("a.safetensors", 0.7))


def test_stacks_chain_and_a_bypassed_one_passes_through(tmp_path: Path, models: Path) -> None:
    second = {"v": 1, "rows": [{"name": "b.safetensors", "strength": 2, "strength_clip": 1}]}
    inputs = [{"name": "lora_stack", "link": 7}]
    links = [[7, 1, 0, 3, 0, "X"], [5, 3, 0, 2, 0, "X"]]
    chained = editor(stack(1), stack(3, inputs=inputs, widgets_values=[second]), merge(2, 5), links=links)
    (written,) = run(tmp_path, models, chained)
    both = expected(tmp_path, models, ("a.safetensors", 0.7), ("b.safetensors", 2.0, 1.0))
    assert written.read_bytes() == both
    chained["nodes"][1]["mode"] = 4
    *_, written = run(tmp_path, models, chained)
    assert written.read_bytes() == expected(tmp_path, models, ("a.safetensors", 0.7))


def test_model_folders_and_defaults(tmp_path: Path, models: Path) -> None:
    """A model of another folder by its prefix; without an output folder the result lies where the node puts it."""
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps(api(checkpoint="diffusion_models/wan.safetensors")))
    (report,) = lora_core.run(workflow, models=models)
    written = models / "diffusion_models/out/merged_00001_.safetensors"
    assert report.outputs[0]["name"] == written.name
    base = "diffusion_models/wan.safetensors"
    assert written.read_bytes() == expected(tmp_path, models, ("a.safetensors", 0.7), base=base)
    written.unlink()


@pytest.mark.parametrize("name", ["unet/wan.SFT", "diffusion_models/wan.SFT", "text_encoders/deep/wan.safetensors"])
def test_models_where_comfyui_finds_them(tmp_path: Path, models: Path, name: str) -> None:
    """In unet and clip, in linked folders, with other endings, and in folders of an extra_model_paths.yaml."""
    here = tmp_path / "models"
    for folder in ("unet", "clip", "drive"):
        (here / folder).mkdir(parents=True)
    (here / "unet/wan.SFT").hardlink_to(models / "checkpoints/wan.safetensors")
    (here / "drive/wan.safetensors").hardlink_to(models / "checkpoints/wan.safetensors")
    (here / "clip/deep").symlink_to(here / "drive", target_is_directory=True)
    (tmp_path / "extra_model_paths.yaml").write_text(f"a:\n  base_path: {models.as_posix()}\n  loras: loras\n")
    (written,) = run(tmp_path, here, api(checkpoint=name))
    expected(tmp_path, models, ("a.safetensors", 0.7))
    ours, wanted = load(written), load(tmp_path / "expected.safetensors")  # receipts have the base's name
    assert all(same_bytes(tensor, wanted[key]) for key, tensor in ours.items())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_as_windows_writes_them(tmp_path: Path, models: Path, encoding: str) -> None:
    file, output = tmp_path / "workflow.json", tmp_path / "output"
    file.write_bytes(json.dumps(api() | {"5": {"class_type": "x", "inputs": {"a": float("nan")}}}).encode(encoding))
    lora_core.run(file, models=models, output=output)
    assert len(list(output.rglob("*.safetensors"))) == 1


def test_from_standard_input(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pipe(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))

    pipe(json.dumps(api()))
    assert main(["run", "-", "--models", str(models), "--output", str(tmp_path / "output")]) == 0
    assert len(list((tmp_path / "output").rglob("*.safetensors"))) == 1
    pipe(json.dumps(api()))
    assert main(["import", "-", "--to", "builtin", "--out", str(tmp_path / "out.json"), "--json"]) == 0
    assert '"standard input"' in capsys.readouterr().out
    pipe("<lora:a:0.5>")
    assert main(["import", "--text", "-"]) == 0
    assert '"name": "a"' in capsys.readouterr().out
    pipe("no workflow")
    assert main(["run", "-", "--models", str(models)]) == 1
    assert "standard input: not a workflow file" in capsys.readouterr().err


def test_merge_then_extract(tmp_path: Path, models: Path) -> None:
    workflow = api() | {
        "3": {
            "class_type": "LoraCoreExtract",
            "inputs": {"base": "wan.safetensors", "tuned": ["2", 0], "rank": 4, "dtype": "fp32"},
        }
    }
    merged, extracted = run(tmp_path, models, workflow)[::-1]
    assert {merged.parent.name, extracted.parent.name} == {"out", "loracore"}
    merged = next(path for path in (merged, extracted) if path.parent.name == "out")
    extracted = next(path for path in (merged.parents[1]).rglob("extracted*.safetensors"))
    again = tmp_path / "again.safetensors"
    lora_core.merge(models / "checkpoints/wan.safetensors", [extracted], again)
    key = "blocks.0.self_attn.q.weight"
    change = load(merged)[key].double() - load(models / "checkpoints/wan.safetensors")[key].double()
    error = load(again)[key].double() - load(merged)[key].double()
    assert error.norm() < 0.01 * change.norm()


def test_convert(tmp_path: Path, models: Path) -> None:
    """The converted LoRA merges to the same bytes."""
    workflow = {
        "1": {
            "class_type": "LoraCoreConvert",
            "inputs": {"lora_name": "a.safetensors", "dialect": "comfy", "base": "wan.safetensors"},
        }
    }
    (converted,) = run(tmp_path, models, workflow)
    assert converted.parent.name == "loracore"
    base = models / "checkpoints/wan.safetensors"
    lora_core.merge(base, [models / "loras/a.safetensors"], tmp_path / "before.safetensors")
    lora_core.merge(base, [converted], tmp_path / "after.safetensors")
    before, after = load(tmp_path / "before.safetensors"), load(tmp_path / "after.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert any(name.startswith("diffusion_model.") for name in load(converted))


def test_muted_merge_does_not_run(tmp_path: Path, models: Path) -> None:
    workflow = editor(stack(1), merge(2, 5, mode=2), merge(3, 6), links=[[5, 1, 0, 2, 0, "X"], [6, 1, 0, 3, 0, "X"]])
    assert len(run(tmp_path, models, workflow)) == 1


LOAD = {"class_type": "LoraCoreLoad", "inputs": {"model": ["5", 0], "lora_name": "a.safetensors"}}


@pytest.mark.parametrize(
    "workflow, message",
    [
        (
            {"4": LOAD},
            "workflow.json: no Merge to Checkpoint or Extract LoRA node that can run without ComfyUI; "
            "node 4 (Load LoRA) needs a model loaded in ComfyUI, so run it there.",
        ),
        (
            api(lora_stack=["7", 0]) | {"7": {"class_type": "CR Random LoRA Stack", "inputs": {}}},
            "node 7 (CR Random LoRA Stack) needs ComfyUI: only LoRA Core's own nodes run without it.",
        ),
        (api(lora_stack=["9", 0]), "node 9: is wired to another, but missing or muted."),
        (api(lora_stack=["2", 0]), "node 2 (Merge to Checkpoint): is wired to itself."),
        ({"a": 1}, "workflow.json: not a workflow file: expected ComfyUI's editor or API format."),
        ({"nodes": [{"id": 1}], "links": []}, "workflow.json: a damaged workflow file: KeyError('type')."),
        (
            {"nodes": [], "links": [[1, 1, math.inf, 1, 0, "M"]]},
            "workflow.json: a damaged workflow file: OverflowError('cannot convert float infinity to integer').",
        ),
        (api(dtype="int3"), None),
    ],
)
def test_refusals(tmp_path: Path, models: Path, workflow: Any, message: str | None) -> None:
    with pytest.raises(lora_core.LoraError) as error:
        run(tmp_path, models, workflow)
    expected_text = message or (
        "node 2 (Merge to Checkpoint): dtype: expected one of keep, fp32, fp16, bf16, fp8_e4m3fn, fp8_e4m3fn_scaled; "
        "found 'int3'."
    )
    assert str(error.value) == expected_text
    assert list((tmp_path / "output").rglob("*.safetensors")) == []


def test_not_json_and_missing(tmp_path: Path, models: Path) -> None:
    with pytest.raises(WorkflowError, match=r"workflow\.json: not a workflow file"):
        run(tmp_path, models, "not json")
    with pytest.raises(WorkflowError, match=r"gone\.json: no such file"):
        lora_core.run(tmp_path / "gone.json", models=models)


def test_missing_lora_names_node_and_file(tmp_path: Path, models: Path) -> None:
    workflow = api()
    workflow["1"]["inputs"]["rows"] = {"v": 1, "rows": [{"name": "gone.safetensors"}]}
    with pytest.raises(FileFormatError, match=r"node 1 \(Stack LoRAs\): LoRA 1: gone\.safetensors: no such file in"):
        run(tmp_path, models, workflow)


def test_a_live_node_beside_a_merge_is_named(tmp_path: Path, models: Path) -> None:
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(api() | {"4": LOAD}))
    (report,) = lora_core.run(file, models=models, output=tmp_path / "output")
    assert "node 4 (Load LoRA) was not run: it needs a model loaded in ComfyUI." in report.warnings


def test_same_weights_as_the_library(tmp_path: Path, models: Path) -> None:
    (written,) = run(tmp_path, models, api(dtype="fp32"))
    out = tmp_path / "library.safetensors"
    lora_core.merge(models / "checkpoints/wan.safetensors", [(models / "loras/a.safetensors", 0.7)], out, dtype="fp32")
    ours, theirs = load(written), load(out)
    assert all(same_bytes(tensor, theirs[name]) for name, tensor in ours.items())
