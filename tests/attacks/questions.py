"""Requests to the pack's routes: every file by every route, hostile texts and workflows, and broken headers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.attacks.loras import alike

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Question:
    label: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


def questions(files: Sequence[str], model: str) -> Iterator[Question]:
    for name in files:
        named = quote(name)
        yield Question(f"info {name}", f"/lora-core/info?name={named}")
        yield Question(f"hash {name}", f"/lora-core/info?name={named}&hash=1")
        yield Question(f"preview {name}", f"/lora-core/preview?name={named}")
        yield _posted(f"check {name}", "check", {"model": model, "rows": [{"name": name, "blocks": "double.0=0.5"}]})
    yield _posted("check all", "check", {"model": model, "rows": [{"name": name} for name in files]})
    yield _posted("check alike", "check", {"model": None, "rows": list(alike())})
    for label, text in _texts():
        yield _posted(f"text {label}", "import", {"text": text})
        yield _posted(
            f"rows {label}", "check", {"model": None, "rows": [{"name": text[:900_000], "blocks": text[:9_000]}]}
        )
    for label, workflow in _workflows():
        for to in ("loracore", "builtin"):
            yield _posted(f"workflow {label} to {to}", "import", {"workflow": workflow, "nodes": None, "to": to})
    yield from _broken()


def _posted(label: str, route: str, data: Any) -> Question:
    return Question(label, f"/lora-core/{route}", json.dumps(data).encode(), JSON)


def _texts() -> Iterator[tuple[str, str]]:
    for count in (20_000, 200_000, 1_000_000):
        yield f"digits {count}", f"<lora:a:{'1' * count}x>"
        yield f"dots {count}", f"<lora:a:{'1.' * (count // 2)}>"
        yield f"open {count}", "<lora:" * (count // 6)
        yield f"colons {count}", f"<lora:{'a:' * (count // 2)}>"
        yield f"tags {count}", "<lora:ink:1>" * (count // 12)
        yield f"spaces {count}", f"<lora:{' ' * count}x"
        yield f"brackets {count}", "(" * count
        yield f"exponents {count}", f"<lora:a:1e{'9' * count}>"
        yield f"backslashes {count}", "\\" * count
        yield f"newlines {count}", "<lora:a\n" * (count // 8)


def _workflows() -> Iterator[tuple[str, Any]]:
    for count in (300, 3_000):
        yield f"chain of {count}", _chain(count, "LoraLoader")
        yield f"stacks of {count}", _chain(count, "LoraCoreStack")
        yield f"text of {count}", {"1": _node("CLIPTextEncode", text="<lora:a:1> " * count)}
    yield "ring", {str(n): _node("LoraLoader", model=[str((n + 1) % 50), 0], lora_name="a") for n in range(50)}
    yield "wide", _editor([_drawn(n, "LoraLoader") for n in range(5_000)])
    yield "links", {**_editor([_drawn(1, "LoraLoader")]), "links": [[n, 1, 0, 1, 0, "MODEL"] for n in range(60_000)]}
    yield "subgraphs", _subgraphs(40)
    yield "itself", _subgraphs(3, first="g2")
    yield "deep", {"nodes": json.loads("[" * 90 + "]" * 90)}
    yield "deeper", {"nodes": json.loads("[" * 800 + "]" * 800)}
    yield "values", {"nodes": [_drawn(1, "LoraLoader", [0] * 300_000)]}
    yield "notes", _editor([_drawn(n, "LoraLoader", ["x" * 10_000, 1, 1]) for n in range(500)])
    yield "types", _editor([_drawn(n, value) for n, value in enumerate([None, 7, [], {}, "", "x" * 100_000])])
    yield "ids", _editor([_drawn(n, "LoraLoader") for n in ("x", -1, 2**70, None, [], {}, 1e308)])


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _chain(count: int, kind: str) -> dict[str, Any]:
    first = {"0": _node("CheckpointLoaderSimple", ckpt_name="x")}
    wire = "lora_stack" if kind == "LoraCoreStack" else "model"
    return first | {str(n): _node(kind, lora_name="a", **{wire: [str(n - 1), 0]}) for n in range(1, count)}


def _drawn(number: Any, kind: Any, values: Any = ("a", 1, 1)) -> dict[str, Any]:
    return {"id": number, "type": kind, "inputs": [], "outputs": [], "widgets_values": values, "pos": [0, 0], "mode": 0}


def _editor(nodes: list[Any]) -> dict[str, Any]:
    return {"version": 0.4, "nodes": nodes, "links": []}


def _subgraphs(depth: int, first: str = "x") -> dict[str, Any]:
    """Subgraphs that hold the one before twice, and so on."""
    made = [
        {"id": f"g{n}", "name": f"g{n}", "inputs": [], "outputs": [], "links": [], "version": 1,
         "nodes": [_drawn(k, f"g{n - 1}" if n else first) for k in (1, 2)]}
        for n in range(depth)
    ]  # fmt: skip
    return {**_editor([_drawn(1, f"g{depth - 1}")]), "definitions": {"subgraphs": made}}


def _broken() -> Iterator[Question]:
    name = "/lora-core/info?name=x"
    for number, address in enumerate(("http://[", "http://x:y", "http://x:99999", "//", "null", "http://" + "a" * 70)):
        yield Question(f"origin {number}", name, headers={"Origin": address})
        yield Question(f"host {number}", name, headers={"Host": address, "Origin": "http://127.0.0.1"})
    bodies = (
        b"",
        b"{",
        b"[" * 900_000,
        b'{"rows":' * 100_000,
        b"[" + b"[]," * 300_000 + b"0]",
        b'{"rows": NaN}',
        b"\xff" * 1_000,
        b'{"rows": [' + b"{}," * 2_001 + b"{}]}",
        b'{"workflow": ' + b"[]," * 5_000_000,
        b'{"rows": 1' + b"0" * 900_000 + b"}",
    )
    for number, body in enumerate(bodies):
        for route in ("check", "import"):
            yield Question(f"body {number} to {route}", f"/lora-core/{route}", body, JSON)
    packed = {**JSON, "Content-Encoding": "deflate"}
    yield Question("compressed", "/lora-core/check", b"\x78\x9c" + b"\0" * 100, packed)
    yield Question("traversal", "/lora-core/info?name=../../../etc/passwd")
    yield Question("long name", f"/lora-core/info?name={'x' * 7_000}")
