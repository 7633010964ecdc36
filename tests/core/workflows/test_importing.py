"""Peers' workflows as ours and back: the same names, strengths and switches, and every wire where it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_core.errors import LoraError, OptionError, WorkflowError
from lora_core.workflows import graph
from lora_core.workflows.graph import GraphNode, Link
from lora_core.workflows.importing import convert_workflow, has_peers, rows_of_text
from lora_core.workflows.importing.model import Converted
from lora_core.workflows.importing.peers import PEERS as PEERS_BY_TYPE
from tests import manifests, peertypes
from tests.core.samples import message

FILES = ["styles/ink.safetensors", "people/alice.safetensors", "detail.safetensors", "turbo.safetensors"]

INK, ALICE, DETAIL = FILES[:3]
PEERS = [name for name in manifests.workflows() if manifests.workflow_rows(name)]
CHAIN = [
    (INK, True, 0.8, None), ("turbo.safetensors", True, 1.0, 0.0), (ALICE, False, 0.7, 0.25), (DETAIL, True, -0.5, 0.1),
]  # fmt: skip


fixture = manifests.workflow


def expected(peer: str) -> dict[str, list[tuple[Any, ...]]]:
    return {node: [tuple(row) for row in rows] for node, rows in manifests.workflow_rows(peer).items()}


def convert_prompt(prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
    return convert_workflow(prompt, **more).workflow


def graph_of(workflow: dict[str, Any], tmp_path: Path) -> dict[str, GraphNode]:
    """Return what the rest of the library reads in a workflow, by id."""
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(workflow), encoding="utf-8")
    return graph.graph_of(graph.read_json(file), file.name)


def awake(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow in which nothing is bypassed: what is, does not run, and is not read."""
    for level in levels(workflow) if "nodes" in workflow else ():
        for node in level["nodes"]:
            node["mode"] = 0
    return workflow


def of_type(graph: dict[str, GraphNode], kind: str) -> dict[str, GraphNode]:
    return {key: node for key, node in graph.items() if node.type == kind}


def rows_of(node: GraphNode) -> list[tuple[Any, ...]]:
    assert node.inputs["rows"]["v"] == 1
    return [(row["name"], row["on"], row["strength"], row["strength_clip"]) for row in node.inputs["rows"]["rows"]]


