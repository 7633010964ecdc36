"""What a merged model folder takes from its base, and what replacing one may cost: nothing that is not the model's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.errors import FileFormatError, OutputError
from lora_core.files import foldercontent
from lora_core.files.foldercontent import other_files
from tests import tiny
from tests.core import samples

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


class Scene:
    """A model folder, a LoRA for it, and something private beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model, self.out = folder, folder / "model", folder / "results/out"
        self.out.parent.mkdir()
        tensors = samples.load(tiny.make_tiny("wan21", folder / "wan.safetensors", dtype=torch.bfloat16))
        self.tensors = tensors
        samples.save(self.model / WEIGHTS, tensors)
        for name in ("model_index.json", "transformer/config.json", "tokenizer/vocab.json"):
            (self.model / name).parent.mkdir(exist_ok=True)
            (self.model / name).write_text("{}")
        self.lora = tiny.make_lora(folder / "l.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 2)
        self.secret = folder / "secret"
        (self.secret / "deep").mkdir(parents=True)
        for name in ("id_rsa", "deep/token.json", "deep/notes.txt"):
            (self.secret / name).write_text("PRIVATE")

    def merge(self, **options: bool) -> lora_core.Report:
        return lora_core.merge(self.model, [self.lora], self.out, **options)

    def written(self) -> list[str]:
        return sorted(path.relative_to(self.out).as_posix() for path in self.out.rglob("*") if not path.is_dir())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


OWN = ["lora_core_receipt.json", "model_index.json", "tokenizer/vocab.json", "transformer/config.json", WEIGHTS]


# Links of the base


@pytest.mark.attack(10)
@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("keys", "../secret"),
        ("tokenizer/keys", "../../secret/deep"),
        ("notes.txt", "../secret/id_rsa"),
        ("tokenizer/special.json", "../../secret/deep/token.json"),
        ("style.safetensors", "../secret/id_rsa"),
        ("all", ".."),
        ("root", "/"),
    ],
)
def test_nothing_outside_of_the_folder_is_copied(scene: Scene, name: str, to: str) -> None:
    (scene.model / name).symlink_to(to)
    report = scene.merge()
    assert scene.written() == OWN
    (warning,) = [text for text in report.warnings if "not followed" in text]
    assert name in warning
    assert "PRIVATE" not in "".join(path.read_text("latin-1") for path in scene.out.rglob("*") if path.is_file())


@pytest.mark.attack(10)
def test_a_component_that_is_a_link_out_of_the_folder_is_refused(scene: Scene) -> None:
    (scene.model / "transformer").rename(scene.secret / "transformer")
    (scene.model / "transformer").symlink_to("../secret/transformer")
    text = samples.message(FileFormatError, scene.merge)
    assert text.startswith("model: transformer is a link out of the folder, which is not followed; ")


@pytest.mark.attack(10)
def test_links_to_folders_of_the_model_are_followed_and_do_not_double(scene: Scene) -> None:
    (scene.model / "tokenizer_2").symlink_to("tokenizer")
    (scene.model / "tokenizer/up").symlink_to("..")
    scene.merge()
    assert "tokenizer_2/vocab.json" in scene.written()


