"""Each checkpoint is found to be itself and nothing else, in every layout and with any prefix."""

from __future__ import annotations

import pytest

from lora_core.arch import DIFFUSION_ARCHES
from lora_core.arch.base import DIFFUSION_PREFIXES
from lora_core.naming import detection
from lora_core.naming.detection import detect
from tests import manifests
from tests.core import samples

ARCHS = manifests.archs()

# What a whole file holds besides its diffusion model
ENCODERS_INSIDE = {"sd15": ["clip_l"], "sd21": ["clip_h"], "sdxl": ["clip_l", "clip_g"], "sdxl_refiner": ["clip_g"],
                   "ssd1b": ["clip_l", "clip_g"], "segmind_vega": ["clip_l", "clip_g"],
                   "koala_700m": ["clip_l", "clip_g"], "koala_1b": ["clip_l", "clip_g"],
                   "sd15_inpaint": ["clip_l"], "sd15_instructpix2pix": ["clip_l"], "sd2_inpaint": ["clip_h"],
                   "sd2_depth": ["clip_h"], "lotus_d": ["clip_h"], "sdxl_inpaint": ["clip_l", "clip_g"],
                   "sdxl_instructpix2pix": ["clip_l", "clip_g"]}  # fmt: skip


def own_id(arch: str) -> str:
    return manifests.checkpoint(arch).edition


@pytest.mark.parametrize("arch", ARCHS)
def test_a_checkpoint_is_found_to_be_itself_and_nothing_else(arch: str) -> None:
    manifest = manifests.checkpoint(arch)
    found = detect(manifest.keys)
    assert [item.id for item in found] == [own_id(arch), *ENCODERS_INSIDE.get(arch, [])]
    assert found[0].prefix == manifest.prefix


@pytest.mark.parametrize("arch", ARCHS)
def test_a_model_is_found_with_any_prefix_and_with_none(arch: str) -> None:
    manifest = manifests.checkpoint(arch)
    prefixes = {manifest.prefix, *manifest.other_prefixes, manifest.aio_prefix, manifest.comfy_prefix, ""}
    if not arch.startswith("te_"):
        prefixes |= set(DIFFUSION_PREFIXES)
    for prefix in prefixes:
        found = detect(samples.prefixed(arch, prefix))
        assert [(item.id, item.prefix) for item in found] == [(own_id(arch), prefix)]


def test_keys_of_the_vae_alone_are_nothing_known() -> None:
    keys = manifests.checkpoint("sdxl").keys
    assert detect({key: shape for key, shape in keys.items() if key.startswith("first_stage_model.")}) == []


def test_keys_that_tell_two_architectures_apart_count() -> None:
    flux = dict(manifests.checkpoint("flux1_dev").keys)
    others = {
        "chroma": "distilled_guidance_layer.norms.0.scale",
        "flux2_dev": "double_stream_modulation_img.lin.weight",
    }
    for other, key in others.items():
        found = detect(flux | {key: manifests.checkpoint(other).keys[key]})
        assert "flux1" not in [item.arch.id for item in found]


@pytest.mark.parametrize("arch", [arch for arch in ARCHS if manifests.checkpoint(arch).diffusers_keys])
def test_a_model_in_diffusers_naming_is_found_to_be_itself(arch: str) -> None:
    """The names may be the same as the makers', or others; the edition is told all the same."""
    keys = manifests.checkpoint(arch).diffusers_keys
    assert [item.id for item in detect(keys)] == [own_id(arch)]


@pytest.mark.parametrize("arch", [arch for arch in ARCHS if not arch.startswith("te_")])
def test_a_model_that_nobody_described_is_not_taken_for_its_neighbour(
    arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the data of its own architecture, a checkpoint is no other's."""
    manifest = manifests.checkpoint(arch)
    own = detect(manifest.keys)[0].arch
    monkeypatch.setattr(detection, "DIFFUSION_ARCHES", tuple(one for one in DIFFUSION_ARCHES if one is not own))
    found = [*detect(manifest.keys), *detect(manifest.diffusers_keys)]
    assert [item.id for item in found if item.arch.role == "diffusion"] == []
