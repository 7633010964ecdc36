"""Model folders: shards behind one mapping, merged into a folder of the same layout, each broken one named."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import lora_core
from lora_core.errors import FileChangedError, FileFormatError, OptionError, OutputError, UnknownArchError
from lora_core.files.opening import open_model
from lora_core.reading.checkpoint import Checkpoint
from tests import tiny
from tests.core import samples

LAYER = "text_model.encoder.layers.0.mlp.fc1"


def shard(folder: Path, tensors: dict[str, torch.Tensor], stem: str, count: int) -> Path:
    """Write tensors as a sharded part with its index, and the files that lie beside one."""
    folder.mkdir(parents=True)
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(count):
        file = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        own = {name: tensors[name] for name in names[number::count]}
        save_file(own, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total, "kept": 1}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"kept": true}')
    return folder


@cache
def tiny_tensors(model: str, seed: int = 0) -> dict[str, torch.Tensor]:
    keys = tiny.tiny(model).items()
    return {key.removeprefix("model.diffusion_model."): tiny.fill(key, shape, seed) for key, (_, shape) in keys}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline of a sharded transformer, a text encoder, and what else such folders hold."""
    folder = tmp_path / "pipeline"
    shard(folder / "transformer", tiny_tensors("flux"), "diffusion_pytorch_model", 3)
    (folder / "text_encoder").mkdir()
    clip = tiny_tensors("clip_l")
    save_file(clip, folder / "text_encoder/model.safetensors", {"format": "pt"})
    (folder / "vae").mkdir()
    save_file({"decoder.weight": torch.ones(3)}, folder / "vae/diffusion_pytorch_model.safetensors")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer/vocab.json").write_text("{}")
    (folder / "model_index.json").write_text("{}")
    (folder / "old.ckpt").write_bytes(b"unmerged weights")
    (folder / "transformer/pytorch_model.bin").write_bytes(b"unmerged weights")
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("")
    return folder


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A LoRA for both models of the pipeline."""
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    modules[f"lora_te1_{LAYER.replace('.', '_')}"] = tuple(tiny_tensors("clip_l")[f"{LAYER}.weight"].shape)
    return tiny.make_lora(tmp_path / "lora.safetensors", modules, 2, dtype=torch.float32)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor below a folder, by the folder's name and its own."""
    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in samples.load(path).items()
    }


