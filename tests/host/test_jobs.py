"""Merge and Extract as jobs in the real ComfyUI: the same bytes everywhere, cancelled at once, refused with words."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.host.families import FAMILIES, Prompt, builtin_chain, node, our_stack, render, stack_rows
from tests.host_server import REPO, Run, Server
from tests.manifests import checkpoint

FLUX = FAMILIES[0]
STACK = ((FLUX.lora("a"), 0.8, 0.6), (FLUX.lora("b"), -0.5, 0.7))
CANCEL_SECONDS = 2.0


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> None:
    FLUX.write(server)


def test_node_command_line_and_headless_write_the_same_bytes(server: Server, tmp_path: Path) -> None:
    prompt = merge_prompt(FLUX.model, *STACK, prefix="same/flux", dtype="bf16")
    run = server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    by_node = (server.models / "checkpoints/same/flux_00001_.safetensors").read_bytes()

    loras = [part for name, *strengths in STACK for part in ("--lora", server.models / "loras" / name, *strengths)]
    base = server.models / "checkpoints" / FLUX.model
    commands = [["merge", "--base", base, *loras, "--out", tmp_path / "command/it.safetensors", "--dtype", "bf16"]]
    (tmp_path / "command").mkdir()
    for name, workflow in (("api", prompt), ("editor", editor_workflow(prompt))):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(workflow), encoding="utf-8")
        commands.append(["run", file, "--models", server.models, "--output", tmp_path / name])
    lora_core(server, *commands)
    for name in ("command", "api", "editor"):
        (written,) = (tmp_path / name).rglob("*.safetensors")
        assert written.read_bytes() == by_node


def test_never_over_an_existing_file(server: Server) -> None:
    names = []
    for strength in (1.0, 2.0):
        run = server.run(merge_prompt(FLUX.model, (FLUX.lora("a"), strength, 1.0), prefix="twice/flux"))
        names.append(run.outputs["merge"]["report"][0]["outputs"][0]["name"])
    assert names == ["flux_00001_.safetensors", "flux_00002_.safetensors"]


def test_report_comes_with_the_run_and_from_the_cache(server: Server) -> None:
    prompt = FLUX.prompt(our_stack(*STACK))
    node("report", prompt, "PreviewAny", source=["load", 2])
    first, second = server.run(prompt), server.run(prompt)
    assert "load" in second.cached
    for run in (first, second):
        assert run.text("load") == run.text("report")
        lines = run.text("load").splitlines()
        told = "a.safetensors: 83/83 · Flux.1 dev · LoRA r4 · kohya names · scale 0.5 (alpha 2, tensor) · Δ "
        assert re.fullmatch(re.escape(told) + r"[\d.]+ % · strength 0.8, clip 0.6", lines[0])
        assert run.outputs["load"]["report"][0]["loras"][1]["modules_matched"] == 83


def test_without_a_lora_the_model_passes_through(server: Server) -> None:
    run = server.run(FLUX.prompt(our_stack()))
    assert (run.status, run.text("load")) == ("success", "no LoRA: the model passes through unchanged")


def test_other_nodes_keep_working_beside_ours(server: Server) -> None:
    """Built-in loaders before and after, a model merge, and CheckpointSave see our patches as their own."""
    name = FLUX.lora("a")
    one_by_one = FLUX.prompt(chain("LoraCoreLoad", "LoraLoader", "LoraCoreLoad", name=name))
    ours = FLUX.prompt(our_stack(*[(name, 0.5, 0.5)] * 3))
    assert abs(render(server, one_by_one) - render(server, ours)).max() <= 1

    merged = FLUX.prompt(our_stack((name, 1.0, 0.0)))
    node("base", merged, "CheckpointLoaderSimple", ckpt_name=FLUX.model)
    node("blend", merged, "ModelMergeSimple", model1=["load", 0], model2=["base", 0], ratio=0.5)
    merged["sampler"]["inputs"]["model"] = ["blend", 0]
    half = render(server, FLUX.prompt(our_stack((name, 0.5, 0.0))))
    assert abs(render(server, merged) - half).mean() < 0.3  # ModelMergeSimple blends in the storage dtype, bf16


def test_hook_loras_work_beside_ours(server: Server) -> None:
    """A LoRA scheduled by ComfyUI's hooks, on a model that ours has patched, is as good as on the built-in loader's."""
    images = {}
    for name, patch in (("ours", our_stack(STACK[0])), ("builtin", builtin_chain(STACK[0])), ("none", None)):
        prompt = FLUX.prompt(patch)
        node("hook", prompt, "CreateHookLora", lora_name=STACK[1][0], strength_model=0.7, strength_clip=0.0)
        pair = {"positive_NEW": ["text", 0], "negative_NEW": ["text", 0]}
        node(
            "pair",
            prompt,
            "PairConditioningSetProperties",
            **pair,
            strength=1.0,
            set_cond_area="default",
            hooks=["hook", 0],
        )
        prompt["sampler"]["inputs"] |= {"positive": ["pair", 0], "negative": ["pair", 1]}
        images[name] = render(server, prompt)
    plain = render(server, FLUX.prompt(our_stack(STACK[0])))
    assert abs(images["ours"] - plain).mean() > 1, "the hook changes the image"
    assert abs(images["ours"] - images["none"]).mean() > 1, "and so does our LoRA"
    assert abs(images["ours"] - images["builtin"]).max() <= 1


def test_low_vram_mode_gives_the_same_weights(server: Server) -> None:
    """There the host rebuilds our patches from copies of their tensors, and uses the result in the layer's dtype."""
    prompt: Prompt = {}
    node("model", prompt, "CheckpointLoaderSimple", ckpt_name=FLUX.model)
    patched, _ = our_stack(*STACK)(prompt, ["model", 0], None)
    node("check", prompt, "LoraCoreTestLowVram", model=patched)
    node("show", prompt, "PreviewAny", source=["check", 0])
    run = server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    results = json.loads(run.text("show"))
    assert len(results) == 2 * 23
    for name, (dtype, error) in results.items():
        assert name.endswith(dtype)
        # bf16 rounds the weight, here about three times as large as the change, to 8 bits
        assert error < (1e-6 if dtype == "torch.float32" else 0.03), name


