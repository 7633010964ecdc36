"""What running a workflow costs grows with its nodes, and no chain is too deep."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_core.errors import LoraError, WorkflowError
from lora_core.report import Report
from lora_core.text import MOST_LEVELS
from lora_core.workflows import run as run_module
from lora_core.workflows.bounds import MAX_DEPTH
from lora_core.workflows.graph import prompt_of
from lora_core.workflows.perform import Performed
from lora_core.workflows.run import run
from tests import growing
from tests.flattening import invented

Flow = dict[str, Any]


def chain_of_stacks(count: int, name: str = "None") -> Flow:
    """Return an API prompt of stacks that hang on each other, the last on a merge."""
    row = {"on": True, "name": name, "strength": 1.0}
    flow: Flow = {
        str(number): {
            "class_type": "LoraCoreStack",
            "inputs": {"rows": {"v": 1, "rows": [row]}, **({"lora_stack": [str(number - 1), 0]} if number else {})},
        }
        for number in range(count)
    }
    merge = {"checkpoint": "base.safetensors", "lora_stack": [str(count - 1), 0], "filename_prefix": "x"}
    return {**flow, "merge": {"class_type": "LoraCoreMerge", "inputs": merge}}


def reroutes(count: int) -> Flow:
    """Return a chain of reroutes, with a taker at every one of them."""
    nodes = [invented.node(1, "CheckpointLoader", (), ("MODEL",))]
    links: list[Any] = []
    for number in range(count):
        nodes.append(invented.node(10 + number, "Reroute", [("", "*", 10 + number)], ("*",)))
        links.append((10 + number, 9 + number if number else 1, 0, 10 + number, 0, "*"))
        taker, link = 1_000_000 + number, 2_000_000 + number
        nodes.append(invented.node(taker, "KSampler", [("model", "MODEL", link)], ()))
        links.append((link, 10 + number, 0, taker, 0, "MODEL"))
    return invented.flow(nodes, links)


def setters(count: int) -> Flow:
    """Return pairs of a setter and a getter, all setters first."""
    nodes = [invented.node(1, "CheckpointLoader", (), ("MODEL",))]
    links: list[Any] = []
    for number in range(count):
        set_id, get_id, taker = 10 + 3 * number, 11 + 3 * number, 12 + 3 * number
        nodes += [
            {
                **invented.node(set_id, "SetNode", [("MODEL", "MODEL", set_id)], ("*",)),
                "widgets_values": [f"n{number}"],
            },
            {**invented.node(get_id, "GetNode", (), ("MODEL",)), "widgets_values": [f"n{number}"]},
            invented.node(taker, "KSampler", [("model", "MODEL", taker)], ()),
        ]
        links += [(set_id, 1, 0, set_id, 0, "MODEL"), (taker, get_id, 0, taker, 0, "MODEL")]
    return invented.flow(nodes, links)


def wide_subgraph(count: int) -> Flow:
    """Return a subgraph of many inputs, each a widget of a node inside, and each listed by an older page."""
    inside = [invented.merge(100 + number, None, "own", ("dtype", "COMBO", number)) for number in range(count)]
    links = [(number, -10, number, 100 + number, 1, "COMBO") for number in range(count)]
    host = invented.node(1, invented.uuid("wide"), values=["fp16"] * count)
    host["properties"] = {"proxyWidgets": [[str(100 + number), "dtype"] for number in range(count)]}
    inputs = [f"dtype {number}:COMBO" for number in range(count)]
    return invented.flow([host], (), invented.subgraph("wide", inside, links, inputs))


def nested_in_a_row(depth: int, name: int | str = 1) -> Flow:
    """Return subgraphs inside each other, one in each."""
    levels = [
        invented.subgraph(
            f"s{n}",
            [{**invented.node(1, "KSampler" if n == depth else invented.uuid(f"s{n + 1}")), "id": name}],
            (),
            (),
        )
        for n in range(depth + 1)
    ]
    return invented.flow([invented.node(1, invented.uuid("s0"))], (), *levels)


def nested_faces(depth: int) -> Flow:
    """Return subgraphs inside each other that hand two inputs on to the one inside, the last to a node."""
    names = ("dtype", "semantics")
    slots = [(name, "COMBO", 10 + slot) for slot, name in enumerate(names)]
    links = [(10 + slot, -10, slot, 1, slot, "COMBO") for slot in range(2)]
    made = [
        invented.subgraph(
            f"s{n}",
            [invented.node(1, "LoraCoreMerge" if n == depth else invented.uuid(f"s{n + 1}"), slots)],
            links,
            [f"{name}:COMBO" for name in names],
        )
        for n in range(depth + 1)
    ]
    return invented.flow([invented.node(1, invented.uuid("s0"), slots[:0])], (), *made)


GROWING: dict[str, tuple[Callable[[int], Flow], int]] = {
    "chain of reroutes": (reroutes, 30),
    "setters": (setters, 30),
    "wide subgraph": (wide_subgraph, 30),
    "nested subgraphs": (nested_in_a_row, 30),
    "nested faces": (nested_faces, 3),
}


@pytest.mark.attack(13)
@pytest.mark.parametrize("case", GROWING)
def test_a_prompt_costs_what_its_nodes_are(case: str) -> None:
    make, size = GROWING[case]

    def prepare(count: int) -> growing.Run:
        flow = make(count)
        return lambda: prompt_of(flow, "x")

    assert growing.exponent(prepare, size) < 1.2


@pytest.mark.attack(13, 14)
def test_running_a_chain_costs_what_its_stacks_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = put_in_place(tmp_path, monkeypatch)

    def prepare(count: int) -> growing.Run:
        file = tmp_path / f"{count}.json"
        file.write_text(json.dumps(chain_of_stacks(count, "ink.safetensors")))
        return lambda: run(file, models=tmp_path)

    assert growing.exponent(prepare, 30) < 1.2
    assert [entry[0] for entry in ran[-1]["lora_stack"]] == ["ink.safetensors"] * 120


def put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make one LoRA, and return the inputs that each operation is given instead of being run."""
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "ink.safetensors").write_bytes(b"")
    ran: list[dict[str, Any]] = []

    def perform(declared: Any, inputs: dict[str, Any], files: Any, **_: Any) -> Performed:
        ran.append(inputs)
        return Performed(Report("merge"), ("", ""))

    monkeypatch.setattr(run_module, "perform", perform)
    return ran


