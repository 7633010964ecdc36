"""`lora-core import`, and `run` on a workflow with other packs' stacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lora_core
from lora_core.cli.entry import main
from lora_core.errors import OutputError
from tests import manifests, tiny

WORKFLOW = "the workflow"  # stands for its path among a test's arguments


@pytest.fixture(scope="module")
def rgthree(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a workflow with rgthree's loader."""
    path = tmp_path_factory.mktemp("rgthree") / "rgthree_editor.json"
    path.write_text(json.dumps(manifests.workflow("rgthree_editor")), encoding="utf-8")
    return str(path)


def types(path: Path) -> list[str]:
    return [node["type"] for node in json.loads(path.read_text("utf-8"))["nodes"]]


def test_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str], rgthree: str) -> None:
    ours, back = tmp_path / "ours.json", tmp_path / "back.json"
    assert main(["import", rgthree, "--out", str(ours)]) == 0
    assert {"LoraCoreStack", "LoraCoreLoad"} <= set(types(ours))
    assert "converted 1 node\n" in capsys.readouterr().out
    assert main(["import", str(ours), "--to", "builtin", "--out", str(back), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["operation"] == "import"
    assert report["notes"][0] == "converted 1 node"
    assert any("people/alice.safetensors is switched off" in note for note in report["notes"])
    assert [output["name"] for output in report["outputs"]] == ["back.json"]
    assert types(back).count("LoraLoader") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.json", "ours.json"]


def test_never_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], rgthree: str) -> None:
    out = tmp_path / "ours.json"
    out.write_text("mine")
    assert main(["import", rgthree, "--out", str(out)]) == 1
    assert "ours.json: already exists" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["import", rgthree, "--out", str(out), "--overwrite"]) == 0
    assert "LoraCoreStack" in types(out)
    with pytest.raises(OutputError, match="is also an input"):
        lora_core.import_workflow(out, out, overwrite=True)


def test_an_error_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], rgthree: str) -> None:
    bad, out = tmp_path / "bad.json", tmp_path / "out.json"
    for text, error in (
        ("[1]", "bad.json: workflow: expected ComfyUI's editor or API format."),
        ("[" * 100_000, "bad.json: not a workflow file: "),
        ("[" * 200 + "]" * 200, "bad.json: not a workflow file: it has more than 100 levels."),
    ):
        bad.write_text(text)
        assert main(["import", str(bad), "--out", str(out)]) == 1
        assert error in capsys.readouterr().err
        assert not out.exists()
    assert main(["import", rgthree, "--out", str(tmp_path / "out.txt")]) == 1
    assert "must end in .json" in capsys.readouterr().err


def test_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["import", "--text", "<lora:a:1:0.5>", "--dialect", "a1111"]) == 0
    row = {"on": True, "name": "a", "strength": 0.5, "strength_clip": 1.0, "blocks": "", "hash": "", "size": 0}
    assert json.loads(capsys.readouterr().out) == {"v": 1, "rows": [row]}
    (tmp_path / "loras/styles").mkdir(parents=True)
    (tmp_path / "loras/styles/a.safetensors").touch()
    assert main(["import", "--text", "<lora:a:1><lora:b:1:1:x>", "--models", str(tmp_path), "--json"]) == 0
    shown = capsys.readouterr()
    assert [row["name"] for row in json.loads(shown.out)["rows"]] == ["styles/a.safetensors", "b"]
    assert shown.err == "<lora:b:1:1:x>: b: no such file.\n<lora:b:1:1:x>: x is not kept.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["import", WORKFLOW],
        ["import", WORKFLOW, "--text", "x", "--out", "o.json"],
        ["import", "--text", "<lora:a>", "--out", "o.json"],
        ["import", "--text", "<lora:a:x>"],
        ["import", WORKFLOW, "--out", "o.json", "--to", "a1111"],
    ],
)
def test_wrong_usage(arguments: list[str], rgthree: str) -> None:
    try:
        assert main([rgthree if one == WORKFLOW else one for one in arguments]) == 2
    except SystemExit as left:
        assert left.code == 2


def test_run_reads_other_packs_nodes(tmp_path: Path) -> None:
    """A stack of another pack, wired into a merge: names that lack folder and ending find their files."""
    models, base = tmp_path / "models", tmp_path / "models/checkpoints/wan.safetensors"
    tiny.make_tiny("wan21", base)
    for seed, name in enumerate(("styles/ink", "turbo")):
        tiny.make_lora(models / f"loras/{name}.safetensors", tiny.modules("wan21"), seed=seed)
    rows: list[dict[str, Any]] = [
        {"name": "turbo", "strength": "0.5", "active": True},
        {"name": "ink", "strength": 0.25, "active": True},
        {"name": "gone", "strength": 1, "active": False},
    ]
    workflow = {
        "1": {"class_type": "Lora Stacker (LoraManager)", "inputs": {"text": "", "loras": {"__value__": rows}}},
        "2": {"class_type": "LoraCoreMerge", "inputs": {"checkpoint": "wan.safetensors", "lora_stack": ["1", 0]}},
    }
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(workflow))
    (report,) = lora_core.run(file, models=models, output=tmp_path / "output")
    assert report.notes[0] == "workflow.json: converted 1 node of other packs, to read as ours"
    assert "node 1 (Lora Stacker (LoraManager)): gone: no such file." in report.notes
    (written,) = (tmp_path / "output").rglob("*.safetensors")
    stack = [(models / "loras/turbo.safetensors", 0.5), (models / "loras/styles/ink.safetensors", 0.25)]
    lora_core.merge(base, stack, tmp_path / "expected.safetensors")
    assert written.read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