def test_model_saved_by_comfyui_is_the_merged_file(server: Server) -> None:
    prompt: Prompt = {}
    node("model", prompt, "CheckpointLoaderSimple", ckpt_name=FLUX.model)
    patched, _ = our_stack((FLUX.lora("a"), 0.8, 0.0))(prompt, ["model", 0], None)
    node("save", prompt, "ModelSave", model=patched, filename_prefix="saved/flux")
    # on a CPU ComfyUI holds and saves the model in fp32
    merging = merge_prompt(FLUX.model, (FLUX.lora("a"), 0.8, 0.0), prefix="saved/flux", dtype="fp32")
    for job in (prompt, merging):
        run = server.run(job)
        assert (run.status, run.error) == ("success", "")
    (saved,) = (server.output / "saved").glob("*.safetensors")
    theirs = load_file(saved)
    ours = load_file(server.models / "checkpoints/saved/flux_00001_.safetensors")
    assert len(theirs) > 40
    assert [key for key, tensor in theirs.items() if not torch.equal(tensor, ours[key])] == []


PHASES = {"merge": ("reading", "merging", "verifying"), "extract": ("reading", "extracting")}


@pytest.mark.case(20)
@pytest.mark.parametrize("job, phase", [(job, phase) for job, phases in PHASES.items() for phase in phases])
def test_cancel_stops_within_two_seconds(server: Server, job: str, phase: str, big_files: tuple[str, str, str]) -> None:
    base, tuned, lora = big_files
    if job == "merge":
        prompt = merge_prompt(base, (lora, 1.0, 1.0), prefix="cancelled/job")
        prompt["merge"]["inputs"]["verify"] = True
    else:
        prompt = {}
        node(job, prompt, "LoraCoreExtract", base=base, tuned=tuned, **EXTRACT, filename_prefix="cancelled/job")
    run, seconds = interrupted(server, prompt, phase)
    assert run.status == "interrupted"
    assert seconds < CANCEL_SECONDS
    left = [path for path in server.models.rglob("*") if path.name.endswith(".partial") or "cancelled/job" in str(path)]
    assert left == []
    assert server.run(FLUX.prompt()).status == "success"


