"""A server that lives on: it answers while a merge runs, and a hundred runs do not make it grow."""

from __future__ import annotations

import pytest

from tests import tiny
from tests.host.families import FAMILIES, node, our_stack
from tests.host.test_jobs import merge_prompt
from tests.host.test_routes import INK, check_stays_quick, info
from tests.host_server import Server

FLUX = FAMILIES[0]
STACK = ((FLUX.lora("a"), 0.8, 0.6), (FLUX.lora("b"), -0.5, 0.7))
RUNS, LOADING = 100, 20  # of them all, those after which everything is loaded that is loaded once
GROWTH = 64 * 2**20  # bytes: what an allocator may keep; a copy of the tiny model kept by each run would be more


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> None:
    FLUX.write(server)


@pytest.mark.case(33)
def test_fifty_questions_during_a_merge_leave_the_server_quick(server: Server) -> None:
    ended: list[str] = []
    statuses: list[int] = []

    def merge() -> None:
        for strength in (0.1, 0.2, 0.3, 0.4):
            prompt = merge_prompt(FLUX.model, (STACK[0][0], strength, 1.0), STACK[1], prefix="load/flux", dtype="fp32")
            ended.append(server.run(prompt).status)

    check_stays_quick(server, merge, *[lambda: statuses.append(info(server, INK, "&hash=1")[0])] * 50)
    assert ended == ["success"] * 4
    assert statuses == [200] * 50


@pytest.mark.case(42)
def test_a_hundred_runs_do_not_grow(server: Server) -> None:
    model = tiny.make_tiny("flux", server.models / "diffusion_models/endure.safetensors")
    tiny.make_lora(server.models / "loras/endure.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")))

    def rounds(first: int, count: int) -> None:
        for number in range(first, first + count):
            row = ("endure.safetensors", number / 1000, 1.0)
            prompt = merge_prompt(f"diffusion_models/{model.name}", row, prefix="grow/flux")
            node("model", prompt, "UNETLoader", unet_name=model.name, weight_dtype="default")
            our_stack(row)(prompt, ["model", 0], None)
            node("report", prompt, "PreviewAny", source=["load", 2])
            run = server.run(prompt)
            assert (run.status, run.error) == ("success", "")
            assert not {"load", "merge"} & set(run.cached)
            (server.models / "diffusion_models/grow" / run.outputs["merge"]["report"][0]["outputs"][0]["name"]).unlink()

    rounds(1, LOADING)
    before = server.memory()
    rounds(1 + LOADING, RUNS - LOADING)
    assert server.memory() < before + GROWTH
