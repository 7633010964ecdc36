import assert from "node:assert/strict";
import { test } from "node:test";
import { modelOf, modelOfStack, stackRows } from "../../web/lib/upstream.js";
import { newRow } from "../../web/lib/rows.js";

/** The link to an input, as all of the page's nodes tell it but those that stand for subgraphs. */
function getInputLink(at) {
    return this.graph.links.find((link) => link.target_id === this.id && link.target_slot === at) ?? null;
}

/** Of a node that stands for a subgraph: the link inside to one of its outputs. It fails where there is no such output. */
function linkToOutput(at) {
    return this.subgraph.outputNode.slots[at].getLinks()[0];
}

/** A graph with the members that the page's graphs have. `add(type, …)` returns a node; `link(from, slot, to, slot)`. */
function newGraph(root) {
    const graph = { nodes: [], links: [], subgraphs: new Map(), outputNode: { slots: [] } };
    graph.rootGraph = root ?? graph;
    graph.getNodeById = (id) => graph.nodes.find((node) => node.id === id) ?? null;
    graph.add = (type, { inputs = [], outputs = [], widgets = {}, ...more } = {}) => {
        const slot = ([name, kind, widget]) => ({ name, type: kind, ...(widget ? { widget: { name: widget } } : {}) });
        const node = {
            id: graph.nodes.length + 1, type, graph, mode: 0, inputs: inputs.map(slot), outputs: outputs.map(slot),
            widgets: Object.entries(widgets).map(([name, value]) => ({ name, value })), ...more,
            isSubgraphNode: () => Boolean(more.subgraph),
            getInputLink: more.subgraph ? linkToOutput : getInputLink,
        };
        graph.nodes.push(node);
        return node;
    };
    graph.link = (from, slot, to, at) => {
        const target = to === null ? -20 : to.id;
        const kind = from === null ? to.inputs[at].type : from.outputs[slot].type;
        const link = { origin_id: from?.id ?? -10, origin_slot: slot, target_id: target, target_slot: at, type: kind };
        graph.links.push(link);
        if (to === null) {
            graph.outputNode.slots[at] ??= { getLinks: () => graph.links.filter((one) => one.target_id === -20 && one.target_slot === at) };
        }
    };
    if (root) root.subgraphs.set(root.subgraphs.size, graph);
    return graph;
}

const MODEL = ["model", "MODEL"];
const STACKS = ["lora_stack", "LORA_STACK"];
const checkpoint = (graph, name = "a/one.safetensors", more = {}) =>
    graph.add("CheckpointLoaderSimple", { outputs: [MODEL, ["CLIP", "CLIP"]], widgets: { ckpt_name: name }, ...more });
const load = (graph, more = {}) =>
    graph.add("LoraCoreLoad", { inputs: [MODEL, ["clip", "CLIP"], STACKS], outputs: [MODEL], ...more });
const stack = (graph, names, more = {}) => graph.add("LoraCoreStack", {
    inputs: [STACKS], outputs: [STACKS], widgets: { rows: { v: 1, rows: names.map(newRow) } }, ...more,
});
const names = ({ rows }) => rows.map((row) => row.name);

test("the model of a loader, through other nodes, reroutes and bypassed nodes", () => {
    const graph = newGraph();
    const loader = checkpoint(graph, "a\\one.safetensors");
    const other = graph.add("LoraLoader", { inputs: [["clip", "CLIP"], MODEL], outputs: [MODEL], mode: 4 });
    const reroute = graph.add("Reroute", { inputs: [["", "*"]], outputs: [["", "*"]] });
    const shift = graph.add("ModelSamplingFlux", { inputs: [MODEL], outputs: [MODEL] });
    const node = load(graph);
    assert.equal(modelOf(node), null);
    graph.link(loader, 0, other, 1);
    graph.link(other, 0, reroute, 0);
    graph.link(reroute, 0, shift, 0);
    graph.link(shift, 0, node, 0);
    assert.equal(modelOf(node), "a/one.safetensors");
    shift.mode = 2;
    assert.equal(modelOf(node), null, "a muted node gives nothing");
});

test("a diffusion model's loader, a file widget of our own, and none", () => {
    const graph = newGraph();
    const unet = graph.add("UNETLoader", { outputs: [MODEL], widgets: { unet_name: "flux.safetensors" } });
    const node = load(graph);
    graph.link(unet, 0, node, 0);
    assert.equal(modelOf(node), "diffusion_models/flux.safetensors");
    assert.equal(modelOf(graph.add("LoraCoreMerge", { widgets: { checkpoint: "x.safetensors" } })), "x.safetensors");
    assert.equal(modelOf(graph.add("LoraCoreInspect", { widgets: { against: "None" } })), null);
    assert.equal(modelOf(graph.add("X", { outputs: [MODEL], widgets: { ckpt: "x" } })), null);
});

