"""A class of diffusers, built without weights, has the key list that tests/data holds of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from tests import manifests
from tests.keylist import classes, fixtures


def listed(name: str) -> dict[str, Any]:
    return fixtures.written("checkpoints", name)


@pytest.mark.parametrize("name", ["krea2", "ltxv_2b"])
def test_a_class_with_its_defaults_or_a_configuration(name: str, tmp_path: Path) -> None:
    held, path = listed(name), tmp_path / "config.json"
    path.write_text(json.dumps({"_class_name": held["diffusers_class"], **held["diffusers_config"]}), encoding="utf-8")
    found = classes.diffusers(held["diffusers_class"], path)
    assert found["diffusers_keys"] == held["diffusers_keys"]
    assert found["diffusers_config"] == held["diffusers_config"]


def test_a_configuration_is_read() -> None:
    defaults = classes.diffusers("Krea2Transformer2DModel", None)["diffusers_keys"]
    assert {tuple(shape) for shape in defaults.values()} == set(manifests.checkpoint("krea2").diffusers_keys.values())


def test_a_class_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match="has no class NoSuchModel"):
        classes.diffusers("NoSuchModel", None)


def options(name: str, **given: Any) -> argparse.Namespace:
    defaults = {"file": None, "prefix": "", "diffusers": [], "diffusers_class": "", "config": None}
    return argparse.Namespace(name=name, **{**defaults, **given})


def test_a_class_is_added_to_the_list_that_is_there() -> None:
    held = listed("krea2")
    found = fixtures.checkpoint(options("krea2", diffusers_class="Krea2Transformer2DModel"))
    assert (found["keys"], found["diffusers_keys"]) == (held["keys"], held["diffusers_keys"])


def test_a_model_that_only_diffusers_has_is_known_by_its_names_there() -> None:
    found = fixtures.checkpoint(options("newest", diffusers_class="Krea2Transformer2DModel"))
    assert (found["keys"], found["diffusers_keys"]) == (listed("krea2")["diffusers_keys"], {})


def test_a_model_of_which_nothing_is_given_is_refused() -> None:
    with pytest.raises(SystemExit, match="newest: no list is there yet"):
        fixtures.checkpoint(options("newest"))