@pytest.mark.parametrize("dtype", ["keep", "bf16"])
def test_a_pipeline_is_merged_part_by_part(pipeline: Path, lora: Path, tmp_path: Path, dtype: Any) -> None:
    out = tmp_path / "out"
    steps: list[tuple[int, int]] = []
    report = lora_core.merge(
        pipeline, [(lora, 0.7, 0.3)], out, dtype=dtype, on_step=lambda done, total: steps.append((done, total))
    )
    found, before = weights(out), weights(pipeline)
    assert samples.same_bytes(found.pop("vae/decoder.weight"), before["vae/decoder.weight"])
    (tmp_path / "single").mkdir()
    expected: dict[str, torch.Tensor] = {}
    for part, strength in (("transformer", 0.7), ("text_encoder", 0.3)):
        tensors = {name.partition("/")[2]: value for name, value in before.items() if name.startswith(part + "/")}
        single = samples.save(tmp_path / "single" / f"{part}.safetensors", tensors)
        merged = tmp_path / "single" / f"{part}_merged.safetensors"
        lora_core.merge(single, [(lora, strength)], merged, dtype=dtype)
        expected |= {f"{part}/{name}": tensor for name, tensor in samples.load(merged).items()}
    assert found.keys() == expected.keys()
    assert [name for name in found if not samples.same_bytes(found[name], expected[name])] == []
    assert not torch.equal(found[f"text_encoder/{LAYER}.weight"].float(), before[f"text_encoder/{LAYER}.weight"])
    kept = {name for name in samples.listing(pipeline) if not name.startswith(".git")}
    kept.add("lora_core_receipt.json")
    assert set(samples.listing(out)) == kept - {"old.ckpt", "transformer/pytorch_model.bin"}
    assert report.warnings == [
        "2 other weight files left out, without the LoRAs in it: old.ckpt, transformer/pytorch_model.bin."
    ]
    assert report.loras[0].modules_matched == report.loras[0].modules_total
    assert report.outputs[0]["name"] == "out"
    assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1] and steps == sorted(steps)
    index = json.loads((out / "transformer/diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["metadata"] == {
        "total_size": sum(t.nbytes for name, t in found.items() if name.startswith("transformer/")), "kept": 1,
    }  # fmt: skip
    assert (out / "transformer/config.json").read_bytes() == (pipeline / "transformer/config.json").read_bytes()
    with Checkpoint(out) as checkpoint:  # whose index fits the files
        assert {found.prefix for found in checkpoint.found} == {"transformer/", "text_encoder/"}


def test_a_component_folder_alone(pipeline: Path, lora: Path, tmp_path: Path) -> None:
    report = lora_core.merge(pipeline / "transformer", [lora], tmp_path / "out", dtype="keep")
    assert len(report.loras[0].elsewhere) == 1
    assert samples.metadata_of(tmp_path / "out/diffusion_pytorch_model-00001-of-00003.safetensors")["format"] == "pt"
    assert "lora_core.merged_from" in samples.metadata_of(
        tmp_path / "out/diffusion_pytorch_model-00001-of-00003.safetensors"
    )


def test_what_no_lora_touches_is_copied_byte_for_byte(pipeline: Path, tmp_path: Path) -> None:
    """A LoRA of one weight: its shard is written anew, every other file is the same."""
    modules = {"lora_unet_double_blocks_0_img_attn_proj": tiny.modules("flux")["double_blocks.0.img_attn.proj"]}
    one = tiny.make_lora(tmp_path / "one.safetensors", modules, 2)
    lora_core.merge(pipeline, [one], tmp_path / "out")
    index = json.loads((pipeline / "transformer/diffusion_pytorch_model.safetensors.index.json").read_text())
    home = f"transformer/{index['weight_map']['double_blocks.0.img_attn.proj.weight']}"
    differ = [
        name
        for name in samples.listing(tmp_path / "out")
        if (tmp_path / "out" / name).is_file()
        and name != "lora_core_receipt.json"
        and (tmp_path / "out" / name).read_bytes() != (pipeline / name).read_bytes()
        and "index" not in name
    ]
    assert differ == [home]


def test_inspect_and_extract_take_folders(pipeline: Path, lora: Path, tmp_path: Path) -> None:
    lora_core.merge(pipeline, [lora], tmp_path / "out", dtype="fp32")
    report = lora_core.inspect(pipeline)
    assert any("'transformer/'" in note for note in report.notes)
    assert lora_core.inspect(lora, [pipeline]).loras[0].modules_matched == report_total(lora)
    found = lora_core.extract(pipeline, tmp_path / "out", tmp_path / "found.safetensors", rank=2, dtype="fp32")
    assert len(found.layers) == report_total(lora)
    again = tmp_path / "again"
    lora_core.merge(pipeline, [tmp_path / "found.safetensors"], again, dtype="fp32")
    expected, got = weights(tmp_path / "out"), weights(again)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=1e-5)


def report_total(lora: Path) -> int:
    return lora_core.inspect(lora).loras[0].modules_total


# Broken folders


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        change(index)
        path.write_text(json.dumps(index))

    return make


def remap(name: Any) -> Callable[[Path], None]:
    return edit(lambda index: index["weight_map"].update({"a": name}))


def add_duplicate(folder: Path) -> None:
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, folder / "model-00002-of-00002.safetensors")


