"""Fixtures of the tests that need a running ComfyUI; one server serves the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.host_server import Server
from tests.tiers import find_host, why_not


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """ComfyUI with this pack, the test nodes and the LoRA files of `LORAS`."""
    host = find_host()
    if host is None:
        pytest.skip(why_not("host"))
    running = Server(host, tmp_path_factory.mktemp("comfyui"))
    for name, metadata in LORAS.items():
        write_lora(running, name, metadata)
    with running:
        yield running


LORAS: dict[str, dict[str, str]] = {
    "styles/ink.safetensors": {
        "ss_tag_frequency": '{"10_ink": {"inkwash": 20, "brush": 3}}',
        "modelspec.trigger_phrase": "inkwash",
    },
    "styles/pastel.safetensors": {},
    "detail.safetensors": {},
    "people/portrait light v2.safetensors": {},
}


def write_lora(server: Server, name: str, metadata: dict[str, Any] | None = None) -> None:
    """Write a small Flux LoRA of rank 4 to the server's loras folder."""
    import torch  # here, since every run of tests imports this module, also of tests that need no torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(len(name))
    module = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = {
        f"{module}.lora_down.weight": torch.randn(4, 128, generator=generator) / 16,
        f"{module}.lora_up.weight": torch.randn(128, 4, generator=generator) / 16,
        f"{module}.alpha": torch.tensor(4.0),
    }
    path = server.models / "loras" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata or None)
