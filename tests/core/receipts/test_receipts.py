"""Receipts: what a merge was made from, in the file itself, and `verify`, which proves it or says what is not so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import lora_core
from lora_core.cli.entry import main
from lora_core.errors import OutputError, ReceiptError
from lora_core.files.hashes import Hashes, content_hash
from lora_core.files.tensorfile import TensorFile
from lora_core.receipts.readback import read_receipt
from lora_core.receipts.receipt import RECEIPT, RECEIPT_FILE
from tests import tiny
from tests.core import samples

BLOCKS = "double.0=0.5"


class Made:
    """A tiny Flux in bf16 with two LoRAs merged in, one of them with strengths of blocks, and what it was made from."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        modules = tiny.flat("lora_unet_", tiny.modules("flux"))
        self.base = tiny.make_tiny("flux", folder / "base.safetensors", dtype=torch.bfloat16)
        self.ink = tiny.make_lora(folder / "ink.safetensors", modules, 4, seed=1)
        self.dots = tiny.make_lora(folder / "dots.safetensors", modules, 2, seed=2)
        self.out = folder / "out.safetensors"
        stack = [(self.ink, 0.8, 0.4, BLOCKS), (self.dots, -0.3)]
        self.report = lora_core.merge(self.base, stack, self.out, **options)

    @property
    def receipt(self) -> dict[str, Any]:
        return json.loads(samples.metadata_of(self.out)[RECEIPT])

    def verify(self, **changes: Any) -> lora_core.Report:
        return lora_core.verify(self.out, **{"base": self.base, "loras": [self.ink, self.dots], **changes})

    def edit(self, key: str, change: Callable[[torch.Tensor], None]) -> None:
        """Change a tensor of the written file, and nothing else of it."""
        tensors, metadata = samples.load(self.out), samples.metadata_of(self.out)
        change(tensors[key])
        samples.save(self.out, tensors, metadata)

    def rewrite_receipt(self, change: Callable[[dict[str, Any]], Any]) -> None:
        metadata, receipt = samples.metadata_of(self.out), self.receipt
        change(receipt)
        samples.save(self.out, samples.load(self.out), {**metadata, RECEIPT: json.dumps(receipt)})


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def error(made: Made, **changes: Any) -> str:
    return samples.message(ReceiptError, lambda: made.verify(**changes))


# What is written


def test_the_receipt_says_what_the_file_was_made_from(made: Made) -> None:
    receipt = made.receipt
    told = {
        path.stem: (path.name, path.stat().st_size, samples.content_hash(path))
        for path in (made.base, made.ink, made.dots)
    }
    assert (receipt["v"], receipt["operation"]) == (1, "merge")
    assert tuple(receipt["base"][key] for key in ("name", "bytes", "sha256")) == told["base"]
    assert [tuple(one[key] for key in ("name", "bytes", "sha256")) for one in receipt["loras"]] == [
        told["ink"],
        told["dots"],
    ]
    assert [(one["strength_model"], one["strength_clip"]) for one in receipt["loras"]] == [(0.8, 0.4), (-0.3, -0.3)]
    assert [one.get("blocks") for one in receipt["loras"]] == [BLOCKS, None]
    assert receipt["options"] == {"dtype": "keep", "semantics": "paper"}
    (found,) = made.report.precision
    assert receipt["precision"] == [{**found, "error": pytest.approx(found["error"], rel=1e-3),
                                     "strength": pytest.approx(found["strength"], rel=1e-3)}]  # fmt: skip
    assert receipt["versions"] == {"lora_core": lora_core.__version__, "torch": torch.__version__.partition("+")[0]}
    assert [one["sha256"] for one in made.report.inputs] == [told[name][2] for name in ("base", "ink", "dots")]


def test_the_same_merge_gives_the_same_bytes_and_the_reference_reads_them(made: Made) -> None:
    again = lora_core.merge(made.base, [(made.ink, 0.8, 0.4, BLOCKS), (made.dots, -0.3)], made.folder / "b.safetensors")
    assert (made.folder / "b.safetensors").read_bytes() == made.out.read_bytes()
    assert again.precision == made.report.precision
    assert load_file(made.out).keys() == samples.load(made.base).keys()
    with TensorFile(made.out) as after, TensorFile(made.base) as before:
        assert {(before[name].start - after[name].start) % 4096 for name in before} == {0}


