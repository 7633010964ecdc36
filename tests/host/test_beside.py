"""A stack beside the weights in ComfyUI: the image is that of the patched weights, and the weights are not touched.

Both compute in fp32 and add in another order: 1e-5 of the LoRAs' effect, which is a tenth to a third of the image.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.host.beside_files import KINDS, write_kinds
from tests.host_server import REPO
from tests.tiers import find_host

SAME, LARGE = 1e-5, 0.05
FAMILIES = ("flux", "sd15", "sd3", "wan21")
CODED = ("float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8", "plain fp8_e4m3fn", "plain fp8_e5m2")
CHAINS = (
    "two of ours", "the same twice", "ours, patched", "patched, ours", "ours, DoRA of ours", "ours, patched DoRA",
    "DoRA of ours, ours", "ours, built in", "built in, ours", "ours, built-in DoRA", "DoRA of ours, built in",
    "built in, DoRA of ours", "ours, bypass", "bypass, ours", "a clone of a clone", "merged into another",
    "another merged into it", "DoRA of ours, bypass", "bypass, DoRA of ours",
)  # fmt: skip

Asked = Callable[[str], Any]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """What a function of beside_runs.py returns, all of them run once."""
    folder, host = tmp_path_factory.mktemp("beside"), find_host()
    assert host is not None
    for family in FAMILIES:
        path = tiny.make_tiny(family, folder / f"{family}.safetensors")
        tensors = load_file(path)
        if any(key.startswith("model.diffusion_model.") for key in tensors):  # a checkpoint, with more than the model
            save_file({key: one for key, one in tensors.items() if key.startswith("model.diffusion_model.")}, path)
        write_kinds(folder, family, path)
    script = Path(__file__).with_name("beside_runs.py")
    command = [str(host.python), str(script), str(REPO), str(folder)]
    done = subprocess.run(command, cwd=host.path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]).__getitem__


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_with_a_branch(asked: Asked, family: str, kind: str) -> None:
    far, effect, notes = asked(family)[kind]
    assert far <= SAME and effect >= LARGE
    assert notes[0].startswith("live: beside ")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_are_not_touched(asked: Asked, family: str) -> None:
    assert asked(family)["restored"]


@pytest.mark.parametrize("name", CODED)
def test_on_weights_stored_as_codes_it_is_exact(asked: Asked, name: str) -> None:
    """Against the same stack on the values that the codes stand for."""
    live, notes, patched, _ = asked("all_formats")[name]
    assert live <= SAME < 0.04 < patched
    assert "stored as codes" in notes[0]


def test_on_int8_it_is_exact_in_each_layer(asked: Asked) -> None:
    """ComfyUI rounds the input of such a layer too, so that any change of the model changes the base's own error."""
    found = asked("all_formats")
    live, _, patched, _ = found["int8_tensorwise"]
    assert found["int8, its layers"] <= SAME
    assert live < patched


@pytest.mark.parametrize("chain", CHAINS)
def test_chains_in_any_order(asked: Asked, chain: str) -> None:
    far, effect = asked("chains")[chain]
    assert far <= SAME and effect >= LARGE


def test_another_strength_patches_no_weight(asked: Asked) -> None:
    changes = asked("changes")
    assert changes["weights patched"] == 0
    assert changes["other strengths"][0] <= SAME
    assert changes["zero is nothing"]


@pytest.mark.parametrize("name", ["other_strengths_before", "cached", "guided_by_two"])
def test_what_others_do_around_it(asked: Asked, name: str) -> None:
    """Another strength of a stack that was patched later, calls that a cache leaves out, a second model of a guider."""
    far, effect, *unread = asked(name)
    assert far <= SAME and effect >= LARGE
    assert not any(unread)


def test_errors_and_many_turns_leave_the_weights_as_they_were(asked: Asked) -> None:
    changes = asked("changes")
    assert changes["an error"] == "stopped"
    assert changes["turns"] and changes["restored"]


def test_what_saves_a_model_writes_the_stack(asked: Asked) -> None:
    saved = asked("saved")
    assert saved["far"] == 0 < saved["change"]


def test_who_extracts_from_a_wired_model_reads_the_stack(asked: Asked) -> None:
    assert asked("read")["wired"]


def test_gradients_pass_through(asked: Asked) -> None:
    assert asked("trained_through")


def test_a_layer_that_nobody_calls_gets_its_part_in_its_weight(asked: Asked) -> None:
    far, effect, unread = asked("skipped")
    assert unread == 1
    assert far <= SAME and effect >= LARGE


def test_a_compiled_model_follows_strengths_and_loras(asked: Asked) -> None:
    found = asked("compiled")
    for name in ("first", "strength", "swapped"):
        far, effect, graphs = found[name]
        assert far <= SAME and effect >= LARGE
        assert graphs == found["first"][2], "compiled anew"
    assert found["without"] <= 1e-6