def levels(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield workflow
    yield from (workflow.get("definitions") or {}).get("subgraphs") or []


def check_wires(workflow: dict[str, Any]) -> None:
    """Every link is known at both of its ends, and nothing else is; ids are unique and below the counters."""
    seen: set[Any] = set()
    for level in levels(workflow):
        nodes = {node["id"]: node for node in level["nodes"]}
        assert not seen & set(nodes)
        seen |= set(nodes)
        links = [list(link.values())[:6] if isinstance(link, dict) else link for link in level["links"]]
        assert len({link[0] for link in links}) == len(links)
        slots = [(node["id"], slot, item) for node in nodes.values() for slot, item in enumerate(node["inputs"])]
        given = {(item["link"], node, slot) for node, slot, item in slots if item["link"] is not None}
        slots = [(node["id"], slot, item) for node in nodes.values() for slot, item in enumerate(node["outputs"])]
        taken = {(link, node, slot) for node, slot, item in slots for link in item["links"] or []}
        given |= {(link, -20, slot) for slot, end in enumerate(level.get("outputs", [])) for link in end["linkIds"]}
        taken |= {(link, -10, slot) for slot, end in enumerate(level.get("inputs", [])) for link in end["linkIds"]}
        assert {(link[0], link[3], link[4]) for link in links} == given
        assert {(link[0], link[1], link[2]) for link in links} == taken
        counter = level.get("last_node_id") or level["state"]["lastNodeId"]
        assert counter >= max(nodes)


def converted(name: str, **options: Any) -> Converted:
    workflow = fixture(name)
    before = copy.deepcopy(workflow)
    result = convert_workflow(workflow, names=FILES, **options)
    assert workflow == before, "the input is left as it is"
    if "nodes" in result.workflow:
        check_wires(result.workflow)
    return result


@pytest.mark.parametrize("form", ["editor", "api"])
@pytest.mark.parametrize("peer", PEERS)
def test_rows_of_each_peer(peer: str, form: str, tmp_path: Path) -> None:
    result = converted(f"{peer}_{form}")
    stacks = of_type(graph_of(awake(result.workflow), tmp_path), "LoraCoreStack")
    assert {key: rows_of(node) for key, node in stacks.items()} == expected(peer)
    assert not has_peers(result.workflow)
    assert has_peers(fixture(f"{peer}_{form}"))


@pytest.mark.parametrize("form", ["editor", "api"])
@pytest.mark.parametrize("peer", [*PEERS, "builtin"])
def test_the_model_goes_the_same_way(peer: str, form: str, tmp_path: Path) -> None:
    """From the checkpoint through a Load LoRA for each node that loads to the sampler and the text encoder."""
    graph = graph_of(awake(converted(f"{peer}_{form}").workflow), tmp_path)
    loads = of_type(graph, "LoraCoreLoad")
    last = graph["22"].inputs["model"].node
    assert loads[last].inputs["semantics"] == "comfyui"
    assert graph["20"].inputs["clip"] == Link(last, 1)
    while last in loads:
        assert loads[last].inputs["lora_name"] == "None"
        clip, model = loads[last].inputs["clip"], loads[last].inputs["model"]
        assert clip == Link(model.node, 1)
        assert graph[loads[last].inputs["lora_stack"].node].type == "LoraCoreStack"
        last = model.node
    assert last == "1"
    roles = [PEERS_BY_TYPE[node["class_type"]].role for node in fixture(f"{peer}_api").values()
             if node["class_type"] in PEERS_BY_TYPE]  # fmt: skip
    assert len(loads) == max(1, len(roles) - roles.count("stacker"))  # a chain of built-in loaders becomes one


@pytest.mark.parametrize("form", ["editor", "api"])
def test_stacks_stay_wired_in_a_row(form: str, tmp_path: Path) -> None:
    for peer, first, second in (("efficiency", "4", "5"), ("easyuse", "4", "5"), ("loramanager", "4", "23")):
        graph = graph_of(converted(f"{peer}_{form}").workflow, tmp_path)
        assert graph[second].inputs["lora_stack"] == Link(first, 0)
        assert "lora_stack" not in graph[first].inputs


@pytest.mark.parametrize("form", ["editor", "api"])
def test_lora_managers_other_outputs(form: str, tmp_path: Path) -> None:
    result = converted(f"loramanager_{form}")
    graph = graph_of(result.workflow, tmp_path)
    assert graph["6"].inputs["source"] == Link("5", 3)  # trigger_words of Load LoRA
    assert graph["7"].inputs["source"] == Link("23", 1)  # lora_text of Stack LoRAs
    assert any("trigger words are now joined" in note for note in result.notes)


@pytest.mark.parametrize("form", ["editor", "api"])
def test_an_output_without_equal_is_told(form: str, tmp_path: Path) -> None:
    result = converted(f"comfyroll_{form}")
    if form == "editor":
        assert "node 6 (CR Apply LoRA Stack): its output 2 (help text) has no equal; the wire to node 7 is gone." in (
            result.notes
        )
        assert "source" not in graph_of(result.workflow, tmp_path)["7"].inputs
    assert result.converted == 3


def test_own_rows_first_is_told_once_where_it_matters() -> None:
    notes = [note for note in converted("efficiency_editor").notes if "now come after it" in note]
    assert len(notes) == 1
    assert notes[0].startswith("node 5 (LoRA Stacker)")
    assert not [note for note in converted("easyuse_editor").notes if "now come after it" in note]


def test_place_title_mode_groups_and_what_has_no_place() -> None:
    workflow = converted("rgthree_editor").workflow
    nodes = {node["id"]: node for node in workflow["nodes"]}
    old = {node["id"]: node for node in fixture("rgthree_editor")["nodes"]}[5]
    load, stack = nodes[5], nodes[23]
    assert (load["type"], stack["type"]) == ("LoraCoreLoad", "LoraCoreStack")
    assert load["pos"] == old["pos"]
    assert load["title"] == stack["title"] == "My LoRAs"
    assert load["color"] == stack["color"] == "#322"
    kept = load["properties"]["imported_from"]
    assert kept == {"type": old["type"], "properties": old["properties"], "widgets_values": old["widgets_values"]}
    (group,) = workflow["groups"]
    x, y, width, height = group["bounding"]
    assert x <= stack["pos"][0] and stack["pos"][0] + stack["size"][0] <= x + width
    assert y <= stack["pos"][1] and stack["pos"][1] + stack["size"][1] <= y + height
    assert workflow["extra"] == fixture("rgthree_editor")["extra"]
    comfyroll = {node["id"]: node for node in converted("comfyroll_editor").workflow["nodes"]}
    assert (comfyroll[5]["mode"], comfyroll[5]["title"], comfyroll[23]["mode"]) == (4, "Styles", 0)


def test_new_nodes_stand_where_nothing_does() -> None:
    for peer in PEERS:
        boxes = [(*node["pos"], *(node["size"].values() if isinstance(node["size"], dict) else node["size"]))
                 for node in converted(f"{peer}_editor").workflow["nodes"] if node["id"] >= 23]  # fmt: skip
        others = [(*node["pos"], *node["size"]) for node in converted(f"{peer}_editor").workflow["nodes"]
                  if node["id"] < 20 and isinstance(node["size"], list)]  # fmt: skip
        for x, y, w, h in boxes:
            assert not [
                box
                for box in others
                if x < box[0] + box[2] and box[0] < x + w and y < box[1] + box[3] and box[1] < y + h
            ]


def test_a_mode_of_the_node_is_that_of_both() -> None:
    workflow = fixture("rgthree_editor")
    workflow["nodes"][1]["mode"] = 4
    nodes = {node["id"]: node for node in convert_workflow(workflow).workflow["nodes"]}
    assert (nodes[5]["mode"], nodes[23]["mode"]) == (4, 4)


def test_titles_in_prompts() -> None:
    prompt = convert_prompt(fixture("comfyroll_api"))
    assert prompt["5"]["_meta"] == {"title": "Stack LoRAs"}
    named = fixture("comfyroll_api")
    named["5"]["_meta"]["title"] = "Styles"
    assert convert_prompt(named)["5"]["_meta"] == {"title": "Styles"}


def test_subgraph(tmp_path: Path) -> None:
    result = converted("subgraph_editor")
    graph = graph_of(result.workflow, tmp_path)
    (stack,), (load,) = (of_type(graph, kind).values() for kind in ("LoraCoreStack", "LoraCoreLoad"))
    assert rows_of(stack) == expected("rgthree")["23"][:2]
    assert load.inputs["model"] == Link("1", 0)
    assert load.inputs["clip"] == Link("1", 1)
    assert graph["22"].inputs["model"] == Link(load.id, 0)
    assert graph["20"].inputs["clip"] == Link(load.id, 1)
    instance = next(node for node in result.workflow["nodes"] if node["id"] == 5)
    assert instance["properties"]["proxyWidgets"] == []
    assert "node 5: widgets of converted nodes no longer show on this subgraph; open it." in result.notes
    back = convert_workflow(result.workflow, to="builtin").workflow
    check_wires(back)
    assert {node["type"] for node in back["definitions"]["subgraphs"][0]["nodes"]} == {"LoraLoader"}


def test_chosen_nodes_only() -> None:
    assert converted("comfyroll_editor", nodes=[5]).converted == 1
    assert converted("comfyroll_api", nodes=["5", "4"]).converted == 2
    assert converted("subgraph_editor", nodes=[31]).converted == 0
    assert converted("subgraph_editor", nodes=["11111111-0000-4000-8000-000000000000:31"]).converted == 1
    assert converted("rgthree_editor", nodes=[]).workflow == fixture("rgthree_editor")


@pytest.mark.parametrize("form", ["editor", "api"])
def test_builtin_chain(form: str, tmp_path: Path) -> None:
    graph = graph_of(converted(f"builtin_{form}").workflow, tmp_path)
    (stack,), (load,) = (of_type(graph, kind).values() for kind in ("LoraCoreStack", "LoraCoreLoad"))
    wanted = CHAIN if form == "editor" else [CHAIN[0], CHAIN[1], CHAIN[3]]
    assert rows_of(stack) == wanted
    assert load.id == "7"
    assert not [node for node in graph.values() if node.type.startswith("LoraLoader")]


def test_what_hangs_on_the_middle_of_a_chain_splits_it(tmp_path: Path) -> None:
    workflow = fixture("builtin_editor")
    nodes = {node["id"]: node for node in workflow["nodes"]}
    workflow["links"].append([99, 5, 0, 30, 0, "MODEL"])  # a second taker of the model
    nodes[5]["outputs"][0]["links"].append(99)
    workflow["nodes"].append({"id": 30, "type": "ModelSave", "mode": 0, "pos": [0, 0], "size": [10, 10],
                              "inputs": [{"name": "model", "type": "MODEL", "link": 99}], "outputs": []})  # fmt: skip
    result = convert_workflow(workflow, names=FILES)
    check_wires(result.workflow)
    graph = graph_of(result.workflow, tmp_path)
    assert graph["30"].inputs["model"] == Link("5", 0)
    assert graph["7"].inputs["model"] == Link("5", 0)
    assert graph["7"].inputs["clip"] == Link("5", 1)
    first, second = (graph[graph[key].inputs["lora_stack"].node] for key in ("5", "7"))
    assert (rows_of(first), rows_of(second)) == (CHAIN[:2], CHAIN[2:])


def test_a_text_encoder_from_elsewhere_splits_a_chain(tmp_path: Path) -> None:
    prompt = fixture("builtin_api")
    prompt["7"]["inputs"]["clip"] = ["1", 1]
    prompt["20"]["inputs"]["clip"] = ["4", 1]
    graph = graph_of(convert_prompt(prompt), tmp_path)
    assert graph["5"].inputs["clip"] == Link("1", 1)
    assert graph["20"].inputs["clip"] == Link("5", 1), "the model-only loader after it changes no text encoder"
    assert graph["7"].inputs["lora_name"] == DETAIL
    assert (graph["7"].inputs["clip"], graph["7"].inputs["model"]) == (Link("1", 1), Link("5", 0))


def test_one_loader_becomes_one_node(tmp_path: Path) -> None:
    prompt = fixture("builtin_api")
    result = convert_workflow(prompt, nodes=["5"])
    load = graph_of(result.workflow, tmp_path)["5"]
    assert (load.type, load.inputs["lora_name"]) == ("LoraCoreLoad", "turbo.safetensors")
    assert (load.inputs["strength_model"], load.inputs["strength_clip"]) == (1.0, 0.0)
    assert "clip" not in load.inputs


@pytest.mark.parametrize("form", ["editor", "api"])
@pytest.mark.parametrize("peer", ["builtin", *PEERS])
def test_there_and_back(peer: str, form: str, tmp_path: Path) -> None:
    """Through built-in loaders and back: the same rows in the same order, but for rows off in a prompt."""
    ours = converted(f"{peer}_{form}")
    if peer == "loramanager":  # a built-in loader has no trigger words to show
        ours.workflow = without(ours.workflow, 6)
    there = convert_workflow(ours.workflow, to="builtin", names=FILES)
    back = convert_workflow(there.workflow, names=FILES)
    for result in (there, back):
        if form == "editor":
            check_wires(result.workflow)
    left = set(of_type(graph_of(there.workflow, tmp_path), "LoraCoreLoad"))
    loads = of_type(before := graph_of(ours.workflow, tmp_path), "LoraCoreLoad")
    # in a prompt, a Load LoRA whose rows are all off is left; and lora_text is still wired out of a stack
    assert left == ({key for key, load in loads.items() if is_all_off(before, load)} if form == "api" else set())
    assert there.converted
    assert applied(back.workflow, tmp_path) == applied(ours.workflow, tmp_path)


def is_all_off(graph: dict[str, GraphNode], node: GraphNode) -> bool:
    """Tell whether no row of the stacks that are wired into a node is on."""
    while link := node.inputs.get("lora_stack"):
        node = graph[link.node]
        if any(on and name for name, on, _, _ in rows_of(node)):
            return False
    return True


def without(workflow: dict[str, Any], node_id: int) -> dict[str, Any]:
    """Return the workflow without a node that has only inputs."""
    if "nodes" not in workflow:
        return {key: node for key, node in workflow.items() if key != str(node_id)}
    gone = [link[0] for link in workflow["links"] if link[3] == node_id]
    nodes = [node for node in workflow["nodes"] if node["id"] != node_id]
    for node in nodes:
        for output in node["outputs"]:
            output["links"] = [link for link in output["links"] or [] if link not in gone]
    return {**workflow, "nodes": nodes, "links": [link for link in workflow["links"] if link[0] not in gone]}


def applied(workflow: dict[str, Any], tmp_path: Path) -> list[tuple[Any, ...]]:
    """Return (name, strengths) of all LoRAs on the way to the sampler, in order; those switched off are none."""
    graph = graph_of(workflow, tmp_path)
    found: list[tuple[Any, ...]] = []

    def of_stack(link: Link | None) -> list[tuple[Any, ...]]:
        if link is None:
            return []
        node = graph[link.node]
        rows = [row for row in rows_of(node) if row[1] and row[0]]
        clips = [(name, model, model if clip is None else clip) for name, _, model, clip in rows]
        return of_stack(node.inputs.get("lora_stack")) + clips

    node = graph[graph["22"].inputs["model"].node]
    while node.type == "LoraCoreLoad":
        own = [node.inputs[name] for name in ("lora_name", "strength_model", "strength_clip")]
        found = of_stack(node.inputs.get("lora_stack")) + ([] if own[0] == "None" else [tuple(own)]) + found
        node = graph[node.inputs["model"].node]
    return found


def test_disabled_rows_are_bypassed_loaders() -> None:
    ours = converted("rgthree_editor")
    there = convert_workflow(ours.workflow, to="builtin", names=FILES, separator="\\")
    loaders = [node for node in there.workflow["nodes"] if node["type"].startswith("LoraLoader")]
    values = [(node["type"], *node["widgets_values"], node["mode"]) for node in loaders]
    assert sorted(values) == sorted([
        ("LoraLoader", "styles\\ink.safetensors", 0.8, 0.8, 0),
        ("LoraLoader", "people\\alice.safetensors", 1.0, 0.25, 4),
        ("LoraLoaderModelOnly", "detail.safetensors", -0.5, 0),
    ])  # fmt: skip
    assert "node 5 (Load LoRA): people/alice.safetensors is switched off; its loader is bypassed." in there.notes
    prompt = convert_workflow(convert_prompt(fixture("rgthree_api")), to="builtin")
    assert any("left out, as a prompt has no bypassed nodes" in note for note in prompt.notes)


LOAD = {"model": ["1", 0], "clip": ["1", 1], "lora_name": "own.safetensors", "strength_model": 0.5, "strength_clip": 1}


def ours(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {}},
        "2": {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": rows}}},
        "3": {"class_type": "LoraCoreLoad", "inputs": {**LOAD, "lora_stack": ["2", 0], **more}},
        "4": {"class_type": "KSampler", "inputs": {"model": ["3", 0]}},
    }


def test_own_lora_comes_last(tmp_path: Path) -> None:
    graph = graph_of(convert_workflow(ours([{"name": "a.safetensors"}]), to="builtin").workflow, tmp_path)
    last = graph[graph["4"].inputs["model"].node]
    assert (last.inputs["lora_name"], last.inputs["strength_model"], last.inputs["strength_clip"]) == (
        "own.safetensors", 0.5, 1.0,
    )  # fmt: skip
    assert graph[last.inputs["model"].node].inputs["lora_name"] == "a.safetensors"
    assert "2" not in graph


@pytest.mark.parametrize(
    "workflow, reason",
    [
        (ours([{"name": "a", "blocks": "te=0"}]), "a has block strengths, which a built-in loader cannot apply"),
        (ours([{"name": "a", "low": "b"}]), "a has a low-noise file, which a built-in loader cannot apply"),
        (ours([], lora_stack=["1", 0]), "its stack comes from node 1 (CheckpointLoaderSimple), not from Stack LoRAs"),
        (ours([], lora_name=["1", 0]), "lora_name is wired, and a built-in loader has no equal"),
        (ours([], lora_name="None"), "it has no LoRA"),
        (ours([], blocks="te=0"), "it has block strengths, which a built-in loader cannot apply"),
        (ours([], model_low=["1", 0]), "model_low is wired, and a built-in loader has no equal"),
        (ours([]) | {"5": {"class_type": "PreviewAny", "inputs": {"source": ["3", 2]}}},
         "report is wired, and a built-in loader has no equal"),
    ],
)  # fmt: skip
def test_what_a_chain_cannot_say_stays(workflow: dict[str, Any], reason: str) -> None:
    result = convert_workflow(workflow, to="builtin")
    assert result.workflow == workflow
    assert f"node 3 (Load LoRA): left as it is: {reason}." in result.notes
    assert result.converted == 0


def test_a_stack_that_others_use_stays(tmp_path: Path) -> None:
    workflow = ours([{"name": "a.safetensors"}])
    workflow["5"] = {"class_type": "LoraCoreMerge", "inputs": {"lora_stack": ["2", 0]}}
    result = convert_workflow(workflow, to="builtin")
    graph = graph_of(result.workflow, tmp_path)
    assert graph["5"].inputs["lora_stack"] == Link("2", 0)
    assert graph["3"].type == "LoraLoader"
    assert any("something else than a converted Load LoRA uses it" in note for note in result.notes)


def test_names_are_never_guessed() -> None:
    for files, wanted in (
        (["a/ink.safetensors", "b/ink.safetensors"], "ink"),
        (["ink.safetensors", "b/ink.safetensors"], "ink.safetensors"),
        (["b/ink.pt"], "b/ink.pt"),
        (["other.safetensors"], "ink"),
        (None, "ink"),
    ):
        result = convert_workflow(fixture("loramanager_api"), names=files)
        assert result.workflow["23"]["inputs"]["rows"]["rows"][0]["name"] == wanted
    notes = convert_workflow(fixture("loramanager_api"), names=["a/ink.safetensors", "b/ink.safetensors"]).notes
    expected = "ink: several files fit: a/ink.safetensors, b/ink.safetensors; choose one of them."
    assert f"node 5 (Lora Loader (LoraManager)): {expected}" in notes


def test_lora_manager_without_a_list_reads_its_text() -> None:
    prompt = fixture("loramanager_api")
    prompt["5"]["inputs"] |= {"text": "<lora:ink:0.5> and <lora:detail:1:0.2>", "loras": None}
    rows = convert_prompt(prompt)["23"]["inputs"]["rows"]["rows"]
    assert [(row["name"], row["strength"], row["strength_clip"]) for row in rows] == [
        ("ink", 0.5, None), ("detail", 1.0, 0.2),
    ]  # fmt: skip


def test_wired_values_stay_and_are_told() -> None:
    prompt = fixture("efficiency_api")
    prompt["4"]["inputs"]["lora_wt_1"] = ["9", 0]
    result = convert_workflow(prompt)
    assert result.workflow["4"] == prompt["4"]
    assert "node 4 (LoRA Stacker): left as it is: lora_wt_1 is wired, and a row holds no wires." in result.notes
    assert result.workflow["5"]["inputs"]["lora_stack"] == ["4", 0]


TAGS = "<lora:a:0.5> <lora:b:0.5:0.25> <lora:c> <lora:a:1>"


@pytest.mark.parametrize(
    "dialect, text, rows",
    [
        ("lora-manager", TAGS, [("a", 0.5, None), ("b", 0.5, 0.25), ("c", 1, None), ("a", 1, None)]),
        ("prompt-control", TAGS, [("a", 0.5, None), ("b", 0.5, 0.25), ("c", 1, None), ("a", 1, None)]),
        ("easy-use", TAGS, [("a", 0.5, 1), ("b", 0.5, 0.25), ("c", 1, None)]),
        ("a1111", TAGS, [("a", 0.5, None), ("b", 0.25, 0.5), ("c", 1, None), ("a", 1, None)]),
        ("a1111", "<lora:a:te=0.5:unet=0.25> <lora:b:0.5:unet=2>", [("a", 0.25, 0.5), ("b", 2, 0.5)]),
        ("lora-manager", r"<LORA:styles\ink:-.5>", [("styles/ink", -0.5, None)]),
        ("lora-manager", "a cat, <lora", []),
    ],
)
def test_text_dialects(dialect: Any, text: str, rows: list[tuple[Any, ...]]) -> None:
    found = rows_of_text(text, dialect).rows
    assert [(row["name"], row["strength"], row["strength_clip"]) for row in found] == rows
    assert all(row["on"] is True for row in found)


@pytest.mark.parametrize(
    "dialect, text, note",
    [
        ("prompt-control", "[<lora:a:1>::0.5]", "<lora:a:1>: stands in a schedule; the row counts for all steps."),
        ("prompt-control", "<lora:a:1:0.5:in4-8=0.5>", "<lora:a:1:0.5:in4-8=0.5>: in4-8=0.5 is not kept."),
        ("easy-use", "<lora:a:1:1:LBW=x;A=1>", "<lora:a:1:1:LBW=x;A=1>: LBW=x;A=1 is not kept."),
        ("easy-use", "<lora:a:1><lora:a:2>", "<lora:a:2>: left out, for Easy-Use reads the first tag of a name only."),
        ("a1111", "<lora:a:1:1:lbw=OUTS>", "<lora:a:1:1:lbw=OUTS>: lbw=OUTS is not kept."),
    ],
)
def test_text_tells_what_is_lost(dialect: Any, text: str, note: str) -> None:
    assert rows_of_text(text, dialect).notes == [note]
    assert rows_of_text("<lora:a:1>", dialect).notes == []


ON, OFF = ": one of several choices; its row is on.", ": one of several choices; its row is off."
WORDS = ": stands in a schedule or alternation, which is for words; the row counts for all steps."


@pytest.mark.parametrize(
    "dialect, text, rows, notes",
    [
        ("lora-manager", "{<lora:a>|<lora:b>|none}", {"a": True, "b": False}, [f"<lora:a>{ON}", f"<lora:b>{OFF}"]),
        ("easy-use", "{none|x<lora:b>}", {"b": True}, [f"<lora:b>{ON}"]),
        ("a1111", "{2$$<lora:a>|<lora:b>|<lora:c>}", {"a": True, "b": True, "c": False}, None),
        ("a1111", "{1-2$$0.5::<lora:a>|<lora:b>}", {"a": True, "b": False}, None),
        ("lora-manager", "{{<lora:a>|<lora:b>}|<lora:c>}", {"a": True, "b": False, "c": False}, None),
        ("lora-manager", "{<lora:a>|<lora:b>} <lora:c>", {"a": True, "b": False, "c": True}, None),
        ("lora-manager", "{<lora:a> <lora:b>|<lora:c>}", {"a": True, "b": True, "c": False}, None),
        ("lora-manager", "<random:<lora:a>,<lora:b>>", {"a": True, "b": False}, None),
        ("lora-manager", "<lora:{a|b}:0.5>", {"a": True, "b": False}, ["<lora:{a|b}:0.5>: one of 2 choices is meant; "
                                                                       "the first one's row is on."]),
        ("lora-manager", r"\{<lora:a>|<lora:b>\} {<lora:c>} <lora:d", {"a": True, "b": True, "c": True}, []),
        ("prompt-control", "[<lora:a:1>:<lora:b:1>:0.5]", {"a": True, "b": False}, None),
        ("prompt-control", "[<lora:a:1>|<lora:b:1>:0.1]", {"a": True, "b": False}, None),
        ("prompt-control", "[<lora:a:1>]", {"a": True}, []),
        ("a1111", "[<lora:a:1>|<lora:b:1>]", {"a": True, "b": True}, [f"<lora:a:1>{WORDS}", f"<lora:b:1>{WORDS}"]),
        ("lora-manager", "<alternate:<lora:a>|x>", {"a": True}, [f"<lora:a>{WORDS}"]),
        ("a1111", "<lyco:a:1> <LYCO:b:1>", {"a": True, "b": True}, []),
        ("lora-manager", "<lyco:a:1>", {}, ["<lyco:a:1>: left out: <lyco:...> is A1111's; read it as a1111's text."]),
        ("lora-manager", "__styles/*__ <lora:my__own__name>", {"my__own__name": True},
         ["__styles/*__: a wildcard; what it stands for is not read."]),
        ("a1111", "<lora:__any__:1> <wildcard:x>", {}, ["<lora:__any__:1>: left out: its name is a wildcard.",
                                                        "<wildcard:x>: a wildcard; what it stands for is not read."]),
        ("a1111", "x # <lora:a:1>\n<lora:b:1>", {"b": True}, ["<lora:a:1>: stands in a comment; left out."]),
        ("easy-use", "/* <lora:a>\n */ // <lora:b>\n<lora:c>", {"c": True}, None),
        ("lora-manager", "# <lora:a> // <lora:b>", {"a": True, "b": True}, []),
    ],
)  # fmt: skip
def test_what_stands_around_tags(dialect: Any, text: str, rows: dict[str, bool], notes: list[str] | None) -> None:
    """Never two branches of a choice, and nothing of it in silence."""
    found = rows_of_text(text, dialect)
    assert {row["name"]: row["on"] for row in found.rows} == rows
    assert found.notes == notes if notes is not None else found.notes


def test_choices_within_choices_end() -> None:
    assert len(rows_of_text("<lora:" + "{a|b}" * 40 + ">").rows) <= 64
    rows_of_text("{" * 100_000)
    rows_of_text("[<lora:a>" * 2_000)


def test_text_refusals() -> None:
    strength = message(OptionError, lambda: rows_of_text("x <lora:a:much> y", "lora-manager"))
    assert strength == "<lora:a:much>: strength must be a number, found 'much'."
    assert "has no name" in message(OptionError, lambda: rows_of_text("<lora::1>", "a1111"))
    assert "expected one of" in message(OptionError, lambda: rows_of_text("", "webui"))  # pyright: ignore
    assert "within -100 and 100" in message(OptionError, lambda: rows_of_text("<lora:a:1e9>", "lora-manager"))


def _with(name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    workflow = fixture(name)
    change(workflow)
    return workflow


def _deep(depth: int) -> dict[str, Any]:
    value: Any = 0
    for _ in range(depth):
        value = {"a": value}
    return value


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "deep": (lambda: _with("rgthree_api", lambda w: w["5"]["inputs"].update(x=_deep(5000))), "deeper than 100 levels"),
    "many": (lambda: {"nodes": [], "x": [0] * 2_000_001}, "more than 2000000 values"),
    "not a workflow": (lambda: {}, "expected ComfyUI's editor or API format"),
    "no node": (lambda: {"5": {"inputs": {}}}, "node 5: expected an object with a class_type"),
    "links no list": (lambda: {"nodes": [], "links": {"a": 1}}, "workflow: its links are no list"),
    "subgraph": (lambda: {"nodes": [], "definitions": {"subgraphs": [None]}}, "a subgraph's definition without an id"),
    "holds itself": (
        lambda: {"nodes": [], "definitions": {"subgraphs": [{"id": "s", "nodes": [{"id": 1, "type": "s"}]}]}},
        "subgraph s: holds itself",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_workflows(case: str) -> None:
    make, text = BAD[case]
    with pytest.raises(LoraError) as caught:
        convert_workflow(make())
    assert text in str(caught.value)


# What can't be read stops nothing else: it stays as it is, and is told
UNREADABLE: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "strength": (
        "rgthree_api", lambda w: w["5"]["inputs"]["lora_1"].update(strength="much"),
        "node 5 (Power Lora Loader (rgthree)): left as it is: row 1: strength must be a number, found 'much'.",
    ),
    "not a number": (
        "rgthree_api", lambda w: w["5"]["inputs"]["lora_1"].update(strength=float("nan")),
        "node 5 (Power Lora Loader (rgthree)): left as it is: row 1: strength must be a number, found None.",
    ),
    "a huge number": (
        "easyuse_api", lambda w: w["5"]["inputs"].update(lora_1_clip_strength=1e300),
        "node 5 (easy loraStack): left as it is: slot 1: strength must be within -100 and 100, found 1e+300.",
    ),
    "name": (
        "comfyroll_api", lambda w: w["5"]["inputs"].update(lora_name_1=7),
        "node 5 (CR LoRA Stack): left as it is: slot 1: the name must be text, found '7'.",
    ),
    "count": (
        "efficiency_api", lambda w: w["5"]["inputs"].update(lora_count=1e300),
        "node 5 (LoRA Stacker): left as it is: lora_count: expected 0 to 50, found '1e+300'.",
    ),
    "an older layout": (
        "efficiency_editor", lambda w: w["nodes"][2].update(widgets_values=["b.safetensors", 0.5, "None", 1]),
        "left as it is: input_mode: expected simple or advanced, found 'b.safetensors'.",
    ),
    "no list": (
        "loramanager_api", lambda w: w["4"]["inputs"].update(loras="x"),
        "node 4 (Lora Stacker (LoraManager)): left as it is: loras: expected a list of objects, found 'x'.",
    ),
    "chain": (
        "builtin_api", lambda w: w["5"]["inputs"].update(strength_model=None),
        "node 5 (LoraLoaderModelOnly): left as it is: lora_name: strength must be a number, found None.",
    ),
    "no class": ("rgthree_api", lambda w: w.update(x={"inputs": {}}), "node x: expected an object with a class_type"),
    "inputs a list": (
        "rgthree_api", lambda w: w.update(x={"class_type": "y", "inputs": []}),
        "node x (y): its inputs or _meta are no object. It is left as it is.",
    ),
    "a node that is none": ("rgthree_editor", lambda w: w["nodes"].append(7), "workflow: what is no node: '7'."),
    "no type": (
        "rgthree_editor", lambda w: w["nodes"].append({"id": 99}), "workflow: a node without an id of its own or a type"
    ),
    "same id": (
        "rgthree_editor", lambda w: w["nodes"].append({"id": "1", "type": "b"}), "a node without an id of its own"
    ),
    "a link of three": ("rgthree_editor", lambda w: w["links"].append([1, 2, 3]), "workflow: a damaged link"),
    "a link of text": ("rgthree_editor", lambda w: w["links"].append([99, 2, "0", 3, 0, "X"]), "a damaged link"),
    "a link twice": ("rgthree_editor", lambda w: w["links"].append(w["links"][0]), " is there twice. It is left"),
    "inputs of a node": (
        "rgthree_editor", lambda w: w["nodes"].append({"id": 99, "type": "a", "inputs": [1]}),
        "workflow: node 99 (a): inputs is no list of objects. It is left as it is.",
    ),
    "mode": (
        "rgthree_editor", lambda w: w["nodes"].append({"id": 99, "type": "a", "mode": "x"}),
        "workflow: node 99 (a): mode 'x' is no number. It is left as it is.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_stops_nothing_else(case: str) -> None:
    name, spoil, note = UNREADABLE[case]
    workflow = _with(name, spoil)
    is_prompt = "nodes" not in workflow
    if is_prompt:
        power = fixture("rgthree_api")["5"]
        workflow["good"] = {**power, "inputs": {"lora_1": {"on": True, "lora": "good.safetensors", "strength": 0.5}}}
    result = convert_workflow(workflow)
    assert any(note in one for one in result.notes)
    text = json.dumps(result.workflow)
    assert "LoraCoreStack" in text
    assert not is_prompt or "good.safetensors" in text
    if not is_prompt:  # what was added is there again
        assert any(json.dumps(one) == json.dumps(workflow["nodes"][-1]) for one in result.workflow["nodes"])
        assert any(json.dumps(one) == json.dumps(workflow["links"][-1]) for one in result.workflow["links"])


def test_what_cannot_be_read_on_the_way_out() -> None:
    good = ours([{"name": "a.safetensors"}])
    bad = {str(int(key) + 10): node for key, node in ours([{"strength": "x"}]).items()}
    bad["13"]["inputs"] |= {"model": ["11", 0], "clip": ["11", 1], "lora_stack": ["12", 0]}
    result = convert_workflow({**good, **bad}, to="builtin")
    reason = "node 2 (Stack LoRAs): rows: row 1: strength must be a number, found 'x'"
    assert f"node 13 (Load LoRA): left as it is: {reason.replace('node 2', 'node 12')}." in result.notes
    assert result.workflow["13"] == bad["13"]
    assert result.workflow["3"]["class_type"] == "LoraLoader"
    with pytest.raises(OptionError, match="to: expected one of"):
        convert_workflow(ours([]), to="a1111")  # pyright: ignore[reportArgumentType]
    with pytest.raises(WorkflowError):
        convert_workflow({"prompt": {"1": 5}})


def test_posted_prompt_keeps_what_is_around_it() -> None:
    posted = {"prompt": fixture("rgthree_api"), "client_id": "x"}
    result = convert_workflow(posted, names=FILES).workflow
    assert result["client_id"] == "x"
    assert result["prompt"] == convert_prompt(fixture("rgthree_api"), names=FILES)


@pytest.mark.parametrize("value", [None, 5, [], "x", {"nodes": 1}, {"nodes": [1]}, {"definitions": 3, "nodes": []}])
def test_any_json_may_be_asked_for_peers(value: Any) -> None:
    assert has_peers(value) is False


def test_the_page_offers_the_same_nodes() -> None:
    assert peertypes.FILE.read_text("utf-8") == peertypes.script(), "run python -m tests.peertypes"


def test_numbers_that_json_does_not_have_become_null() -> None:
    """ComfyUI writes them into its own files, and no browser reads them."""
    workflow = {"1": {"class_type": "x", "inputs": {"a": float("nan")}, "is_changed": [float("inf"), -float("inf"), 1]}}
    result = convert_workflow(workflow).workflow
    assert result == {"1": {"class_type": "x", "inputs": {"a": None}, "is_changed": [None, None, 1]}}
