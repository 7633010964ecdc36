"""Files larger than memory, numbers beyond 32 bits, headers made to fill memory, and runs without end: memory stays."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.errors import FileFormatError
from lora_core.files.tensorfile import TensorFile
from tests import tiny
from tests.core import samples
from tests.core.samples import listing, raw

GIB = 2**30
REAL = "LORA_CORE_LARGE"  # set to 1, the tests that need 10 GB of disk and of memory run too

FLUX: dict[str, tuple[int, ...]] = {  # what tells a Flux, beside its blocks
    "img_in.weight": (64, 64), "vector_in.in_layer.weight": (64, 768), "guidance_in.in_layer.weight": (64, 256),
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,), "double_blocks.0.img_attn.qkv.weight": (192, 64),
}  # fmt: skip
LARGE = "double_blocks.0.img_mlp.0.weight"


def large_flux(path: Path, shape: tuple[int, int]) -> Path:
    """A Flux with one weight of this shape, whose numbers are zeros and take no room."""
    return tiny.sparse_file(path, tiny.with_dtype({**FLUX, LARGE: shape}, "BF16"))


def in_child(code: str, *arguments: object) -> dict[str, Any]:
    """Runs `code`, which fills `found`; returns that and what the process used beyond torch and the package alone."""
    start = "import json, resource, sys, time, torch, lora_core; from pathlib import Path; found = {}; "
    peak = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024"
    lines = [start, f"idle = {peak}", code, f"found['peak'] = {peak} - idle", "print(json.dumps(found))"]
    done = samples.python("-c", "\n".join(lines), *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Headers


HEADER_BOMBS: dict[str, tuple[bytes, str]] = {
    "33 MB": (b"{" + b" " * (33 * 2**20) + b"}", "its header is above our limit: it has 34603010 bytes beside"),
    "100001 tensors": (
        b"{%b}" % b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(100_001)),
        "100001 tensors; the limit is 100000."),
    "objects": (b'{"a":[%b]}' % b",".join([b"{}"] * 10**7), "it has more parts than 100000 tensors need."),
    "lists": (b'{"a":[%b]}' % b",".join([b"[]"] * 10**7), "it has more parts than 100000 tensors need."),
    "names": (b"{%b}" % b",".join(b'"%x":1' % n for n in range(2_500_000)), "it has more parts than 100000 tensors"),
}  # fmt: skip


@pytest.mark.case(4)
def test_headers_made_to_fill_memory_are_refused(tmp_path: Path) -> None:
    """Each within seconds, and all within 200 MB; without the limits, 30 MB of `{}` take 900 MB."""
    for bomb, (text, _) in HEADER_BOMBS.items():
        (tmp_path / f"{bomb}.safetensors").write_bytes(raw(text))
    code = (
        "from lora_core.files.tensorfile import TensorFile\n"
        "for bomb in Path(sys.argv[1]).iterdir():\n"
        "    began = time.process_time()\n"
        "    try: TensorFile(bomb)\n"
        "    except lora_core.LoraError as error: found[bomb.stem] = str(error), time.process_time() - began"
    )
    found = in_child(code, tmp_path)
    assert found.pop("peak") < 200e6
    assert found.keys() == HEADER_BOMBS.keys()
    for bomb, (text, seconds) in found.items():
        assert HEADER_BOMBS[bomb][1] in text
        assert seconds < 3, bomb  # of the processor; a third of that where it has nothing else to do


@pytest.mark.case(4)
def test_metadata_of_95_megabytes_takes_a_few_times_that(tmp_path: Path) -> None:
    """Its commas count for nothing, and one wide letter does not make every other as wide."""
    captions = b"sea, " * 19_000_000
    text = b'{"__metadata__":{"a":"\xf0\x9f\x8e\xa8","b":"%b"}}' % captions
    (tmp_path / "x.safetensors").write_bytes(raw(text))
    code = (
        "from lora_core.files.tensorfile import TensorFile\n"
        "began = time.process_time()\n"
        "found['length'] = len(TensorFile(Path(sys.argv[1])).metadata['b'])\n"
        "found['seconds'] = time.process_time() - began"
    )
    found = in_child(code, tmp_path / "x.safetensors")
    assert found["length"] == len(captions)
    assert found["peak"] < 450e6
    assert found["seconds"] < 5


# Beyond 32 bits


@pytest.mark.case(30)
def test_offsets_and_counts_beyond_32_bits(tmp_path: Path) -> None:
    """A tensor of 2³¹ + 8 numbers behind one of 5 GiB, read at its ends; nothing of them is in memory as a whole."""
    count = 2**31 + 8
    path = tiny.sparse_file(
        tmp_path / "x.safetensors", {"first": ("F16", (5 * GIB // 2,)), "second": ("F32", (count,))}
    )
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<f", 1.5))
    with TensorFile(path) as file:
        assert (file["second"].nbytes, file["second"].start - file["first"].start) == (4 * count, 5 * GIB)
        last = bytearray(8)
        file.read_into("second", memoryview(last), 4 * (count - 2))
        assert struct.unpack("<2f", last) == (0, 1.5)
        file.read_into("first", memoryview(last), 5 * GIB - 8)
        assert bytes(last) == bytes(8)
    os.truncate(path, path.stat().st_size - 1)
    assert f"truncated: has {path.stat().st_size} bytes, needs {path.stat().st_size + 1};" in samples.message(
        FileFormatError, lambda: TensorFile(path)
    )


@pytest.mark.case(30)
def test_a_plan_of_100_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    base = large_flux(tmp_path / "base.safetensors", (2**20, 50_000))
    assert base.stat().st_size > 100e9
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": (192, 64)}, 2)
    found = in_child(
        "report = lora_core.inspect(sys.argv[2], [sys.argv[1]])\n"
        "found['matched'] = report.loras[0].modules_matched\n"
        "try: lora_core.merge(sys.argv[1], [sys.argv[2]], sys.argv[3])\n"
        "except lora_core.LoraError as error: found['text'] = str(error)",
        *(base, lora, tmp_path / "out.safetensors"),
    )
    assert found["matched"] == 1
    assert str(found["text"]).startswith("out.safetensors: not enough disk space: needs 11"), found
    assert found["peak"] < 60e6, found
    assert listing(tmp_path) == ["base.safetensors", "lora.safetensors"]


@pytest.mark.case(30)
def test_memory_that_is_not_there_is_an_error_that_names_the_tensor(tmp_path: Path) -> None:
    path = tiny.sparse_file(tmp_path / "x.safetensors", {"x": ("F32", (2**43 // 4,))})
    with TensorFile(path) as file:
        assert samples.message(FileFormatError, lambda: file.tensor("x")) == (
            f"x.safetensors: tensor 'x' needs {2**43} bytes of memory, which are not there."
        )


@pytest.mark.case(30)
@pytest.mark.skipif(not os.environ.get(REAL), reason=f"takes 10 GB of disk and of memory; {REAL}=1 runs it")
def test_a_weight_of_more_than_4_gib_is_merged(tmp_path: Path) -> None:
    """2.2 · 10⁹ numbers, 4.3 GB, of which a LoRA changes every one; looked at in its first and last rows."""
    shape = (65_536, 33_000)
    base = large_flux(tmp_path / "base.safetensors", shape)
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {f"lora_unet_{LARGE[:-7].replace('.', '_')}": shape}, 4)
    out = tmp_path / "out.safetensors"
    report = lora_core.merge(base, [lora], out, verify=True)
    assert report.loras[0].modules_matched == 1
    assert out.stat().st_size > 4 * GIB
    named = samples.load(lora)
    up, down = (next(t for name, t in named.items() if part in name).float() for part in ("lora_up", "lora_down"))
    with TensorFile(out) as file:
        for row in (0, shape[0] - 1):
            data = bytearray(2 * shape[1])
            file.read_into(LARGE, memoryview(data), row * 2 * shape[1])
            found = torch.frombuffer(data, dtype=torch.bfloat16)
            assert torch.equal(found, (up[row] @ down).bfloat16())
    assert report.peak_rss_bytes < 8 * GIB


# Runs without end

RUNS = """
import os, _thread
def used(): return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def files(): return len(os.listdir("/proc/self/fd"))
base, lora, out = sys.argv[1:]
def run():
    lora_core.inspect(lora, [base])
    lora_core.merge(base, [lora], out, overwrite=True)
    lora_core.resize(lora, out, rank=1, overwrite=True)
    try: lora_core.merge(base, [(lora, 1.0), (base, 1.0)], out, overwrite=True)
    except lora_core.LoraError: found["refused"] = found.get("refused", 0) + 1
for _ in range(25): run()
def now(): return used(), files(), _thread._count()
before = now()
for _ in range(75): run()
found["grown"], found["files"], found["threads"] = (a - b for a, b in zip(now(), before))
"""


@pytest.mark.case(42)
def test_100_runs_leave_nothing(tmp_path: Path) -> None:
    """Of each operation, refused ones among them: no memory, no open file, no thread from the 25th on."""
    base = tiny.sparse_file(tmp_path / "base.safetensors", tiny.with_dtype({**FLUX, LARGE: (256, 64)}))
    modules = {"lora_unet_double_blocks_0_img_attn_qkv": (192, 64), "lora_unet_double_blocks_0_img_mlp_0": (256, 64)}
    lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, 4)
    found = in_child(RUNS, base, lora, tmp_path / "out.safetensors")
    assert (found["refused"], found["files"], found["threads"]) == (100, 0, 0)
    assert found["grown"] < 4e6, found  # a leak of one of these LoRAs a run would be 4 times as much
