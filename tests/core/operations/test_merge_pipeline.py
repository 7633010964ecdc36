"""How a merge works: what is read, written, copied and hashed, and how often; its threads; its memory."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.errors import AdapterError, OutputError
from lora_core.files import flushing, tensorfile
from lora_core.files.hashes import Hashes
from lora_core.files.otherformats import HEAD_BYTES
from lora_core.files.tensorfile import TensorFile
from lora_core.parallel import pipeline
from lora_core.parallel.threads import Computation
from lora_core.reading.checkpoint import Checkpoint
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import apply_stack
from lora_core.stack.matching import match_stack
from lora_core.stack.opened import StackedLora
from tests import tiny
from tests.core import samples

PREFIX = "model.diffusion_model."
CHANGED = ("double_blocks.0.img_attn.proj", "double_blocks.0.img_mlp.0", "single_blocks.0.linear1")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.make_tiny("flux", tmp_path / "in/base.safetensors", dtype=torch.float16)


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    shapes = {name: shape for name, shape in tiny.modules("flux").items() if name in CHANGED}
    assert len(shapes) == len(CHANGED)
    return tiny.make_lora(tmp_path / "in/lora.safetensors", tiny.flat("lora_unet_", shapes))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.safetensors"


def runs_of(base: Path, changed: tuple[str, ...]) -> list[int]:
    """The bytes of each run of tensors that lie together and do not change."""
    runs, is_open = list[int](), False
    with TensorFile(base) as file:
        for info in file.in_file_order():
            if info.name.removeprefix(PREFIX).removesuffix(".weight") in changed:
                is_open = False
            else:
                runs = [*runs[:-1], runs[-1] + info.nbytes] if is_open else [*runs, info.nbytes]
                is_open = True
    return runs


# Operation counts


class Operations:
    """Counts what passes through the system's calls, by the name of the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: list[tuple[str, int, int]] = []  # name, offset, bytes
        self.written: Counter[str] = Counter()
        self.copies: list[tuple[str, str, int]] = []
        preadv, pwrite, copy = os.preadv, os.pwrite, os.copy_file_range

        def reading(fd: int, into: list[memoryview], offset: int) -> int:
            count = preadv(fd, into, offset)
            self.reads.append((name_of(fd), offset, count))
            return count

        def writing(fd: int, data: Any, offset: int) -> int:
            count = pwrite(fd, data, offset)
            self.written[name_of(fd)] += count
            return count

        def copying(source: int, target: int, length: int, start: int, offset: int) -> int:
            count = copy(source, target, length, start, offset)
            self.copies.append((name_of(source), name_of(target), count))
            return count

        monkeypatch.setattr(os, "preadv", reading)
        monkeypatch.setattr(os, "pwrite", writing)
        monkeypatch.setattr(os, "copy_file_range", copying)

    def read(self, name: str) -> int:
        return sum(count for found, _, count in self.reads if found == name)

    def copied(self) -> int:
        return sum(count for *_, count in self.copies)


def name_of(fd: int) -> str:
    name = Path(f"/proc/self/fd/{fd}").readlink().name
    return "out" if name.endswith(".partial") else name


def header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks the system which file is which")