def test_a_pair_says_which_file_was_used(made: Made) -> None:
    from lora_core.stack.entry import StackEntry

    pair = StackEntry(str(made.ink), 1.0, 1.0, low=StackEntry(str(made.dots), 0.5, 0.5))
    lora_core.merge(made.base, [pair], made.out, pair="low", overwrite=True)
    (one,) = made.receipt["loras"]
    assert (one["name"], one["pair"], one["strength_model"]) == ("dots.safetensors", "low", 0.5)
    assert made.verify(loras=[made.dots]).verified["equal"]


def test_large_inputs_are_hashed_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_core.receipts.hashing.LARGE", 0)
    hashes, hashed = Hashes(), list[str]()

    def counting(path: Path, *more: Any) -> str:
        hashed.append(path.name)
        return content_hash(path, *more)

    monkeypatch.setattr("lora_core.files.hashes.content_hash", counting)
    for _ in range(2):
        lora_core.merge(made.base, [made.ink], made.out, overwrite=True, hashes=hashes)
    assert hashed == ["ink.safetensors", "base.safetensors"]
    assert made.receipt["base"]["sha256"] == samples.content_hash(made.base)


# What verify proves


@pytest.mark.parametrize("dtype", ["keep", "fp16", "fp32", "fp8_e4m3fn", "fp8_e4m3fn_scaled"])
@pytest.mark.parametrize("semantics", ["paper", "comfyui"])
def test_a_good_file_is_proved_key_by_key(tmp_path: Path, dtype: str, semantics: str) -> None:
    made = Made(tmp_path, dtype=dtype, semantics=semantics)
    report = made.verify()
    assert report.verified == {
        "name": "out.safetensors", "equal": True, "tensors": len(samples.load(made.out)), "differences": [],
    }  # fmt: skip
    assert report.text().splitlines()[-1].startswith("verified: out.safetensors is what its receipt says: ")


@pytest.mark.parametrize("key", ["double_blocks.0.img_mlp.0.weight", "double_blocks.0.img_attn.norm.key_norm.weight"])
def test_one_flipped_bit_is_found_in_what_was_changed_and_in_what_was_copied(made: Made, key: str) -> None:
    key = f"model.diffusion_model.{key}"
    before = samples.load(made.out)[key].flatten()[7].clone()

    def flip(tensor: torch.Tensor) -> None:
        tensor.view(torch.int16).flatten()[7] ^= 1

    made.edit(key, flip)
    report = made.verify()
    (one,) = report.verified["differences"]
    after = samples.load(made.out)[key].flatten()[7]
    assert (one["key"], one["values"], one["of"]) == (key, 1, samples.load(made.out)[key].numel())
    assert one["largest"] == abs(float(after) - float(before)) > 0
    assert f"not verified: 1 of {report.verified['tensors']} tensors of out.safetensors differ" in report.text()
    assert f"  {key}: 1 of {one['of']} values, by at most {one['largest']:.3g}" in report.text()


def test_tensors_that_are_missing_too_many_or_of_another_form_are_told(made: Made) -> None:
    tensors, metadata = samples.load(made.out), samples.metadata_of(made.out)
    first, second, *_ = sorted(tensors)
    del tensors[first]
    tensors[second] = tensors[second].float()
    samples.save(made.out, {**tensors, "extra": torch.ones(1)}, metadata)
    found = {one["key"]: one["why"] for one in made.verify().verified["differences"]}
    shape = list(tensors[second].shape)
    assert found == {
        first: "is missing",
        second: f"is F32 {shape}, and should be BF16 {shape}",
        "extra": "is in the file and should not be",
    }


def test_a_receipt_that_lies_about_a_strength_is_refuted(made: Made) -> None:
    made.rewrite_receipt(lambda receipt: receipt["loras"][1].update(strength_model=-0.2))
    different = made.verify().verified["differences"]
    assert len(different) == len(tiny.modules("flux"))


