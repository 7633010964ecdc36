"""A real ComfyUI for the tests: its own base folder with this pack in it, and prompts followed to their end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

from tests.tiers import Host

REPO = Path(__file__).resolve().parents[1]
PACK = "comfyui-lora-core"
TESTING_NODES = REPO / "tests" / "host" / "testing_nodes"
END_EVENTS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}
START_SECONDS = 300


class PromptRejectedError(Exception):
    """The host refused a prompt; `errors` is its answer, by node."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(json.dumps(answer, indent=1))
        self.answer = answer
        self.errors: dict[str, Any] = answer.get("node_errors") or {}


@dataclass(frozen=True)
class Run:
    """What became of a prompt."""

    status: str  # success, error or interrupted
    outputs: dict[str, Any]  # the ui output of each node
    error: str  # the exception's message, or ""
    error_type: str
    cached: tuple[str, ...]  # nodes whose result came from the cache
    progress: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def text(self, node: str) -> str:
        """Return the text that a node shows."""
        return self.outputs[node]["text"][0]


class Server:
    """One ComfyUI process; use as a context manager."""

    def __init__(self, host: Host, base: Path, packs: Iterable[Path] = (), **environment: str) -> None:
        """`packs` are folders of other packs."""
        self.host, self.base = host, base
        self.packs, self.environment = tuple(packs), environment
        self.models, self.output = base / "models", base / "output"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = base / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self._lay_out()
        command = [
            *(str(self.host.python), str(self.host.path / "main.py"), "--cpu", "--listen", "127.0.0.1"),
            *("--port", str(self.port), "--base-directory", str(self.base), "--disable-auto-launch"),
            *("--disable-api-nodes", "--database-url", "sqlite:///:memory:"),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.base, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def ctrl_c(self, longest: float = 60) -> float:
        """Send what Ctrl-C sends, and return the seconds until the process has ended; raises TimeoutExpired."""
        assert self._process is not None
        start = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(longest)
        return time.monotonic() - start

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, data: Any) -> Any:
        body = json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    @property
    def version(self) -> tuple[int, ...]:
        """ComfyUI's version: older ones lack what the nodes use where it is there."""
        return tuple(map(int, self.get("/system_stats")["system"]["comfyui_version"].split(".")))

    def serve_front_end(self, folder: Path | None) -> None:
        """Give pages that are loaded from now on another front end, or with None the host's own."""
        self.post("/testing/front-end", {"folder": str(folder or "")})

    def node_info(self, node_id: str) -> dict[str, Any]:
        return self.get(f"/object_info/{node_id}")[node_id]

    def memory(self) -> int:
        """Return how many bytes the server holds now, 0 where the system does not tell."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else ()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)

    def worked(self) -> float:
        """Return the seconds of processor time that the server has used, or of the clock where it can't be told."""
        assert self._process is not None
        stat = Path(f"/proc/{self._process.pid}/stat")
        if not stat.exists():
            return time.monotonic()
        ticks = stat.read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def bytes_read(self) -> int:
        """Return how many bytes the server has read from files and sockets so far."""
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/io").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("rchar:")))

    def queue(self, prompt: Mapping[str, Any]) -> None:
        """Have a prompt validated and queued, and wait for no more. Raises PromptRejectedError."""
        self._queue(prompt, uuid.uuid4().hex)

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def run(
        self, prompt: Mapping[str, Any], *, timeout: float = 180, on_event: Callable[[str, Any], None] | None = None
    ) -> Run:
        """Queue `prompt`, follow it to its end and return what became of it. Raises PromptRejectedError.

        `on_event(type, data)` hears all that the server says meanwhile.
        """
        client = uuid.uuid4().hex
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        events = websocket.create_connection(address, timeout=timeout)
        try:
            prompt_id = self._queue(prompt, client)
            return self._follow(events, prompt_id, time.monotonic() + timeout, on_event)
        finally:
            events.close()

    def _queue(self, prompt: Mapping[str, Any], client: str) -> str:
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": client})["prompt_id"]
        except urllib.error.HTTPError as error:
            with error:
                raise PromptRejectedError(json.load(error)) from None

    def _follow(
        self,
        events: websocket.WebSocket,
        prompt_id: str,
        deadline: float,
        on_event: Callable[[str, Any], None] | None,
    ) -> Run:
        cached: list[str] = []
        steps: list[tuple[int, int]] = []
        while time.monotonic() < deadline:
            message = events.recv()
            if not isinstance(message, str):
                continue  # a preview picture
            event = json.loads(message)
            data = event.get("data") or {}
            if on_event:
                on_event(event["type"], data)
            if data.get("prompt_id") != prompt_id:
                continue
            if event["type"] == "execution_cached":
                cached += data["nodes"]
            elif event["type"] == "progress":
                steps.append((data["value"], data["max"]))
            elif event["type"] in END_EVENTS:
                return self._finished(prompt_id, END_EVENTS[event["type"]], data, cached, steps)
        raise TimeoutError(f"prompt {prompt_id} did not end; the log ends with:\n{self.log[-4000:]}")

    def _finished(
        self, prompt_id: str, status: str, data: Mapping[str, Any], cached: list[str], steps: list[tuple[int, int]]
    ) -> Run:
        deadline = time.monotonic() + 20
        history: dict[str, Any] = {}
        while prompt_id not in history and time.monotonic() < deadline:  # the end event is sent just before the entry
            history = self.get(f"/history/{prompt_id}")
            time.sleep(0.02)
        return Run(
            status,
            history[prompt_id]["outputs"],
            str(data.get("exception_message", "")).strip(),
            str(data.get("exception_type", "")),
            tuple(cached),
            tuple(steps),
        )

    def _lay_out(self) -> None:
        for folder in ("checkpoints", "diffusion_models", "text_encoders", "loras", "vae"):
            (self.models / folder).mkdir(parents=True, exist_ok=True)
        for folder in ("custom_nodes", "input", "output", "temp", "user/default"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        if not (self.base / "custom_nodes" / PACK).exists():  # another copy of the pack may be there
            (self.base / "custom_nodes" / PACK).symlink_to(REPO, target_is_directory=True)
        if not (self.base / "custom_nodes" / "testing-nodes").exists():  # a second server in the same folder
            (self.base / "custom_nodes" / "testing-nodes").symlink_to(TESTING_NODES, target_is_directory=True)
        for pack in self.packs:  # copies, because some write into their own folder
            shutil.copytree(pack, self.base / "custom_nodes" / pack.name, ignore=shutil.ignore_patterns(".git"))
        settings = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False}
        (self.base / "user/default/comfy.settings.json").write_text(json.dumps(settings))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended while starting; its log ends with:\n{self.log[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:  # not listening yet
                time.sleep(0.5)
        raise TimeoutError(f"ComfyUI did not start in {START_SECONDS} s; its log ends with:\n{self.log[-4000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