EXTRACT = {"rank": 8, "energy": 0.0, "max_rank": 8, "conv_rank": 0, "dialect": "kohya", "dtype": "fp16"}


@pytest.fixture(scope="module")
def big_files(server: Server) -> tuple[str, str, str]:
    """A checkpoint of a true size without data, one that differs from it, and a LoRA for it."""
    keys = tiny.with_dtype({k: v for k, v in checkpoint("sd15").keys.items() if "diffusion_model" in k})
    base = tiny.sparse_file(server.models / "checkpoints/big.safetensors", keys)
    tuned = server.models / "checkpoints/big_tuned.safetensors"
    tuned.write_bytes(b"")
    os.truncate(tuned, base.stat().st_size)
    with base.open("rb") as source, tuned.open("r+b") as target:
        header = 8 + int.from_bytes(source.read(8), "little")
        source.seek(0)
        target.write(source.read(header))
        for _ in range(64):  # something to decompose in every other layer
            target.seek(20 * 2**20, 1)
            target.write(bytes(range(1, 65)) * 4096)
    lora = server.models / "loras/big.safetensors"
    module = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    tiny.make_lora(lora, {module: (640, 640)}, 4)
    return base.name, tuned.name, lora.name


BAD_LORAS = {
    "truncated": "truncated: has",
    "checkpoint": "is a checkpoint of Flux.1 dev, not a LoRA",
    "nan": "holds NaN or infinity",
    "half": "has up without down",
    "shape": "expected [384, 128], found [384, 64]",
    "page": "found an HTML page",
}


@pytest.mark.parametrize("kind", BAD_LORAS)
def test_bad_lora_is_a_node_error(server: Server, kind: str) -> None:
    path = server.models / "loras/bad" / f"{kind}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_bad(path, kind, server)
    for prompt in (
        FLUX.prompt(our_stack((f"bad/{kind}.safetensors", 1.0, 1.0))),
        merge_prompt(FLUX.model, (f"bad/{kind}.safetensors", 1.0, 1.0), prefix=f"bad/{kind}"),
    ):
        run = server.run(prompt)
        assert run.status == "error"
        assert BAD_LORAS[kind] in run.error
        assert f"{kind}.safetensors" in run.error
    assert not list((server.models / "checkpoints/bad").glob(f"*{kind}*"))


def test_lora_as_checkpoint_is_a_node_error(server: Server) -> None:
    source = server.models / "loras" / FLUX.lora("a")
    (server.models / "checkpoints/lora.safetensors").write_bytes(source.read_bytes())
    run = server.run(merge_prompt("lora.safetensors", (FLUX.lora("a"), 1.0, 1.0), prefix="bad/lora"))
    assert run.status == "error"
    assert "lora.safetensors: is a LoRA, not a checkpoint" in run.error