@pytest.mark.attack(14)
@pytest.mark.parametrize("count", [300, 10_000])
def test_a_chain_of_stacks_is_run(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = put_in_place(tmp_path, monkeypatch)
    file = tmp_path / "chain.json"
    file.write_text(json.dumps(chain_of_stacks(count, "ink.safetensors")))
    run(file, models=tmp_path)
    assert len(ran[-1]["lora_stack"]) == count


@pytest.mark.attack(14)
def test_no_wire_is_too_long() -> None:
    wired = growing.at_depth(300, lambda: prompt_of(reroutes(3_000), "x"))
    assert wired["1002999"]["inputs"]["model"] == ["1", 0]
    assert ":".join(["1"] * 1_002) in growing.at_depth(300, lambda: prompt_of(nested_in_a_row(1_000), "x"))


def values_nested(depth: int) -> str:
    return "[" * depth + "]" * depth


DEEP = {
    "what no reader of JSON reads": '{"nodes": ' + values_nested(100_000) + "}",
    "a value of an API prompt": json.dumps(chain_of_stacks(1)).replace('"None"', values_nested(900)),
    "a stack of stacks": '{"1": {"class_type": "LoraCoreMerge", "inputs": {"lora_stack": ' + values_nested(900) + "}}}",
    "a value of a node": '{"nodes": [{"id": 1, "type": "x", "widgets_values": ' + values_nested(900) + "}]}",
}


@pytest.mark.attack(14)
@pytest.mark.parametrize("case", DEEP)
@pytest.mark.parametrize("frames", [0, 300])
def test_what_is_nested_too_deeply_is_one_clear_error(case: str, frames: int, tmp_path: Path) -> None:
    file = tmp_path / "deep.json"
    file.write_text(DEEP[case])
    with pytest.raises(WorkflowError, match=f"^deep.json: .*more than {MOST_LEVELS} levels") as caught:
        growing.at_depth(frames, lambda: run(file, models=tmp_path))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.attack(14)
@pytest.mark.parametrize("frames", [0, 300])
def test_what_was_read_elsewhere_is_not_nested_too_deeply_either(frames: int) -> None:
    """The page and a program's own reading hand over what they have read."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    flow = {"1": {"class_type": "LoraCoreMerge", "inputs": {"lora_stack": deep}}}
    with pytest.raises(WorkflowError, match=f"^deep.json: deeper than {MAX_DEPTH} levels; no workflow is.$"):
        growing.at_depth(frames, lambda: prompt_of(flow, "deep.json"))


BOMBS: dict[str, Callable[[], Flow]] = {
    "empty subgraphs": lambda: doubled(60, []),
    "one long id": lambda: doubled(15, [invented.node(1, "KSampler")], "n" * 1_000_000),
    "many values": lambda: doubled(14, [invented.node(1, "KSampler", values=[0] * 10_000)]),
    "levels": lambda: nested_in_a_row(700, "n" * 300),
}


def doubled(depth: int, last: list[Any], long: str = "") -> Flow:
    """Return subgraphs inside each other, each holding the next one twice."""
    levels = [
        invented.subgraph(
            f"s{n}",
            last
            if n == depth
            else [{**invented.node(side, invented.uuid(f"s{n + 1}")), "id": f"{side}{long}"} for side in (0, 1)],
            (),
            (),
        )
        for n in range(depth + 1)
    ]
    return invented.flow([invented.node(1000, invented.uuid("s0"))], (), *levels)


@pytest.mark.attack(13)
@pytest.mark.parametrize("case", BOMBS)
def test_subgraphs_are_counted_before_they_are_opened(case: str) -> None:
    flow = BOMBS[case]()
    tracemalloc.start()
    with pytest.raises(WorkflowError, match=r"^x: (more than 100000 nodes|its subgraphs, opened, are larger)"):
        prompt_of(flow, "x")
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()


@pytest.mark.attack(28)
def test_lines_of_an_error_stay_lines(tmp_path: Path) -> None:
    """Missing files are told in lines, whatever stands before and after them."""
    flow = chain_of_stacks(1, "lost.safetensors")
    second = {"class_type": "LoraCoreMerge", "inputs": {"checkpoint": "none.safetensors", "filename_prefix": "y"}}
    file = tmp_path / "two.json"
    file.write_text(json.dumps({**flow, "other": second}))
    with pytest.raises(LoraError) as caught:
        run(file, models=tmp_path)
    text = str(caught.value)
    assert "\\n" not in text
    assert text.count("\n") >= 1
    assert text.startswith("node 0 (Stack LoRAs): LoRA 1: lost.safetensors: no such file")
    assert "none.safetensors" in text


def test_names_of_files_forge_no_lines(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps(chain_of_stacks(1, "lost\nforged.safetensors")))
    with pytest.raises(LoraError, match=r"lost\\nforged"):
        run(file, models=tmp_path)