def cut(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


INDEX = "model.safetensors.index.json"
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no shard": (lambda f: (f / "model-00001-of-00002.safetensors").unlink(), f"{INDEX}: model-00001-of-00002"),
    "no index": (lambda f: (f / INDEX).unlink(), "sharded: holds model-00001-of-00002.safetensors, model-00002-of"),
    "key missing": (edit(lambda i: i["weight_map"].update(c="model-00001-of-00002.safetensors")), f"{INDEX}: 'c' shou"),
    "key elsewhere": (remap("model-00002-of-00002.safetensors"), f"{INDEX}: 'a' should be in model-00002-of-00002"),
    "not listed": (edit(lambda i: i["weight_map"].pop("b2")), f"{INDEX}: 1 tensor of the files not in the index: b2"),
    "twice": (add_duplicate, f"{INDEX}: 'a' is in both model-00001-of-00002.safetensors and model-00002-of-00002"),
    "cut shard": (cut, "model-00002-of-00002.safetensors: truncated: has "),
    "parent": (remap("../secret.safetensors"), f"{INDEX}: broken index: expected the name of a .safetensors file"),
    "absolute": (remap("/etc/secret.safetensors"), f"{INDEX}: broken index: expected the name of a .safetensors"),
    "backslash": (remap("..\\secret.safetensors"), f"{INDEX}: broken index: expected the name of a .safetensors"),
    "drive": (remap("C:secret.safetensors"), f"{INDEX}: broken index: expected the name of a .safetensors file"),
    "NUL": (remap("a\0.safetensors"), f"{INDEX}: broken index: expected the name of a .safetensors file"),
    "pickle": (remap("pytorch_model.bin"), f"{INDEX}: broken index: expected the name of a .safetensors file"),
    "number": (remap(3), f"{INDEX}: broken index: expected the name of a .safetensors file in the same folder"),
    "no map": (edit(lambda i: i.pop("weight_map")), f"{INDEX}: broken index: expected weight_map with 1 to"),
    "empty map": (edit(lambda i: i.update(weight_map={})), f"{INDEX}: broken index: expected weight_map with 1 to"),
    "not JSON": (lambda f: (f / INDEX).write_text("<html>"), f"{INDEX}: broken index: Expecting value"),
    "not UTF-8": (lambda f: (f / INDEX).write_bytes(b"\xff\xfe"), f"{INDEX}: broken index: "),
    "a list": (lambda f: (f / INDEX).write_text("[]"), f"{INDEX}: broken index: expected a JSON object."),
    "deep": (lambda f: (f / INDEX).write_text("[" * 10**6), f"{INDEX}: broken index: "),
    "key twice": (lambda f: (f / INDEX).write_text('{"weight_map": {}, "weight_map": {}}'), f"{INDEX}: broken"),
    "nothing": (lambda f: [path.unlink() for path in f.iterdir()], "sharded: is a folder, but not a model folder"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    folder = shard(
        tmp_path / "sharded",
        {"a": torch.ones(2), "b": torch.ones(2), "a2": torch.ones(2), "b2": torch.ones(2)},
        "model",
        2,
    )
    save_file({"a": torch.ones(2)}, tmp_path / "secret.safetensors")
    make, expected = BROKEN[kind]
    make(folder)
    text = samples.message(FileFormatError, lambda: Checkpoint(folder))
    assert text.startswith(expected), text
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_x": (4, 4)}, 2)
    assert samples.message(FileFormatError, lambda: lora_core.merge(folder, [lora], tmp_path / "out")) == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lora.safetensors", "secret.safetensors", "sharded"]


def test_a_huge_index_is_refused_unread(tmp_path: Path) -> None:
    folder = shard(tmp_path / "sharded", {"a": torch.ones(2)}, "model", 1)
    with (folder / INDEX).open("r+b") as file:
        file.truncate(40 * 2**20)
    assert "the limit for the index of a model is" in samples.message(FileFormatError, lambda: Checkpoint(folder))


def test_a_wrong_sum_of_sizes_is_a_warning(tmp_path: Path) -> None:
    from contextlib import ExitStack

    folder = shard(tmp_path / "sharded", {"a": torch.ones(2)}, "model", 1)
    edit(lambda index: index["metadata"].update(total_size=7))(folder)
    with ExitStack() as opened:
        ((_, tensors, _),) = open_model(folder, opened)
        assert list(tensors.warnings) == [f"{INDEX}: says that the tensors have 7 bytes; they have 8."]


def test_two_models_of_one_kind_have_to_be_told_apart(tmp_path: Path) -> None:
    for name in ("transformer", "transformer_2"):
        shard(tmp_path / "pair" / name, tiny_tensors("wan21"), "diffusion_pytorch_model", 1)
    text = samples.message(UnknownArchError, lambda: Checkpoint(tmp_path / "pair"))
    assert text.startswith("pair: transformer and transformer_2 are both Wan")
    assert text.endswith("give that folder itself, e.g. pair/transformer.")


# The output


@pytest.mark.case(20)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("share", [0, 0.4, 1])  # of the bytes; how often one is told depends on the machine
def test_a_cancelled_merge_leaves_nothing(
    pipeline: Path, lora: Path, tmp_path: Path, share: float, error: type[BaseException]
) -> None:
    out = tmp_path / "results/out"
    out.parent.mkdir()
    lora_core.merge(pipeline, [lora], out)
    before = weights(out)

    def cancel(done: int, total: int) -> None:
        if done >= share * total:
            assert len([path for path in out.parent.iterdir() if path.name.endswith(".partial")]) == 1
            raise error

    with pytest.raises(error):
        lora_core.merge(pipeline, [(lora, 0.1)], out, overwrite=True, on_step=cancel)
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    after = weights(out)
    assert [name for name in before if not samples.same_bytes(before[name], after[name])] == []


def test_an_interrupt_as_soon_as_the_folder_is_there_leaves_nothing(
    pipeline: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = tmp_path / "results/out", Path.mkdir
    out.parent.mkdir()

    def interrupted(folder: Path, *arguments: int) -> None:
        made(folder, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_core.files.folderwriter.Path.mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lora_core.merge(pipeline, [lora], out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.case(17)
def test_an_input_that_changes_meanwhile_leaves_nothing(pipeline: Path, lora: Path, tmp_path: Path) -> None:
    shard_file = pipeline / "transformer/diffusion_pytorch_model-00002-of-00003.safetensors"

    def touch(done: int, total: int) -> None:
        shard_file.touch()

    (tmp_path / "results").mkdir()
    text = samples.message(
        FileChangedError, lambda: lora_core.merge(pipeline, [lora], tmp_path / "results/out", on_step=touch)
    )
    assert text.startswith("diffusion_pytorch_model-00002-of-00003.safetensors: changed while it was being read")
    assert list((tmp_path / "results").iterdir()) == []


def test_outputs_that_will_not_do(pipeline: Path, lora: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in pipeline.rglob("*") if path.is_file()}
    other = tmp_path / "letters"
    other.mkdir()
    (other / "precious.txt").write_text("precious")
    file = tmp_path / "file"
    file.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(pipeline)
    cases = {
        tmp_path / "out.safetensors": "out.safetensors: the base is a folder, and so is the output; leave .safetens",
        tmp_path / "no/out": "out: the folder ",
        pipeline: "pipeline: is also an input, or inside or around one; choose another folder.",
        pipeline / "out": "out: is also an input, or inside or around one; choose another folder.",
        tmp_path: f"{tmp_path.name}: is also an input, or inside or around one; choose another folder.",
        link: "link: is also an input, or inside or around one; choose another folder.",
        other: "letters: is not a model folder and won't be replaced.",
        file: "file: is not a folder and won't be replaced.",
        Path("/"): "/: the output needs a name of its own.",
    }
    for out, expected in cases.items():
        text = samples.message(OutputError, lambda out=out: lora_core.merge(pipeline, [lora], out, overwrite=True))
        assert text.startswith(expected)
    done = tmp_path / "done"
    lora_core.merge(pipeline, [lora], done)
    text = samples.message(OutputError, lambda: lora_core.merge(pipeline, [lora], done))
    assert text == "done: already exists; choose another name or allow overwriting."
    lora_core.merge(pipeline, [lora], done, overwrite=True)
    assert {path: path.read_bytes() for path in pipeline.rglob("*") if path.is_file()} == before
    assert (other / "precious.txt").read_text() == file.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []
    text = samples.message(
        OptionError, lambda: lora_core.merge(pipeline, [lora], tmp_path / "x", dtype="fp8_e4m3fn_scaled")
    )
    assert text.startswith("dtype: fp8_e4m3fn_scaled is ComfyUI's layout of a single file, and pipeline is a folder")