def write_bad(path: Path, kind: str, server: Server) -> None:
    good = load_file(server.models / "loras" / FLUX.lora("a"))
    module = "lora_unet_double_blocks_0_img_attn_qkv"
    if kind == "nan":
        good[f"{module}.lora_up.weight"][3, 1] = float("nan")
    elif kind == "half":
        del good[f"{module}.lora_down.weight"]
    elif kind == "shape":
        good = {key: value for key, value in good.items() if key.startswith(module + ".")}
        good[f"{module}.lora_down.weight"] = good[f"{module}.lora_down.weight"][:, :64].contiguous()
    save_file(good, path)
    if kind == "truncated":
        os.truncate(path, path.stat().st_size - 100)
    elif kind == "checkpoint":
        path.write_bytes((server.models / "checkpoints" / FLUX.model).read_bytes())
    elif kind == "page":
        path.write_text("<!DOCTYPE html><title>403</title>", encoding="utf-8")


def merge_prompt(model: str, *stack: tuple[str, float, float], prefix: str, dtype: str = "keep") -> Prompt:
    prompt: Prompt = {}
    node("stack", prompt, "LoraCoreStack", rows=stack_rows(*stack))
    node(
        "merge", prompt, "LoraCoreMerge", checkpoint=model, lora_stack=["stack", 0], filename_prefix=prefix,
        dtype=dtype, semantics="paper", on_unmatched="warn", verify=False,
    )  # fmt: skip
    return prompt


def chain(*classes: str, name: str) -> Any:
    """Loaders of several kinds, one after the other, each with the same LoRA at half strength."""

    def patch(prompt: Prompt, model: list[Any], clip: list[Any] | None) -> tuple[list[Any], list[Any] | None]:
        strengths = {"strength_model": 0.5, "strength_clip": 0.5}
        for index, class_type in enumerate(classes):
            more = {"on_unmatched": "warn", "semantics": "paper"} if class_type == "LoraCoreLoad" else {}
            node(f"l{index}", prompt, class_type, model=model, clip=clip, lora_name=name, **strengths, **more)
            model, clip = [f"l{index}", 0], [f"l{index}", 1]
        return model, clip

    return patch


def interrupted(server: Server, prompt: Prompt, phase: str) -> tuple[Run, float]:
    """Run `prompt`, cancel it in this phase, and return its end and the seconds that the server worked on after it.

    Seconds of its processor, where the system tells them: how busy the machine is otherwise, and how long its disk
    takes to free a file, is not the node's affair.
    """
    asked: list[float] = []

    def cancel(event: str, data: Any) -> None:
        if event == "loracore.phase" and data["phase"] == phase and not asked:
            asked.append(server.worked())
            server.interrupt()

    run = server.run(prompt, on_event=cancel)
    assert asked, f"never came to {phase}"
    return run, server.worked() - asked[0]


def lora_core(server: Server, *commands: list[Any]) -> None:
    """Run command lines with ComfyUI's own Python, as the nodes run, so that the same torch computes; one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = "import json, sys; from lora_core.cli.entry import main; sys.exit(any(map(main, json.loads(sys.argv[1]))))"
    command = [str(server.host.python), "-c", code, json.dumps([list(map(str, one)) for one in commands])]
    subprocess.run(command, cwd=REPO, env=environment, check=True, capture_output=True)


def editor_workflow(prompt: Prompt) -> dict[str, Any]:
    """The stack and merge nodes of `prompt` as the editor saves them."""
    merge = prompt["merge"]["inputs"]
    names = ("checkpoint", "filename_prefix", "dtype", "semantics", "on_unmatched", "verify")
    return {
        "version": 0.4,
        "nodes": [
            {"id": 1, "type": "LoraCoreStack", "inputs": [{"name": "lora_stack", "type": "LORA_STACK", "link": None}],
             "outputs": [{"name": "LORA_STACK", "links": [9]}], "widgets_values": [prompt["stack"]["inputs"]["rows"]]},
            {"id": 2, "type": "LoraCoreMerge", "inputs": [{"name": "lora_stack", "type": "LORA_STACK", "link": 9}],
             "outputs": [], "widgets_values": [merge[name] for name in names]},
        ],
        "links": [[9, 1, 0, 2, 0, "LORA_STACK"]],
    }  # fmt: skip
