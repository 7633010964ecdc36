"""What importing the pack adds to ComfyUI's start. Run by ComfyUI's Python, in ComfyUI's folder, with --cpu.

Reads {"pack": its folder} from standard input, imports what ComfyUI has loaded before its custom nodes, and prints
{"wall", "cpu", "modules"} of the import of the pack and of the making of its nodes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time

import comfy.options

comfy.options.enable_args_parsing()  # before the rest of ComfyUI looks for a GPU

import comfy.sd  # noqa: E402
import execution  # noqa: E402, F401
import server  # noqa: E402, F401

import nodes  # noqa: E402, F401


async def nodes_of(folder: str) -> int:
    spec = importlib.util.spec_from_file_location("pack", f"{folder}/__init__.py", submodule_search_locations=[folder])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder}: no pack there")
    pack = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = pack
    spec.loader.exec_module(pack)
    return len(await (await pack.comfy_entrypoint()).get_node_list())


async def main() -> None:
    given = json.load(sys.stdin)
    before = len(sys.modules)
    wall, cpu = time.perf_counter(), time.process_time()
    await nodes_of(given["pack"])
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    sys.stdout.write("\n" + json.dumps({**found, "modules": len(sys.modules) - before}))


asyncio.run(main())