@linux
def test_every_byte_is_read_and_written_once(
    base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_core.receipts.hashing.LARGE", 0)
    hashes = Hashes()
    hashes.of(base), hashes.of(lora)  # as after the first merge: they are known
    seen = Operations(monkeypatch)
    lora_core.merge(base, [(lora, 0.5), (lora, 0.25)], out, hashes=hashes)
    heads = HEAD_BYTES - 8  # of a file's first bytes, those after the header's length are read again
    assert seen.read(base.name) + seen.copied() == base.stat().st_size + heads
    assert seen.written["out"] + seen.copied() == out.stat().st_size + header_bytes(out)  # which ends with the receipt
    runs = runs_of(base, CHANGED)
    assert seen.copied() == sum(runs) > 0
    assert len(seen.copies) <= len(runs)  # each below 64 MB, so one call is enough
    assert seen.read("out") <= seen.written["out"]  # the header is read back, and nothing else
    assert seen.read("out") < 8 + 16 + 2 * len(json.dumps(dict.fromkeys(samples.load(base), "x" * 80))) + 4096


@linux
def test_each_factor_is_read_once_for_each_file_of_the_stack(
    base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_core.receipts.hashing.LARGE", 0)
    hashes = Hashes()
    hashes.of(lora)
    seen = Operations(monkeypatch)
    lora_core.merge(base, [lora], out, hashes=hashes)
    with TensorFile(lora) as file:
        factors = {info.start: info.nbytes for name, info in file.items() if not name.endswith(".alpha")}
    reads = Counter((offset, count) for name, offset, count in seen.reads if name == lora.name)
    assert {offset: reads[offset, count] for offset, count in factors.items()} == dict.fromkeys(factors, 1)


def test_each_input_is_parsed_once(base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: Counter[str] = Counter()
    parse = tensorfile.parse_header

    def counting(path: Path, raw: bytes, size: int) -> Any:
        parsed[path.name] += 1
        return parse(path, raw, size)

    monkeypatch.setattr(tensorfile, "parse_header", counting)
    lora_core.merge(base, [lora], out)
    assert (parsed.pop(base.name), parsed.pop(lora.name)) == (1, 1)
    assert sum(parsed.values()) == 1  # the output's, read back


@linux
def test_an_input_whose_hash_is_not_known_is_read_for_it_once(
    base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = base.stat().st_size - header_bytes(base)
    seen = Operations(monkeypatch)
    lora_core.merge(base, [lora], out)
    heads = HEAD_BYTES - 8 + 9  # where the data begins is read again
    assert seen.read(base.name) + seen.copied() == base.stat().st_size + data + heads


@linux
def test_only_verify_reads_the_output_back(base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Operations(monkeypatch)
    lora_core.merge(base, [lora], out)
    assert seen.read("out") < 64 * 1024 < out.stat().st_size
    lora_core.merge(base, [lora], out, overwrite=True, verify=True)
    assert seen.read("out") > out.stat().st_size - 64 * 1024


@linux
def test_a_merge_that_changes_nothing_is_one_copy(
    base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_core.receipts.hashing.LARGE", 0)
    hashes = Hashes()
    hashes.of(base)
    seen = Operations(monkeypatch)
    lora_core.merge(base, [(lora, 0.0)], out, hashes=hashes)
    with TensorFile(base) as file:
        assert seen.copies == [(base.name, "out", base.stat().st_size - file.data_start)]
        assert max(offset + count for name, offset, count in seen.reads if name == base.name) == file.data_start
    before, after = samples.load(base), samples.load(out)
    assert all(samples.same_bytes(after[name], value) for name, value in before.items())


@linux
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_cast_reads_and_writes_every_byte_once(
    base: Path, lora: Path, out: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {name: tensor for name, tensor in samples.load(base).items() if name.startswith(PREFIX)}
    samples.save(base, model)  # without the VAE, which is copied
    monkeypatch.setattr("lora_core.receipts.hashing.LARGE", 0)
    hashes = Hashes()
    hashes.of(base)
    seen = Operations(monkeypatch)
    monkeypatch.setattr("lora_core.operations.merging.jobs.PIECE", 1000)
    lora_core.merge(base, [lora], out, dtype=dtype, verify=False, hashes=hashes)
    assert seen.read(base.name) == base.stat().st_size + HEAD_BYTES - 8
    assert seen.written["out"] == out.stat().st_size + header_bytes(out)
    before, after = samples.load(base), samples.load(out)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    untouched = [name for name in before if name.removeprefix(PREFIX).removesuffix(".weight") not in CHANGED]
    assert all(samples.same_bytes(after[name], before[name].to(wanted)) for name in untouched)


def test_data_lies_in_pages_as_in_the_input(base: Path, lora: Path, out: Path) -> None:
    lora_core.merge(base, [lora], out)
    with TensorFile(base) as before, TensorFile(out) as after:
        assert before.data_start != after.data_start  # the note of what was merged is there
        assert {(before[name].start - after[name].start) % 4096 for name in before} == {0}


def test_data_is_aligned_though_the_inputs_is_not(base: Path, lora: Path, out: Path) -> None:
    content = base.read_bytes()
    length = int.from_bytes(content[:8], "little")
    base.write_bytes((length + 3).to_bytes(8, "little") + content[8 : 8 + length] + b"   " + content[8 + length :])
    lora_core.merge(base, [lora], out)
    with TensorFile(base) as before, TensorFile(out) as after:
        assert (before.data_start % 8, after.data_start % 8) == (3, 0)


# Flushes


def test_data_goes_to_the_disk_while_the_merge_goes_on(
    base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    flushed = threading.Event()

    def flushes(fd: int) -> None:
        threads.append(threading.get_ident())
        flushed.set()

    monkeypatch.setattr(flushing, "FLUSH_BYTES", 2**16)
    monkeypatch.setattr(os, "fdatasync", flushes)
    lora_core.merge(base, [lora], out, on_step=lambda done, total: done < total or flushed.wait(30))
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.case(23)
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_failed_flush_is_an_error_though_the_last_one_succeeds(
    base: Path, lora: Path, out: Path, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """The system tells of a write that failed once, and not again."""

    flushed = threading.Event()

    def broken(fd: int) -> None:
        flushed.set()
        raise OSError(5, "Input/output error")

    def cancel(done: int, total: int) -> None:
        if done == total:
            assert flushed.wait(30)
            if is_cancelled:
                raise KeyboardInterrupt

    monkeypatch.setattr(flushing, "FLUSH_BYTES", 2**16)
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(KeyboardInterrupt if is_cancelled else OutputError) as caught:
        lora_core.merge(base, [lora], out, on_step=cancel)
    if not is_cancelled:
        assert str(caught.value) == f"out.safetensors: {samples.DISK_FAILED}"
    assert samples.listing(out.parent) == ["in", "in/base.safetensors", "in/lora.safetensors"]


# The same bytes, whatever the system offers


def without_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: no positional reading or writing."""
    monkeypatch.delattr(os, "preadv")
    monkeypatch.delattr(os, "pwrite")
    monkeypatch.delattr(os, "copy_file_range")


def without_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As between file systems."""

    def refuses(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuses)


def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MOST_WORKERS", 1)


@pytest.mark.case(31, 32)
@pytest.mark.parametrize("limit", [without_positions, without_copies, one_worker])
@pytest.mark.parametrize("dtype", ["keep", "bf16"])
def test_the_same_bytes_with_less(
    base: Path, lora: Path, tmp_path: Path, limit: Callable[[pytest.MonkeyPatch], None], dtype: str
) -> None:
    lora_core.merge(base, [lora], tmp_path / "full.safetensors", dtype=dtype)
    with pytest.MonkeyPatch.context() as monkeypatch:
        limit(monkeypatch)
        lora_core.merge(base, [lora], tmp_path / "less.safetensors", dtype=dtype)
    assert (tmp_path / "full.safetensors").read_bytes() == (tmp_path / "less.safetensors").read_bytes()


def test_a_merged_weight_has_the_bits_that_apply_stack_gives(base: Path, lora: Path, out: Path) -> None:
    """The live node uses that function; a file in fp32 is its image, bit for bit."""
    lora_core.merge(base, [(lora, 0.3), (lora, -0.8)], out, dtype="fp32")
    merged = samples.load(out)
    with Checkpoint(base) as checkpoint, LoraFile(lora) as file:
        stack = [StackedLora(file, 0.3, 0.3), StackedLora(file, -0.8, -0.8)]
        match = match_stack(stack, checkpoint.keymap, checkpoint.found)
        for key, placed in match.by_key.items():
            expected = apply_stack(checkpoint.tensor(key), [item.placed() for item in placed])
            assert torch.equal(merged[key], expected)


def test_rounding_adds_no_error(base: Path, tmp_path: Path, out: Path) -> None:
    """Against fp64: the error is that of correct rounding within 0.1 %. fp32 sums of ranks below 100 are off by about
    1e-7 of the weight, a fp16 step is 1e-3 of it, so one value in a thousand may lie on the other side of a tie."""
    shapes = {name: shape for name, shape in tiny.modules("flux").items() if name in CHANGED}
    loras = [
        tiny.make_lora(tmp_path / f"in/{seed}.safetensors", tiny.flat("lora_unet_", shapes), 16, seed=seed)
        for seed in range(4)
    ]
    lora_core.merge(base, [(lora, 0.4) for lora in loras], out)
    before, after = samples.load(base), samples.load(out)
    error = best = 0.0
    for name in shapes:
        key, module = f"{PREFIX}{name}.weight", f"lora_unet_{name.replace('.', '_')}"
        exact = before[key].double()
        for lora in loras:
            parts = samples.load(lora)
            scale = float(parts[f"{module}.alpha"]) / 16
            up, down = (parts[f"{module}.lora_{side}.weight"].double() for side in ("up", "down"))
            exact += 0.4 * scale * up @ down
        rounded = exact.half()
        error += float((after[key].double() - exact).square().sum())
        best += float((rounded.double() - exact).square().sum())
        assert float((after[key] != rounded).double().mean()) < 1e-3
    assert best > 0
    assert error**0.5 <= 1.001 * best**0.5


def test_a_change_of_the_last_rows_alone_is_not_called_lost(base: Path, tmp_path: Path, out: Path) -> None:
    name = "single_blocks.0.linear1"
    out_size, in_size = tiny.modules("flux")[name]
    up = torch.zeros(out_size, 1)
    up[-1] = 1
    tensors = {"up": up, "down": torch.ones(1, in_size)}
    path = samples.save(
        tmp_path / "in/rows.safetensors",
        {f"lora_unet_{name.replace('.', '_')}.lora_{part}.weight": value for part, value in tensors.items()},
    )
    report = lora_core.merge(base, [path], out)
    assert report.warnings == []
    report = lora_core.merge(base, [(path, 1e-9)], out, overwrite=True)
    assert report.warnings[0].startswith("1 weight not changed, because the change is below the steps")


def test_a_sum_beyond_fp16_is_clamped_and_counted(base: Path, lora: Path, out: Path) -> None:
    tensors = samples.load(base)
    key = f"{PREFIX}{CHANGED[0]}.weight"
    tensors[key].fill_(65504)
    samples.save(base, tensors)
    samples.save(lora, {name: part * 100 if "lora_up" in name else part for name, part in samples.load(lora).items()})
    report = lora_core.merge(base, [(lora, 50.0)], out)
    merged = samples.load(out)[key]
    assert merged.isfinite().all()
    with Checkpoint(base) as checkpoint, LoraFile(lora) as file:
        (placed,) = match_stack([StackedLora(file, 50.0, 50.0)], checkpoint.keymap, checkpoint.found).by_key[key]
        exact = apply_stack(tensors[key], [placed.placed()])
    assert report.warnings == [
        f"{int((exact > 65504).sum())} values were beyond the range of the written number format and were clamped."
    ]
    assert torch.equal(merged, exact.clamp(-65504, 65504).half())


# Threads


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    threads, count = samples.threads(), torch.get_num_threads()
    yield
    assert samples.threads(threads) <= threads
    assert torch.get_num_threads() == count


def test_progress_is_told_on_the_callers_thread(base: Path, lora: Path, out: Path) -> None:
    told: set[threading.Thread] = set()
    lora_core.merge(base, [lora], out, dtype="bf16", on_step=lambda done, total: told.add(threading.current_thread()))
    assert told == {threading.current_thread()}


@pytest.mark.case(20)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("dtype", ["keep", "bf16"])
def test_a_cancelled_merge_leaves_no_thread_and_no_file(
    base: Path, lora: Path, out: Path, error: type[BaseException], dtype: str
) -> None:
    def cancel(done: int, total: int) -> None:
        if done:
            raise error

    with pytest.raises(error):
        lora_core.merge(base, [lora], out, dtype=dtype, on_step=cancel)
    assert samples.listing(out.parent) == ["in", "in/base.safetensors", "in/lora.safetensors"]


@pytest.mark.case(21)
@pytest.mark.parametrize("attempt", range(5))
def test_of_several_errors_the_first_in_order_is_raised(base: Path, lora: Path, out: Path, attempt: int) -> None:
    parts = samples.load(lora)
    for name in parts:
        if "down" in name:
            parts[name].fill_(float("nan"))
    samples.save(lora, parts)
    text = samples.message(AdapterError, lambda: lora_core.merge(base, [lora], out))
    assert text == (
        "lora.safetensors: lora_unet_double_blocks_0_img_attn_proj: holds NaN or infinity; the file is damaged or its "
        "training failed."
    )
    assert samples.listing(out.parent) == ["in", "in/base.safetensors", "in/lora.safetensors"]


def test_results_come_in_the_order_of_the_jobs() -> None:
    def job(number: int) -> Callable[[pipeline.Worker], int]:
        def run(worker: pipeline.Worker) -> int:
            time.sleep(0.01 * (number % 3))
            worker.wrote(1)
            return number

        return run

    told: list[int] = []
    assert pipeline.run_jobs([job(number) for number in range(20)], told.append) == list(range(20))
    assert told == [1] * 20
    assert pipeline.run_jobs([], told.append) == []


@pytest.mark.case(21)
def test_a_failed_job_ends_the_work_and_the_earlier_error_counts() -> None:
    begun: list[int] = []
    late = threading.Event()

    def job(number: int) -> Callable[[pipeline.Worker], None]:
        def run(worker: pipeline.Worker) -> None:
            begun.append(number)
            if number == 0:
                assert late.wait(30)
                raise ValueError("first")
            if number == 1:
                late.set()
                raise ValueError("second")
            worker.wrote(1)

        return run

    with pytest.raises(ValueError, match="first"):
        pipeline.run_jobs([job(number) for number in range(10_000)], lambda nbytes: None)
    assert len(begun) < 10_000


def test_a_cancelled_job_stops_at_its_next_word() -> None:
    words: list[int] = []

    def job(worker: pipeline.Worker) -> None:
        for number in range(1000):
            words.append(number)
            worker.wrote(1)
            time.sleep(0.01)

    def cancel(nbytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.run_jobs([job], cancel)
    assert len(words) < 1000


def test_a_second_interrupt_does_not_leave_the_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are closed after this, and a thread that still writes would write anywhere."""
    wait, calls, ended = Computation.wait, list[int](), list[int]()

    def interrupted(self: Computation[Any], seconds: float = 0.2) -> None:
        calls.append(len(ended))
        if len(calls) < 4:
            raise KeyboardInterrupt
        wait(self, seconds)

    def job(worker: pipeline.Worker) -> None:
        worker.wrote(1)
        time.sleep(0.1)
        ended.append(1)

    def cancel(nbytes: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Computation, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run_jobs([job], cancel)
    assert (calls[:4], ended) == ([0, 0, 0, 0], [1])


def test_memory_is_used_again() -> None:
    def job(worker: pipeline.Worker) -> tuple[int, int, bool]:
        first, second = worker.memory(0, 100), worker.memory(1, 50)
        first[:5] = b"hello"
        again = worker.memory(0, 80)
        return len(first), len(second), bytes(again[:5]) == b"hello"

    assert pipeline.run_jobs([job] * 3, lambda nbytes: None) == [(100, 50, True)] * 3


# Memory


@pytest.mark.case(42)
def test_memory_grows_neither_with_the_checkpoint_nor_with_the_loras(tmp_path: Path) -> None:
    """A checkpoint of 380 MB with weights of up to 8 MB, and eight LoRA files of 29 MB that touch them all.

    Beside the interpreter and torch: for each of at most 4 threads a weight and what its eight adapters need, which is
    in fp16, in fp32, and joined in fp32 (5 MB · (1 + 2 + 2)); and 40 MB for code of torch that was not used before.
    """
    width, rank = 1024, 64
    shapes: dict[str, tuple[int, ...]] = {}
    for block in range(8):
        for stream in ("img", "txt"):
            shapes[f"double_blocks.{block}.{stream}_attn.qkv"] = (3 * width, width)
            shapes[f"double_blocks.{block}.{stream}_mlp.0"] = (4 * width, width)
            shapes[f"double_blocks.{block}.{stream}_mlp.2"] = (width, 4 * width)
    keys = {
        "img_in.weight": (width, 64),
        "vector_in.in_layer.weight": (width, 768),
        "guidance_in.in_layer.weight": (width, 256),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    }
    keys |= {f"{name}.weight": shape for name, shape in shapes.items()}  # fmt: skip
    base = tiny.sparse_file(tmp_path / "base.safetensors", tiny.with_dtype(keys, "BF16"))
    lora = tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", shapes), rank)
    assert (base.stat().st_size // 10**6, lora.stat().st_size // 10**6) == (371, 29)
    idle = samples.python("-c", "import torch, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    peaks: list[int] = []
    for count in (1, 8):
        out = tmp_path / "out.safetensors"
        stack = [word for _ in range(count) for word in ("--lora", str(lora))]
        done = samples.python(
            "-m", "lora_core", "merge", "--base", str(base), *stack, "--out", str(out), "--json", "--overwrite"
        )
        assert done.stderr == ""
        peaks.append(json.loads(done.stdout)["peak_rss_bytes"] - int(idle.stdout) * 1024)
        out.unlink()
    assert peaks[0] < 4 * (8e6 + 0.65e6 * 5) + 60e6, peaks
    assert peaks[1] < 4 * (8e6 + 5.2e6 * 5) + 60e6, peaks
