import assert from "node:assert/strict";
import { test } from "node:test";
import { modelOfStack, stackRows } from "../../web/lib/upstream.js";
import { modelsOf } from "../../web/lib/models.js";
import { newRow } from "../../web/lib/rows.js";
import { runsOf } from "../../web/lib/status.js";
import { nodeAt, sources } from "../../web/lib/wires.js";

/** A graph of nodes in a row, each wired to the one before it; `asked` counts how often one is asked for its link. */
function row(count, type) {
    const graph = { nodes: [], asked: 0, outputNode: { slots: [] } };
    graph.rootGraph = graph;
    graph.getNodeById = (id) => graph.nodes[id] ?? null;
    const slot = { name: "lora_stack", type: "LORA_STACK" };
    for (let id = 0; id < count; id += 1) {
        const widgets = [{ name: "rows", value: { v: 1, rows: [newRow(`${id}.safetensors`)] } }];
        const link = id ? { origin_id: id - 1, origin_slot: 0, target_id: id, target_slot: 0, type: "LORA_STACK" } : null;
        graph.nodes.push({
            id, type, graph, mode: 0, inputs: [slot], outputs: [slot], widgets, isSubgraphNode: () => false,
            getInputLink: () => { graph.asked += 1; return link; },
        });
    }
    return graph;
}

/** How often a graph of `count` nodes is asked. */
function asked(count, type, question) {
    const graph = row(count, type);
    question(graph);
    return graph.asked;
}

for (const [name, type, question] of [
    ["stacks before a node", "LoraCoreStack", (graph) => stackRows(graph.nodes.at(-1))],
    ["stacks after a node", "LoraCoreStack", (graph) => modelOfStack(graph.nodes[0])],
    ["reroutes", "Reroute", (graph) => sources(graph.nodes.at(-1), 0, [])],
]) {
    test(`attack 13: ${name} are looked at once`, () => {
        const [small, large] = [asked(100, type, question), asked(1_600, type, question)];
        assert.ok(Math.log(large / small) / Math.log(16) < 1.2, `${small} ${large}`);
    });
}

test("attack 14: no chain is too long", () => {
    const stacks = row(20_000, "LoraCoreStack");
    assert.deepEqual(stackRows(stacks.nodes.at(-1)).rows.map((one) => one.name), stacks.nodes.slice(0, -1).map((node) => `${node.id}.safetensors`));
    assert.equal(modelOfStack(stacks.nodes[0]), null);
    const reroutes = row(20_000, "Reroute");
    reroutes.nodes[0].type = "x";
    assert.deepEqual(sources(reroutes.nodes.at(-1), 0, []), [{ node: reroutes.nodes[0], slot: 0, path: [] }]);
});

test("attack 14: a circle of reroutes ends", () => {
    const graph = row(2, "Reroute");
    graph.nodes[0].getInputLink = () => ({ origin_id: 1, origin_slot: 0, target_id: 0, target_slot: 0, type: "*" });
    assert.deepEqual(sources(graph.nodes[1], 0, []), []);
});

test("attack 14: an id of many subgraphs", () => {
    const graph = { getNodeById: () => node };
    const node = { subgraph: graph };
    assert.equal(nodeAt(graph, Array(50_000).fill("1").join(":")), node);
});

test("attack 13: what a run reported finds its rows, and models keep what was known, by name", () => {
    let reads = 0;
    const counted = (name) => ({ get name() { reads += 1; return name; } });
    const names = Array.from({ length: 500 }, (_, at) => `${at}.safetensors`);
    const rows = names.map(newRow);
    assert.equal(runsOf(rows, (one) => one.name, names.map(counted).reverse()).filter(Boolean).length, 500);
    modelsOf(rows, names.map(counted).reverse());
    assert.ok(reads < 20 * 500, `${reads}`);
});
