"""Before a run the same is said of rows as in it: from headers alone, and in the words of Load LoRA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lora_core.library.listing import Listing
from lora_core.library.precheck import Precheck
from lora_core.operations.inspecting.inspect import inspect
from lora_core.operations.merging.merge import merge
from tests.tiny import flat, make_lora, make_tiny, modules


@pytest.fixture
def flux(tmp_path: Path) -> Path:
    return make_tiny("flux", tmp_path / "models/flux.safetensors")


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    """Four LoRA files: for the model, half for it, for another, and one that is broken."""
    folder = tmp_path / "loras"
    folder.mkdir()
    named = flat("lora_unet_", modules("flux"))
    make_lora(folder / "full.safetensors", named)
    some = dict(list(named.items())[:3])
    make_lora(folder / "part.safetensors", {**some, "lora_unet_double_blocks_99_img_mod_lin": (8, 8)})
    make_lora(folder / "foreign.safetensors", flat("lora_unet_", modules("sd15")))
    (folder / "broken.safetensors").write_bytes(b"nothing")
    return Listing(sorted(path.name for path in folder.iterdir()), folder.joinpath, "the loras folder")


def rows(model: Path | None, listing: Listing, *names: str, **fields: Any) -> list[dict[str, Any]]:
    return Precheck().check(model, [{"name": name, **fields} for name in names], listing)["rows"]


def test_states(flux: Path, listing: Listing) -> None:
    found = Precheck().check(flux, [{"name": name} for name in ("full.safetensors", "", "none.safetensors")], listing)
    assert found["title"] == "Flux.1 dev"
    assert [row["state"] for row in found["rows"]] == ["full", "empty", "missing"]
    full, part, foreign, broken = rows(
        flux, listing, "full.safetensors", "part.safetensors", "foreign.safetensors", "broken.safetensors"
    )
    assert (full["state"], full["reason"], full["unmatched"]) == ("full", "", [])
    assert (part["state"], part["unmatched"]) == ("partial", ["lora_unet_double_blocks_99_img_mod_lin"])
    assert foreign["state"] == "none"
    assert broken["state"] == "broken"
    assert "broken.safetensors" in broken["reason"]
    assert str(flux.parent.parent) not in broken["reason"]


def test_says_what_the_operations_say(flux: Path, listing: Listing, tmp_path: Path) -> None:
    part, foreign = rows(flux, listing, "part.safetensors", "foreign.safetensors")
    report = merge(flux, [listing.path("part.safetensors")], tmp_path / "out.safetensors")
    assert part["reason"] in report.warnings
    summary = inspect(listing.path("part.safetensors"), [flux]).to_dict()["loras"][0]["summary"]
    assert part["summary"] == summary
    with pytest.raises(ValueError, match="Flux") as error:
        merge(flux, [listing.path("foreign.safetensors")], tmp_path / "out2.safetensors")
    assert foreign["reason"] == str(error.value)


def test_without_a_model(listing: Listing) -> None:
    (row,) = rows(None, listing, "full.safetensors")
    assert (row["state"], row["reason"], row["name"]) == ("unknown", "", "full.safetensors")


def test_a_model_that_can_not_be_read(tmp_path: Path, listing: Listing) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing")
    found = Precheck().check(path, [{"name": "full.safetensors"}], listing)
    assert found["rows"][0]["state"] == "unknown"
    assert "model.safetensors" in found["error"]
    assert str(tmp_path) not in found["error"]
    assert "can't be read" in Precheck().check(tmp_path / "gone", [], listing)["error"]


def test_pairs_and_blocks(flux: Path, listing: Listing) -> None:
    (row,) = rows(flux, listing, "full.safetensors", low="part.safetensors")
    assert (row["state"], row["low"]["state"], row["low"]["name"]) == ("full", "partial", "part.safetensors")
    assert rows(flux, listing, "full.safetensors", blocks="double.0=0.5")[0]["blocks_error"] == ""
    assert "did you mean 'double'" in rows(flux, listing, "full.safetensors", blocks="doble=0.5")[0]["blocks_error"]
    assert rows(None, listing, "full.safetensors", blocks="=")[0]["blocks_error"]


@pytest.mark.parametrize("row", [None, 7, "x", [], {"name": 7}, {"name": "x", "strength": float("nan")}])
def test_rows_by_hand(listing: Listing, row: Any) -> None:
    (found,) = Precheck().check(None, [row], listing)["rows"]
    assert found["state"] == "broken"
    assert found["reason"].startswith("row 1")


def test_files_that_change_are_read_again(flux: Path, listing: Listing) -> None:
    precheck, row = Precheck(), {"name": "full.safetensors"}
    assert precheck.check(flux, [row], listing)["rows"][0]["state"] == "full"
    make_lora(listing.path("full.safetensors"), flat("lora_unet_", modules("sd15")))
    os.utime(listing.path("full.safetensors"), ns=(0, 1))
    assert precheck.check(flux, [row], listing)["rows"][0]["state"] == "none"


def test_reads_no_tensor(flux: Path, listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_core.files.tensorfile import TensorFile

    def refuse(self: TensorFile, name: str) -> torch.Tensor:
        raise AssertionError(name)

    monkeypatch.setattr(TensorFile, "tensor", refuse)
    assert rows(flux, listing, "full.safetensors")[0]["state"] == "full"


def test_ambiguous(tmp_path: Path) -> None:
    for name in ("a/x.safetensors", "b/x.safetensors"):
        (tmp_path / name).parent.mkdir()
        save_file({"a": torch.ones(1)}, tmp_path / name)
    listing = Listing(["a/x.safetensors", "b/x.safetensors"], tmp_path.joinpath, "the loras folder")
    (row,) = rows(None, listing, "c/x.safetensors")
    assert (row["state"], row["candidates"], row["name"]) == ("ambiguous", list(listing.names), None)
