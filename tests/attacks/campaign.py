"""The campaign: a server, what is sent to it, and what is noted of each attack."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.attacks.loras import write_loras
from tests.attacks.prompts import NODES, Prompt, honest, prompts
from tests.attacks.questions import Question, questions
from tests.attacks.watch import Watch
from tests.host_server import PACK, PromptRejectedError, Server
from tests.tiers import Host
from tests.tiny import make_tiny

MODEL = "attacked.safetensors"
GOOD = "attacks/good.safetensors"


@dataclass(frozen=True)
class Limits:
    """What is asked of the server, in seconds, bytes and characters."""

    state: float = 0.5  # until it tells its own state
    question: float = 45.0  # until a route answers
    prompt: float = 10.0  # until a prompt that still runs is cancelled
    cancel: float = 2.0
    ctrl_c: float = 3.0
    frozen: float = 30.0  # the server is ended, and another one started
    growth: int = 100 * 2**20
    error: int = 5_000  # a screen
    event: int = 1_000_000  # one message to the page


@dataclass(slots=True)
class Tried:
    """What became of one attack."""

    label: str
    seconds: float = 0.0
    result: str = ""
    state: float = 0.0  # the slowest answer of the server meanwhile, in seconds of its own work
    clock: float = 0.0
    problem: str = ""


@dataclass
class Campaign:
    """`pack` is the folder of the pack that is attacked; only attacks whose labels hold `match` are tried."""

    PARTS = ("questions", "prompts", "ctrl-c")

    host: Host
    base: Path
    pack: Path
    match: str
    limits: Limits
    tried: list[Tried] = field(default_factory=list[Tried])
    figures: dict[str, float] = field(default_factory=dict[str, float])
    problems: list[str] = field(default_factory=list[str])
    server: Server = field(init=False)
    watch: Watch = field(init=False)

    def run(self, parts: Sequence[str]) -> None:
        files = self._lay_out()
        with self._started():
            infos = {kind: self.server.node_info(kind) for kind in NODES}
            good, busy = honest(infos, MODEL, GOOD), 0.0
            before = self._memory(good)
            self._settled()
            if "questions" in parts:
                for question in self._matching(questions(files, f"diffusion_models/{MODEL}"), lambda one: one.label):
                    self._note(question.label, lambda one=question: self._asked(one))
            if "prompts" in parts:
                bare = [name.removeprefix("attacks/") for name in files]
                for label, prompt in self._matching(prompts(infos, MODEL, bare), lambda one: one[0]):
                    self._note(label, lambda one=prompt: self._prompted(_placed(one)))
            self._note("the next honest prompt", lambda: self._honest(good))
            self._grown(before, self._memory(good))
            if "ctrl-c" in parts:
                self._busy(infos)
                busy = self._ended("ended after Ctrl-C while busy, s")
        if "ctrl-c" in parts:  # compared with one that has nothing to do: that is ComfyUI's own part
            with self._started():
                idle = self._ended("ended after Ctrl-C while idle, s")
            if busy > idle + self.limits.ctrl_c:
                self.problems.append(f"Ctrl-C took {busy:.1f} s, and {idle:.1f} s with nothing to do")

    @contextlib.contextmanager
    def _started(self) -> Generator[None, None, None]:
        self._start()
        try:
            yield
        finally:
            self.watch.stop()
            self.server.kill()

    def _start(self) -> None:
        self.server = Server(self.host, self.base).__enter__()
        self.watch = Watch(self.server.port, self.server.worked)
        self.watch.start()

    def _lay_out(self) -> list[str]:
        (self.base / "custom_nodes").mkdir()
        (self.base / "custom_nodes" / PACK).symlink_to(self.pack.resolve(), target_is_directory=True)
        files = write_loras(self.base / "models/loras/attacks")
        (self.base / "models/checkpoints").mkdir()
        (self.base / "models/checkpoints/attacks").symlink_to(self.base / "models/loras/attacks")
        make_tiny("flux", self.base / "models/diffusion_models" / MODEL)
        return [f"attacks/{name}" for name in files]

    def _matching(self, found: Iterator[Any], label: Callable[[Any], str]) -> Iterator[Any]:
        return (one for one in found if self.match in label(one))

    def _note(self, label: str, attack: Callable[[], tuple[str, str]]) -> None:
        self.watch.label = label
        start = time.monotonic()
        result, problem = attack()
        one = Tried(label, round(time.monotonic() - start, 2), result[:200], problem=problem)
        work, clock = self.watch.worst.get(label, (0.0, 0.0))
        one.state, one.clock = round(min(work, clock), 3), round(clock, 3)
        frozen = self.watch.waiting() > self.limits.frozen
        if one.state > self.limits.state or frozen:
            one.problem += (
                f" the server did not tell its state for {one.state:.2f} s of its work, {clock:.2f} s of time"
            )
        self.tried.append(one)
        if one.problem or one.seconds > 5:
            sys.stderr.write(f"{one.seconds:7.2f} s  {label}: {one.problem or 'slow'} ({one.result})\n")
        if frozen:
            self.watch.stop()
            self.server.kill()
            self._start()

    def _settled(self) -> None:
        self.watch.label = "nothing"
        time.sleep(2)
        _, clock = self.watch.worst.get("nothing", (0.0, 0.0))
        self.figures["slowest answer while nothing is done, s"] = round(clock, 3)

    def _asked(self, question: Question) -> tuple[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=self.limits.question)
        try:
            method = "GET" if question.body is None else "POST"
            connection.request(method, question.path, question.body, question.headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            return repr(error), f"no answer: {error!r}"
        finally:
            connection.close()
        problem = ""
        if answer.status >= 500 and answer.status != 503:
            problem = f"status {answer.status}"
        elif answer.status >= 400 and len(text) > self.limits.error:
            problem = f"an error of {len(text)} bytes"
        return f"{answer.status} {text[:150]!r}", problem

    def _prompted(self, prompt: Prompt) -> tuple[str, str]:
        cancelled: list[float] = []
        longest = [0]

        def cancel() -> None:
            cancelled.append(time.monotonic())
            with contextlib.suppress(OSError):
                self.server.interrupt()

        def hear(kind: str, data: Any) -> None:
            longest[0] = max(longest[0], len(str(data)))

        timer = threading.Timer(self.limits.prompt, cancel)
        timer.start()
        try:
            run = self.server.run(prompt, timeout=self.limits.question, on_event=hear)
        except PromptRejectedError as error:
            return f"refused: {str(error)[:150]!r}", _too_long(_messages(error), self.limits.error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is noted
            return repr(error)[:200], f"no end: {type(error).__name__}"
        finally:
            timer.cancel()
        problem = _too_long([run.error], self.limits.error)
        if cancelled and (stopped := time.monotonic() - cancelled[0]) > self.limits.cancel:
            problem += f" cancelled in {stopped:.1f} s"
        if longest[0] > self.limits.event:
            problem += f" a message of {longest[0]} characters"
        return f"{run.status}: {run.error[:150]!r}", problem

    def _honest(self, prompt: Prompt) -> tuple[str, str]:
        result, problem = self._prompted(prompt)
        return result, problem or ("" if result.startswith("success") else "it failed")

    def _memory(self, good: Prompt) -> int:
        """Return the memory of the server after an honest prompt and the host's own cleaning."""
        self._honest(good)
        self.server.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(3)
        return self.server.memory()

    def _grown(self, before: int, after: int) -> None:
        self.figures |= {"memory before, MB": before >> 20, "memory after, MB": after >> 20}
        if after - before > self.limits.growth:
            self.problems.append(f"the server has grown by {after - before >> 20} MB")

    def _busy(self, infos: Any) -> None:
        """Let everything of ours be busy."""
        busy = [one for one in questions([GOOD], "") if one.label == "check alike"] * 3
        busy += [Question("hash", f"/lora-core/info?name=attacks/same-{n}.safetensors&hash=1") for n in range(6)]
        for one in busy:
            threading.Thread(target=self._asked, args=(one,), daemon=True).start()
        alike = next(prompt for label, prompt in prompts(infos, MODEL, ()) if label == "alike")
        threading.Thread(target=self._prompted, args=(alike,), daemon=True).start()
        time.sleep(1)

    def _ended(self, figure: str) -> float:
        """End the server as Ctrl-C does, and return the seconds that it took."""
        try:
            seconds = self.server.ctrl_c()
        except subprocess.TimeoutExpired as error:
            seconds = error.timeout
        self.figures[figure] = round(seconds, 2)
        return seconds

    def tell(self, out: TextIO) -> list[str]:
        """Write what was found, and return what passed a limit."""
        self.problems += [f"{one.label}: {one.problem.strip()} ({one.result})" for one in self.tried if one.problem]
        slowest = max(self.tried, key=lambda one: one.state, default=Tried("nothing"))
        out.write(f"{len(self.tried)} attacks, {len(self.problems)} problems\n")
        out.write(f"slowest answer of the server: {slowest.state:.2f} s of its work, at: {slowest.label}\n")
        for name, value in self.figures.items():
            out.write(f"{name}: {value}\n")
        for problem in self.problems:
            out.write(f"PROBLEM: {problem}\n")
        return self.problems


def _placed(prompt: Prompt) -> Prompt:
    """Return a prompt whose LoRAs are in the folder of the attacks."""
    for one in prompt.values():
        rows = one["inputs"].get("rows")
        for row in rows["rows"] if isinstance(rows, dict) else ():
            name = row.get("name") if isinstance(row, dict) else None
            if isinstance(name, str) and not name.startswith(("attacks/", "gone", "x")):
                row["name"] = f"attacks/{name}"
        name = one["inputs"].get("lora_name")
        if isinstance(name, str) and name not in ("None", "") and not name.startswith("attacks/"):
            one["inputs"]["lora_name"] = f"attacks/{name}"
    return prompt


def _messages(error: PromptRejectedError) -> list[str]:
    found = [one.get("details", "") for node in error.errors.values() for one in node.get("errors", ())]
    return [str(text) for text in found]


def _too_long(texts: Sequence[str], limit: int) -> str:
    length = max(map(len, texts), default=0)
    return f"an error of {length} characters" if length > limit else ""