@pytest.mark.attack(10)
def test_links_that_double_are_walked_in_few_steps(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 40 folders is linked to twice from the one before: 2^40 ways."""
    for number in range(40):
        (scene.model / f"d{number}").mkdir()
        for letter in "ab":
            (scene.model / f"d{number}/{letter}").symlink_to(f"../d{number + 1}")
    (scene.model / "d40").mkdir()
    (scene.model / "d40/x.txt").write_text("x")
    listed, iterdir = list[Path](), Path.iterdir

    def counted(path: Path) -> object:
        listed.append(path)
        assert len(listed) < 1000, "it would never end"
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", counted)
    found = other_files(scene.model, ())
    assert "d39/a/x.txt" in {"/".join(names) for _, names in found.files}
    assert len(found.files) < 10


@pytest.mark.attack(10)
def test_a_folder_of_more_files_than_a_model_has_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foldercontent, "MOST_FILES", 10)
    for number in range(10):
        (scene.model / f"{number}.txt").touch()
    assert samples.message(FileFormatError, scene.merge).startswith("model: holds more than 10 files")


@pytest.mark.attack(10)
def test_a_folder_of_hugging_faces_cache_is_copied_whole(scene: Scene) -> None:
    """There every file is a link to one that is named by its hash."""
    repository = scene.folder / "models--someone--model"
    snapshot, blobs = repository / "snapshots/0123", repository / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in scene.model.rglob("*") if path.is_file())):
        digest = f"{number:064x}" if number % 2 else f"{number:040x}"
        link = snapshot / path.relative_to(scene.model)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / digest)
        link.symlink_to(os.path.relpath(blobs / digest, link.parent))
    report = lora_core.merge(snapshot, [scene.lora], scene.out)
    assert scene.written() == OWN
    assert not any("not followed" in text for text in report.warnings)
    assert not any(path.is_symlink() for path in scene.out.rglob("*"))


@pytest.mark.attack(10)
def test_weights_on_another_drive_are_copied(scene: Scene) -> None:
    samples.save(scene.secret / "vae.safetensors", {"x": torch.ones(2)})
    (scene.model / "vae").mkdir()
    (scene.model / "vae/model.safetensors").symlink_to("../../secret/vae.safetensors")
    scene.merge()
    assert samples.load(scene.out / "vae/model.safetensors")["x"].tolist() == [1, 1]


# What an existing folder holds


@pytest.mark.attack(11)
@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "mine.safetensors",
        "loras/ink.safetensors",
        ".git/config",
        "transformer/before.safetensors",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
        "tokenizer/deep/er/precious.json",
        "pictures/link",
    ],
)
def test_what_is_not_the_models_is_named_and_stays(scene: Scene, name: str) -> None:
    scene.merge()
    precious = scene.out / name
    precious.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("link"):
        precious.symlink_to("../../../secret")
    else:
        precious.write_text("precious")
    before = {path: path.lstat() for path in scene.out.rglob("*")}
    steps = list[int]()
    options = {"overwrite": True, "on_step": lambda done, total: steps.append(done)}
    text = samples.message(OutputError, lambda: lora_core.merge(scene.model, [scene.lora], scene.out, **options))
    assert text == (
        f"out: holds what is not of the model and would be lost: {name}; move it elsewhere, or choose another name."
    )
    assert steps == []  # before the work
    assert {path: path.lstat() for path in scene.out.rglob("*")} == before
    assert samples.partials(scene.out.parent) == []


@pytest.mark.attack(11)
def test_a_model_alone_is_replaced(scene: Scene) -> None:
    scene.merge()
    (scene.out / ".DS_Store").write_text("")
    (scene.out / "empty").mkdir()
    scene.merge(overwrite=True)
    assert scene.written() == OWN


@pytest.mark.attack(11)
def test_a_model_in_other_files_is_replaced(scene: Scene) -> None:
    """What was there is one file without a component's folder; a VAE, which is not written again, is not lost."""
    samples.save(scene.out / "model.safetensors", {"x": torch.ones(2)})
    (scene.out / "config.json").write_text("{}")
    samples.save(scene.out / "vae/diffusion_pytorch_model.safetensors", {"x": torch.ones(2)})
    assert "vae/diffusion_pytorch_model.safetensors" in samples.message(
        OutputError, lambda: scene.merge(overwrite=True)
    )
    (scene.out / "vae/diffusion_pytorch_model.safetensors").unlink()
    scene.merge(overwrite=True)
    assert scene.written() == OWN


@pytest.mark.attack(11)
def test_what_is_put_there_during_the_merge_stays(scene: Scene) -> None:
    scene.merge()

    def put(done: int, total: int) -> None:
        if done == total:
            (scene.out / "notes.txt").write_text("precious")

    text = samples.message(
        OutputError, lambda: lora_core.merge(scene.model, [scene.lora], scene.out, overwrite=True, on_step=put)
    )
    assert "would be lost: notes.txt" in text
    assert (scene.out / "notes.txt").read_text() == "precious"
    assert samples.partials(scene.out.parent) == []
