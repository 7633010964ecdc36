"""Too little memory, too few threads or open files, too little depth, at many points of every operation: one clear
error, or the same result as ever; nothing is left, and the next run succeeds."""

from __future__ import annotations

import _thread
import errno
import json
import os
import resource
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import lora_core
from lora_core.errors import LoraError, ShortageError
from lora_core.shortage import DEPTH, HANDLES, MEMORY, THREADS, tells_shortages
from lora_core.workflows.importing import rows_of_text
from tests import tiny
from tests.core import samples

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4294967296 bytes. Error code 12 (Cannot allocate memory)"
)
SCREEN = 24  # lines that a message may have
CLEANING = frozenset(("__exit__", "__del__", "discard", "close", "end", "drop", "finish"))
WITHOUT = nullcontext()  # any limit
Call = Callable[[Path], Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the operations read: in a folder as ComfyUI's models, which has all that is there."""
    folder = tmp_path_factory.mktemp("shortages") / "models"
    tiny.make_tiny("flux", folder / "checkpoints/base.safetensors", dtype=torch.float16)
    model = tiny.modules("flux")
    shapes = {name: model[name] for name in list(model)[:4]}
    lora = tiny.make_lora(folder / "loras/lora.safetensors", tiny.flat("lora_unet_", shapes))
    base = folder / "checkpoints/base.safetensors"
    lora_core.merge(base, [(lora, 0.5)], folder / "checkpoints/tuned.safetensors")
    peft = tiny.make_lora(
        folder / "peft/adapter_model.safetensors",
        {f"base_model.model.{name}": shapes[name] for name in shapes},
        style="peft",
    )
    (peft.parent / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    node = {"class_type": "LoraCoreMerge", "inputs": {"checkpoint": base.name, "lora_stack": ["2", 0]}}
    stack = {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": [{"name": lora.name}]}}}
    (folder / "workflow.json").write_text(json.dumps({"1": node, "2": stack}))
    peer = {"class_type": "LoraLoader", "inputs": {"lora_name": lora.name, "model": ["9", 0], "clip": ["9", 1]}}
    (folder / "peer.json").write_text(json.dumps({"1": peer, "2": stack}))
    return folder


def calls_of(files: Path) -> dict[str, Call]:
    """Each gets the folder that it may write to."""
    base, tuned, lora = (files / name for name in (
        "checkpoints/base.safetensors", "checkpoints/tuned.safetensors", "loras/lora.safetensors"))  # fmt: skip
    return {
        "inspect": lambda folder: lora_core.inspect(lora, [base], spectra=True),
        "merge": lambda folder: lora_core.merge(base, [lora], folder / "out.safetensors", dtype="bf16"),
        "PEFT": lambda folder: lora_core.merge(base, [files / "peft"], folder / "out.safetensors"),
        "verify": lambda folder: lora_core.verify(tuned, base=base, search=[lora.parent]),
        "extract": lambda folder: lora_core.extract(base, tuned, folder / "out.safetensors", rank=2),
        "convert": lambda folder: lora_core.convert(lora, folder / "out.safetensors", dialect="diffusers", base=base),
        "resize": lambda folder: lora_core.resize(lora, folder / "out.safetensors", rank=2),
        "combine": lambda folder: lora_core.combine([lora, (lora, 0.5)], folder / "out.safetensors", rank=4, base=base),
        "run": lambda folder: lora_core.run(files / "workflow.json", models=files, output=folder),
        "import": lambda folder: lora_core.import_workflow(files / "peer.json", folder / "out.json", models=files),
        "text": lambda folder: rows_of_text("<lora:lora:0.5>", names=["lora.safetensors"]),
        "words": lambda folder: lora_core.trigger_words(lora),
    }


OPERATIONS = tuple(calls_of(Path()))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Tries:
    """Runs an operation with one failure at a time, and looks at what comes of it."""

    def __init__(self, call: Call, folder: Path) -> None:
        self._call, self._folder, self._count = call, folder, 0
        self.errors: list[LoraError] = []
        self.expected = self._result()

    def _result(self, within: AbstractContextManager[object] = WITHOUT) -> dict[str, bytes]:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        try:
            with within:
                self._call(folder)
        except LoraError as error:
            self.errors.append(error)
            assert contents(folder) == {}
        return contents(folder)

    def once(self, within: AbstractContextManager[object] = WITHOUT) -> str:
        """Return the message of the error; nothing if there was none, and then the result is as ever."""
        before, threads = len(self.errors), samples.threads()
        found = self._result(within)
        assert samples.threads(threads) <= threads
        if len(self.errors) == before:
            assert found == self.expected
            return ""
        message = str(self.errors[-1])
        assert 0 < len(message.split("\n")) <= SCREEN
        return message

    def end(self) -> None:
        """The process goes on, and the next honest run succeeds."""
        assert self.once() == ""


@pytest.fixture
def tries(files: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tries]:
    made = Tries(calls_of(files)[request.param], tmp_path)
    yield made
    made.end()


operations = pytest.mark.parametrize("tries", OPERATIONS, indirect=True)


def entries(call: Callable[[], Any], at: int = -1, error: BaseException | None = None) -> int:
    """Return into how many functions of ours the call enters, each counted once; into that number with an error."""
    seen: set[Any] = set()

    def enter(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        name = str(frame.f_globals.get("__name__"))
        if (
            not name.startswith("lora_core.")
            or name == "lora_core.shortage"
            or code in seen
            or code.co_name in CLEANING
        ):
            return
        seen.add(code)
        if len(seen) - 1 == at and error is not None:
            raise error

    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(None)
    return len(seen)


@pytest.mark.attack(33)
@operations
@pytest.mark.parametrize(
    ("error", "words"),
    [(MemoryError(), MEMORY), (RuntimeError(ALLOCATOR), MEMORY), (RecursionError("maximum depth"), DEPTH)],
    ids=["memory", "allocator", "depth"],
)
def test_what_any_function_may_raise(tries: Tries, error: BaseException, words: str) -> None:
    count = entries(tries.once)
    found = []
    for part in range(12):

        def one(part: int = part) -> None:
            found.append(tries.once())

        entries(one, count * part // 12, type(error)(*error.args))
    told = [message for message in found if message]
    assert sum(words in message for message in told) >= len(told) - 3  # what reads JSON says that this is too deep
    assert len(told) >= 4


@pytest.mark.attack(33)
@operations
def test_threads_that_can_not_be_started(tries: Tries, monkeypatch: pytest.MonkeyPatch) -> None:
    start = _thread.start_new_thread

    def refusing(number: int) -> Callable[..., int]:
        left = [number]

        def starting(*arguments: Any) -> int:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
            return start(*arguments)

        return starting

    for number in range(4):
        monkeypatch.setattr(_thread, "start_new_thread", refusing(number))
        assert tries.once()[-len(THREADS) :] in ("", THREADS)  # `run` says first in which node


@contextmanager
def handles(count: int) -> Iterator[None]:
    """Allow so many more open files, which the system itself counts."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.attack(33)
@operations
def test_files_that_can_not_be_opened_any_more(tries: Tries) -> None:
    told = [tries.once(handles(count)) for count in range(8)]
    assert [message for message in told if message and HANDLES not in message] == []


@pytest.mark.attack(33)
def test_shortages_are_told_apart_from_other_errors() -> None:
    def told_of(error: BaseException) -> str:
        with pytest.raises(ShortageError) as caught:
            tells_shortages(raising(error))()
        assert caught.value.__cause__ is error
        return str(caught.value)

    assert told_of(MemoryError()) == told_of(OSError(errno.ENOMEM, "Cannot allocate memory")) == MEMORY
    with pytest.raises(torch.OutOfMemoryError):  # ComfyUI unloads its models when it sees this
        told_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    with pytest.raises(RuntimeError, match="shapes differ"):
        tells_shortages(raising(RuntimeError("shapes differ")))()
    with pytest.raises(FileNotFoundError):
        tells_shortages(raising(FileNotFoundError(errno.ENOENT, "No such file")))()


def raising(error: BaseException) -> Callable[[], None]:
    def failing() -> None:
        raise error

    return failing


@pytest.mark.attack(33)
def test_what_an_error_held_is_let_go() -> None:
    """Or the host would keep the memory that was too little, as long as it keeps the error."""
    alive: list[weakref.ref[torch.Tensor]] = []

    @tells_shortages
    def failing() -> None:
        large = torch.zeros(10)
        alive.append(weakref.ref(large))
        raise MemoryError

    with pytest.raises(ShortageError) as caught:
        failing()
    assert caught.value.__cause__ is not None
    assert alive[0]() is None