def test_files_may_have_other_names_and_stand_in_any_order(made: Made, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    base = made.base.rename(other / "a.safetensors")
    ink, dots = made.ink.rename(other / "b.safetensors"), made.dots.rename(other / "c.safetensors")
    moved = made.out.rename(other / "d.safetensors")
    assert lora_core.verify(moved, base=base, loras=[(dots, -0.3), (ink, 0.8, 0.4)]).verified["equal"]
    assert lora_core.verify(moved, search=[tmp_path]).verified["equal"]


def test_a_wrong_strength_is_told(made: Made) -> None:
    assert error(made, loras=[(made.ink, 0.7), made.dots]) == (
        "out.safetensors: can't be verified:\n"
        "  ink.safetensors: is given at strength 0.7, but the receipt says at strength 0.8, clip 0.4 "
        "blocks=double.0=0.5"
    )
    assert "is given at strength 0.8, but the receipt says at strength 0.8, clip 0.4" in error(
        made, loras=[(made.ink, 0.8), made.dots]
    )


def test_wrong_and_missing_inputs_are_told_all_at_once(made: Made) -> None:
    other = tiny.make_tiny("flux", made.folder / "other.safetensors", seed=9)
    stranger = tiny.make_lora(made.folder / "stranger.safetensors", tiny.modules("flux"), 2, seed=7)
    ink, dots = (f"{path.name} (sha256 {samples.content_hash(path)[:12]}, {path.stat().st_size} bytes)" for path in
                 (made.ink, made.dots))  # fmt: skip
    base = f"base.safetensors (sha256 {samples.content_hash(made.base)[:12]}, {made.base.stat().st_size} bytes)"
    assert error(made, base=other, loras=[made.ink, stranger]).splitlines() == [
        "out.safetensors: can't be verified:",
        f"  other.safetensors: is not the base that was merged into, which is {base}; its content is "
        f"{samples.content_hash(other)[:12]}",
        f"  stranger.safetensors: is not in the receipt, which names {ink}, {dots}; its content is "
        f"{samples.content_hash(stranger)[:12]}",
        f"  a LoRA is missing: {dots} at strength -0.3; give it with --lora",
    ]
    assert error(made, base=None, loras=[made.ink, made.dots]).splitlines()[1:] == [
        f"  the base is missing: {base}; give it with --base"
    ]


def test_a_lora_twice_in_a_stack_is_given_once(made: Made) -> None:
    lora_core.merge(made.base, [(made.ink, 0.5), (made.dots, 1.0), (made.ink, 0.25)], made.out, overwrite=True)
    assert made.verify(loras=[made.dots, made.ink]).verified["equal"]
    assert made.verify(loras=[(made.ink, 0.25), made.dots, (made.ink, 0.5)]).verified["equal"]
    assert "at strength 0.5 and at strength 0.25" in error(made, loras=[(made.ink, 0.3), made.dots])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda metadata: metadata.pop(RECEIPT), "out.safetensors: has no receipt: "),
        (lambda metadata: metadata.update({RECEIPT: "{"}), "out.safetensors: its receipt is broken: "),
        (lambda metadata: metadata.update({RECEIPT: '{"v": 1}'}), "out.safetensors: its receipt is broken: "),
        (lambda metadata: metadata.update({RECEIPT: "[" * 9999}), "out.safetensors: its receipt is broken: "),
        (lambda metadata: metadata.update({RECEIPT: '{"v": 2}'}), "out.safetensors: its receipt has version 2, "),
    ],
)
def test_a_file_without_a_receipt_that_can_be_read(
    made: Made, change: Callable[[dict[str, str]], Any], expected: str
) -> None:
    metadata = samples.metadata_of(made.out)
    change(metadata)
    samples.save(made.out, samples.load(made.out), metadata)
    assert error(made).startswith(expected)
    assert error(made, base=made.base, loras=[]).startswith(expected)


@pytest.mark.parametrize("name", ["../x.safetensors", "a/../../x", "/etc/x", "C:x", "..\\x", "\\\\server\\share\\x"])
def test_a_folder_s_receipt_names_no_file_elsewhere(name: str) -> None:
    def text(name: str) -> str:
        base = {"name": "model", "files": [{"name": name, "bytes": 1, "sha256": "0" * 64}]}
        return json.dumps({"v": 1, "operation": "merge", "base": base, "options": {}, "versions": {}})

    assert read_receipt(text("unet/x.safetensors"), "model").inputs["base"]
    with pytest.raises(ReceiptError, match="its receipt is broken"):
        read_receipt(text(name), "model")


