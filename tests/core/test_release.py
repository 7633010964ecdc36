"""What a release says of itself: one version, the registry's metadata, and a workflow that publishes only what fits."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from PIL import Image

import lora_core
from tests.archive import REPO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = r"\d+\.\d+\.\d+"
RAW = "https://raw.githubusercontent.com/comfyui-lora-core/comfyui-lora-core/main/"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version(project: dict[str, Any]) -> None:
    version = project["project"]["version"]
    assert re.fullmatch(VERSION, version)
    assert lora_core.__version__ == version
    newest = re.search(r"^## (.*)$", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and newest[1] == version, "the newest heading of CHANGELOG.md is the version"


def test_the_registry_can_read_all_of_it(project: dict[str, Any]) -> None:
    name, comfy = project["project"]["name"], project["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", name) and "comfy" not in name
    assert comfy["DisplayName"] == "LoRA Core" and comfy["PublisherId"]
    assert re.fullmatch(rf">={VERSION}", comfy["requires-comfyui"]), "the registry drops a bound of two parts"
    for bound in project["project"]["dependencies"]:
        assert re.fullmatch(rf"[a-z-]+((>=|==|<){VERSION})?", bound)
    assert project["project"]["license"] == {"file": "LICENSE"}
    assert RAW.startswith(project["project"]["urls"]["Repository"].replace("github.com", "raw.githubusercontent.com"))
    assert "Operating System :: OS Independent" in project["project"]["classifiers"]


@pytest.mark.parametrize(("key", "shape", "largest"), [("Icon", 1 / 1, 400), ("Banner", 21 / 9, 1400)])
def test_pictures_are_there_and_of_the_registry_s_shape(
    project: dict[str, Any], key: str, shape: float, largest: int
) -> None:
    address = project["tool"]["comfy"][key]
    assert address.startswith(RAW)
    with Image.open(REPO / address.removeprefix(RAW)) as picture:
        width, height = picture.size
    assert width <= largest and abs(width / height - shape) < 0.01


def test_requirements_are_nothing_beyond_comfyui_s(project: dict[str, Any]) -> None:
    lines = (REPO / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    assert project["project"]["dependencies"] == ["torch", "safetensors", "numpy"]


def test_only_a_tag_that_is_the_version_is_published() -> None:
    text = (REPO / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"version=\$\(sed -n '(.*)' pyproject.toml\)", text)
    assert command == r's/^version = "\(.*\)"$/\1/p'
    found = re.findall(r'^version = "(.*)"$', (REPO / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [lora_core.__version__], "what the workflow reads is one line, and the version"
    actions = re.findall(r"uses: (\S+)", text)
    assert all(re.search(r"^actions/[\w-]+@v\d+$|^\./|@[0-9a-f]{40}$", action) for action in actions), actions
    assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE) and "write" not in text
    assert re.search(r"needs: test\n", text)


def test_ruff_holds_what_the_registry_s_tools_look_for(project: dict[str, Any]) -> None:
    assert {"S102", "S307", "E702"} <= set(project["tool"]["ruff"]["lint"]["select"])
    ignored = project["tool"]["ruff"]["lint"]["ignore"]
    assert not {"S102", "S307", "E702"} & set(ignored)
