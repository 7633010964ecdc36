"""A ComfyUI with this pack and all other packs that are there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host_server import Server
from tests.packs.scene import LORAS, Scene
from tests.tiers import find_host, find_packs, why_not


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A server of its own: LoRA Manager replaces functions of the host's executor, and Efficiency adds schedulers.

    The packs install nothing while they load, and LoRA Manager keeps its settings in its own folder, not the user's.
    """
    host = find_host()
    if host is None:
        pytest.skip(why_not("packs"))
    packs = find_packs().values()
    running = Server(host, tmp_path_factory.mktemp("packs"), packs=packs, LORA_MANAGER_PORTABLE="1", PIP_NO_INDEX="1")
    made = Scene(running)
    made.write(LORAS)  # before it starts: LoRA Manager lists what is there then
    with running:
        yield made
