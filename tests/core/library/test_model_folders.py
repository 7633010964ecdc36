"""A models folder as ComfyUI sees it: endings, links, older names, and more roots by extra_model_paths.yaml."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_core.errors import FileFormatError
from lora_core.files.hashes import Hashes
from lora_core.files.walking import files_below
from lora_core.library.extrapaths import extra_folders
from lora_core.library.modelfolders import ENDINGS, ModelFolders


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(models: Path, kind: str, name: str) -> Path:
    listing = ModelFolders(models).listing(kind, Hashes())
    return listing.path(listing.find(name).name)


def test_every_ending_in_any_letters_and_nothing_else(tmp_path: Path) -> None:
    names = [f"a{ending}" for ending in ENDINGS] + ["b.SAFETENSORS", "c.Sft", "deep/er/d.ckpt"]
    touch(*(tmp_path / "loras" / name for name in (*names, "a.txt", "a.json", "a.preview.png", ".git/x.pt")))
    assert sorted(ModelFolders(tmp_path).names("loras")) == sorted(names)


def test_linked_folders_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path / "drive/styles/ink.safetensors")
    loras = tmp_path / "models/loras"
    loras.mkdir(parents=True)
    (loras / "nas").symlink_to(tmp_path / "drive", target_is_directory=True)
    (loras / "again").symlink_to(tmp_path / "drive/styles", target_is_directory=True)
    (tmp_path / "drive/styles/round").symlink_to(tmp_path / "drive", target_is_directory=True)
    (loras / "nowhere").symlink_to(tmp_path / "gone")
    names = ModelFolders(tmp_path / "models").names("loras")
    assert {"nas/styles/ink.safetensors", "again/ink.safetensors"} <= set(names)
    assert len(names) < 6
    assert sum(path.name == "ink.safetensors" for path in files_below(tmp_path / "drive")) == 1
    (tmp_path / "all").symlink_to(tmp_path / "models", target_is_directory=True)
    assert ModelFolders(tmp_path / "all").names("loras") == names


def test_what_folders_were_called_before(tmp_path: Path) -> None:
    """ComfyUI's order: unet before diffusion_models, clip after text_encoders; new files go to neither."""
    for folder in ("unet", "diffusion_models", "text_encoders", "clip"):
        touch(tmp_path / folder / f"{folder}.safetensors", tmp_path / folder / "same.safetensors")
    assert found(tmp_path, "diffusion_models", "unet.safetensors").parent.name == "unet"
    assert found(tmp_path, "diffusion_models", "same.safetensors").parent.name == "unet"
    assert found(tmp_path, "text_encoders", "clip.safetensors").parent.name == "clip"
    assert found(tmp_path, "text_encoders", "same.safetensors").parent.name == "text_encoders"
    folders = ModelFolders(tmp_path)
    assert [folders.roots(kind)[0].name for kind in ("diffusion_models", "text_encoders")] == [
        "diffusion_models", "text_encoders",
    ]  # fmt: skip


EXTRA = r"""# ComfyUI's own file
comfyui:
    base_path: {base}/other/   # a comment
    is_default: true
    checkpoints: models/checkpoints
    unet: models/unet

a1111:
     base_path: '{base}/webui'
     loras: |
          models/Lora
          models/LyCORIS

     embeddings: embeddings
alone:
  loras: more loras
  "checkpoints": {base}/absolute
"""


def test_more_roots_of_a_kind(tmp_path: Path) -> None:
    models = tmp_path / "comfy/models"
    touch(models / "loras/own.safetensors", models / "checkpoints/own.safetensors")
    (tmp_path / "comfy/extra_model_paths.yaml").write_text(EXTRA.format(base=tmp_path.as_posix()))
    touch(
        *(tmp_path / f"webui/models/{name}.pt" for name in ("Lora/a", "LyCORIS/b", "LyCORIS/own", "other/c")),
        tmp_path / "comfy/more loras/d.safetensors", tmp_path / "absolute/e.ckpt",
        tmp_path / "other/models/checkpoints/own.safetensors", tmp_path / "other/models/unet/f.sft",
    )  # fmt: skip
    folders = ModelFolders(models)
    assert sorted(folders.names("loras")) == ["a.pt", "b.pt", "d.safetensors", "own.pt", "own.safetensors"]
    assert sorted(folders.names("checkpoints")) == ["e.ckpt", "own.safetensors"]
    assert found(models, "checkpoints", "own.safetensors").parts[-4] == "other", "the default folders come first"
    assert found(models, "diffusion_models", "f.sft").is_file()
    assert folders.roots("checkpoints")[0] == tmp_path / "other/models/checkpoints"


def test_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRIVE", str(tmp_path / "drive"))
    file = tmp_path / "extra_model_paths.yaml"
    file.write_text("\ufeffa:\n  base_path: ~/x\n  loras: y\nb:\n  base_path: $DRIVE\n  loras: z\nc:\n", "utf-8")
    expected = [str(tmp_path / name) for name in ("home/x/y", "drive/z")]
    assert [str(folder.path) for folder in extra_folders(file)] == [os.path.normpath(one) for one in expected]


@pytest.mark.parametrize("text", ["a:\n  loras: [x, y]\n- z", "just text", "  loras: x", "a:\n\tloras: x"])
def test_more_yaml_than_is_read_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "extra_model_paths.yaml"
    file.write_text(text)
    with pytest.raises(FileFormatError, match=r"extra_model_paths\.yaml: line \d is not `key: value`"):
        extra_folders(file)