test("two models that differ are no model, and a ring of wires ends", () => {
    const graph = newGraph();
    const merge = graph.add("ModelMergeSimple", { inputs: [["model1", "MODEL"], ["model2", "MODEL"]], outputs: [MODEL] });
    const node = load(graph);
    graph.link(merge, 0, node, 0);
    graph.link(checkpoint(graph), 0, merge, 0);
    graph.link(checkpoint(graph), 0, merge, 1);
    assert.equal(modelOf(node), "a/one.safetensors");
    graph.nodes.at(-1).widgets[0].value = "other.safetensors";
    assert.equal(modelOf(node), null);
    const ring = load(graph);
    graph.link(ring, 0, ring, 0);
    assert.equal(modelOf(ring), null);
});

test("a file name that is wired: a primitive's value, else nobody knows", () => {
    const graph = newGraph();
    const loader = checkpoint(graph, "stale", { inputs: [["ckpt_name", "COMBO", "ckpt_name"]] });
    const node = load(graph);
    graph.link(loader, 0, node, 0);
    const primitive = graph.add("PrimitiveNode", { outputs: [["COMBO", "COMBO"]], widgets: { value: "p.safetensors" } });
    graph.link(primitive, 0, loader, 0);
    assert.equal(modelOf(node), "p.safetensors");
    primitive.type = "StringConcatenate";
    assert.equal(modelOf(node), null);
});

test("into a subgraph, and out of it, also where it is used twice", () => {
    const root = newGraph();
    const inner = newGraph(root);
    const innerLoader = checkpoint(inner, "inner.safetensors", { inputs: [["ckpt_name", "COMBO", "ckpt_name"]] });
    const innerNode = load(inner);
    inner.link(innerLoader, 0, null, 0);
    inner.link(null, 0, innerNode, 0);
    inner.link(null, 1, innerLoader, 0);
    const use = (name) => root.add("abc-def", {
        subgraph: inner, inputs: [MODEL, ["ckpt_name", "COMBO", "ckpt_name"]], outputs: [MODEL], widgets: { ckpt_name: name },
    });
    const first = use("first.safetensors");
    const node = load(root);
    root.link(first, 0, node, 0);
    assert.equal(modelOf(node), "first.safetensors", "the widget on the subgraph's face counts");
    root.link(checkpoint(root), 0, first, 0);
    assert.equal(modelOf(innerNode), "a/one.safetensors");
    const second = use("second.safetensors");
    assert.equal(modelOf(node), "first.safetensors", "the way in is the way out");
    root.link(checkpoint(root, "b.safetensors"), 0, second, 0);
    assert.equal(modelOf(innerNode), null, "one node, two models");
    root.links.at(-1).origin_id = root.links.at(-2).origin_id;
    assert.equal(modelOf(innerNode), "a/one.safetensors");
});

test("the rows of all stacks before a node, in order", () => {
    const graph = newGraph();
    const [first, second, node] = [stack(graph, ["1", "2"]), stack(graph, ["3"]), load(graph)];
    assert.deepEqual(stackRows(node), { rows: [], complete: true });
    graph.link(first, 0, second, 0);
    graph.link(second, 0, node, 2);
    assert.deepEqual(names(stackRows(node)), ["1", "2", "3"]);
    assert.deepEqual(names(stackRows(second)), ["1", "2"]);
    second.mode = 4;
    assert.deepEqual(names(stackRows(node)), ["1", "2"]);
    const peer = graph.add("LoRA Stacker", { outputs: [STACKS], inputs: [STACKS] });
    graph.links.length = 0;
    graph.link(first, 0, peer, 0);
    graph.link(peer, 0, node, 2);
    assert.deepEqual(names(stackRows(node)), ["1", "2"]);
    assert.equal(stackRows(node).complete, false, "what another pack's node adds is not known");
    first.widgets[0].value = { v: 9, rows: [newRow("x")] };
    graph.link(first, 0, second, 0);
    assert.equal(stackRows(second).complete, false, "rows of a newer version");
});

test("the model that a stack is for, through other stacks and out of a subgraph", () => {
    const graph = newGraph();
    const [first, second, node] = [stack(graph, []), stack(graph, []), load(graph)];
    assert.equal(modelOfStack(first), null);
    graph.link(first, 0, second, 0);
    graph.link(second, 0, node, 2);
    graph.link(checkpoint(graph), 0, node, 0);
    assert.equal(modelOfStack(first), "a/one.safetensors");
    const merge = graph.add("LoraCoreMerge", { inputs: [STACKS], widgets: { checkpoint: "a/one.safetensors" } });
    graph.link(first, 0, merge, 0);
    assert.equal(modelOfStack(first), "a/one.safetensors");
    merge.widgets[0].value = "b";
    assert.equal(modelOfStack(first), null);
    assert.equal(modelOfStack(second), "a/one.safetensors");

    const inner = newGraph(graph);
    const innerStack = stack(inner, ["in"]);
    inner.link(innerStack, 0, null, 0);
    const face = graph.add("uuid", { subgraph: inner, outputs: [STACKS] });
    const consumer = load(graph);
    graph.link(checkpoint(graph, "c"), 0, consumer, 0);
    graph.link(face, 0, consumer, 2);
    assert.equal(modelOfStack(innerStack), "c");
    assert.deepEqual(names(stackRows(consumer)), ["in"]);
});
