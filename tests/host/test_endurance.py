"""A server that lives on: it answers while a merge runs, and a hundred runs do not make it grow."""

from __future__ import annotations

import threading
import time
from statistics import quantiles

import pytest

from tests import tiny
from tests.host.families import FAMILIES, node, our_stack
from tests.host.test_jobs import merge_prompt
from tests.host.test_routes import INK, info
from tests.host_server import Server

FLUX = FAMILIES[0]
STACK = ((FLUX.lora("a"), 0.8, 0.6), (FLUX.lora("b"), -0.5, 0.7))
RUNS = 100
GROWTH = 64 * 2**20  # bytes: what an allocator may keep; a copy of the tiny model kept by each run would be more


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> None:
    FLUX.write(server)


def p99_of_stats(server: Server, rounds: int) -> float:
    """Return the seconds within which 99 of 100 requests for the server's own state were answered."""
    seconds: list[float] = []
    for _ in range(rounds):
        start = time.monotonic()
        server.get("/system_stats")
        seconds.append(time.monotonic() - start)
        time.sleep(0.01)
    return quantiles(seconds, n=100)[-1]


@pytest.mark.case(33)
def test_fifty_questions_during_a_merge_leave_the_server_quick(server: Server) -> None:
    idle = p99_of_stats(server, 100)
    merging = threading.Thread(
        target=server.run, args=(merge_prompt(FLUX.model, *STACK, prefix="load/flux", dtype="fp32"),)
    )
    statuses: list[int] = []
    asking = [threading.Thread(target=lambda: statuses.append(info(server, INK, "&hash=1")[0])) for _ in range(50)]
    for thread in (merging, *asking):
        thread.start()
    busy = p99_of_stats(server, 200)
    for thread in (merging, *asking):
        thread.join()
    assert statuses == [200] * 50
    assert busy < idle + 0.5


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

    rounds(1, 20)  # what is loaded once
    before = server.memory()
    rounds(21, RUNS)
    assert server.memory() < before + GROWTH