def test_a_configuration_beside_a_lora_counts(made: Made) -> None:
    folder = made.folder / "peft"
    modules = {f"base_model.model.{name}": shape for name, shape in tiny.modules("flux").items() if "img_mlp" in name}
    lora = tiny.make_lora(folder / "adapter_model.safetensors", modules, 4, style="peft")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    lora_core.merge(made.base, [folder], made.out, overwrite=True)
    assert made.verify(loras=[folder]).verified["equal"]
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 2}))
    assert error(made, loras=[lora]).endswith(
        "adapter_model.safetensors: its adapter_config.json is not the one that "
        "peft/adapter_model.safetensors was merged with"
    )


def test_a_lora_in_memory_is_known_by_the_file_that_it_becomes(made: Made) -> None:
    tensors = samples.load(made.ink)
    from lora_core.stack.entry import stack_in_memory

    lora_core.merge(made.base, stack_in_memory(tensors), made.out, overwrite=True)
    saved = samples.save(made.folder / "saved.safetensors", tensors)
    assert made.receipt["loras"][0]["sha256"] == samples.content_hash(saved)
    assert made.verify(loras=[saved]).verified["equal"]


def test_folders_have_their_receipt_in_a_file(tmp_path: Path) -> None:
    base = tmp_path / "model"
    (base / "transformer").mkdir(parents=True)
    tensors = samples.load(tiny.make_tiny("wan21", tmp_path / "wan.safetensors", dtype=torch.bfloat16))
    samples.save(base / "transformer" / "diffusion_pytorch_model.safetensors", tensors)
    lora = tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 2)
    out = tmp_path / "out"
    lora_core.merge(base, [(lora, 0.5)], out, verify=True)
    receipt = json.loads((out / RECEIPT_FILE).read_text("utf-8"))
    (file,) = receipt["base"]["files"]
    assert file["name"] == "transformer/diffusion_pytorch_model.safetensors"
    assert file["sha256"] == samples.content_hash(base / file["name"])
    assert lora_core.verify(out, base=base, loras=[lora]).verified["equal"]
    lora_core.merge(out, [(lora, 0.5)], tmp_path / "again")
    assert json.loads((tmp_path / "again" / RECEIPT_FILE).read_text("utf-8"))["base"]["name"] == "out"
    weights = out / file["name"]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert len(lora_core.verify(out, base=base, loras=[lora]).verified["differences"]) == 1


def test_verifying_takes_progress_and_can_be_cancelled(made: Made) -> None:
    steps: list[tuple[int, int]] = []
    made.verify(on_step=lambda done, total: steps.append((done, total)))
    assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1] > 0

    def cancel(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.verify(on_step=cancel)


# merge --verify, and the command


def test_merge_with_verify_makes_everything_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was computed wrongly is not kept: the second time the sums are right."""
    from lora_core.operations.merging import jobs

    real, errors = jobs.apply_stack, [1.0]

    def wrong_once(*arguments: Any, **options: Any) -> torch.Tensor:
        result = real(*arguments, **options)
        if errors:
            result.view(-1)[0] += errors.pop()
        return result

    monkeypatch.setattr(jobs, "apply_stack", wrong_once)
    target = made.folder / "proved.safetensors"
    text = samples.message(OutputError, lambda: lora_core.merge(made.base, [made.ink], target, verify=True))
    assert text.startswith("proved.safetensors: tensor 'model.diffusion_model.")
    assert text.endswith("' reads back differently; nothing was kept.")
    assert not target.exists() and samples.partials(made.folder) == []


def test_the_command_says_yes_by_0_and_no_by_1(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["--base", str(made.base), "--lora", str(made.ink), "0.8", "0.4", "--lora", str(made.dots)]
    assert main(["verify", str(made.out), *inputs]) == 0
    assert "every bit equal" in capsys.readouterr().out
    made.edit("model.diffusion_model.img_in.weight", lambda tensor: tensor.view(-1)[:3].add_(1))
    assert main(["verify", str(made.out), *inputs, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verified"]["equal"] is False
    assert [(one["key"], one["values"]) for one in report["verified"]["differences"]] == [
        ("model.diffusion_model.img_in.weight", 3)
    ]
    assert main(["verify", str(made.out), "--search", str(made.folder)]) == 1
    assert main(["verify", str(made.base), *inputs]) == 1
    assert "has no receipt" in capsys.readouterr().err
