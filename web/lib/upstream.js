// @ts-check
/** What is wired to a node before anything has run: the model that it works on, and the rows of its stack. */

import { isNewer, parseRows } from "./rows.js";
import { linkInto, slotsOf, sources, targets, widgetValue } from "./wires.js";

/**
 * @typedef {import("../types").GraphNode} GraphNode
 * @typedef {import("./wires.js").Place} Place
 */

const NO_FILE = "None";
const LOW_INPUT = "model_low"; // of Load LoRA: what the other files of pairs are for

/** The widget of our own nodes that names the model which LoRAs are matched with. */
const OWN_FILES = /** @type {Record<string, string>} */ ({
    LoraCoreMerge: "checkpoint", LoraCoreInspect: "against", LoraCoreResize: "base", LoraCoreConvert: "base",
    LoraCoreCombine: "base", LoraCoreExtract: "base",
});
/** The widgets by which loaders name a model, and the folder as our server names it. */
const LOADER_FILES = Object.entries({ ckpt_name: "", unet_name: "diffusion_models/" });

/**
 * Returns the name of the model that a node works on, as the server lists it: of our own file widget, or of the loader
 * that its `model` comes from. Null if there is none, if it is not a file, or if it may be one of several.
 * @param {GraphNode} node
 * @returns {string | null}
 */
export function modelOf(node) {
    return only(modelsAt({ node, slot: 0, path: [] }, new Set()));
}

/**
 * Returns the name of the model of all nodes that a node's LORA_STACK goes to, or null as `modelOf` does.
 * @param {GraphNode} node
 */
export function modelOfStack(node) {
    return only(consumersOf(node).flatMap((place) => modelsAt(place, new Set())));
}

/** Returns the nodes that a node's LORA_STACK goes to, through other Stack nodes. */
export function consumersOf(/** @type {GraphNode} */ node) {
    return stackConsumers({ node, slot: 0, path: [] }, new Set());
}

/**
 * Returns the rows of all Stack nodes wired to a node's `lora_stack`, in stack order; `complete` is false if some of it
 * comes from elsewhere, so that nobody knows it before the run.
 * @param {GraphNode} node
 * @returns {{rows: import("./rows.js").Row[], complete: boolean}}
 */
export function stackRows(node) {
    return rowsAt({ node, slot: 0, path: [] }, new Set());
}

/** @param {(string | null)[]} names */
function only(names) {
    const different = new Set(names);
    return different.size === 1 ? [...different][0] : null;
}

/**
 * @param {Place} place
 * @param {Set<GraphNode>} seen
 * @returns {(string | null)[]}
 */
function modelsAt({ node, path }, seen) {
    if (seen.has(node)) return [];
    seen.add(node);
    const own = OWN_FILES[kindOf(node)];
    if (own) return [fileName(widgetValue(node, own, path), "")];
    const isModel = (/** @type {unknown} */ type) => type === "MODEL";
    const inputs = slotsOf(node.inputs, (input, slot) =>
        input.name !== LOW_INPUT && (isModel(input.type) || isModel(linkInto(node, slot)?.type)));
    const before = inputs.flatMap((slot) => sources(node, slot, path));
    if (inputs.length) return before.flatMap((place) => modelsAt(place, seen));
    const loader = LOADER_FILES.find(([name]) => node.widgets?.some((widget) => widget.name === name));
    return [loader ? fileName(widgetValue(node, loader[0], path), loader[1]) : null];
}

/** @returns {string | null} */
function fileName(/** @type {unknown} */ value, /** @type {string} */ folder) {
    return typeof value === "string" && value && value !== NO_FILE ? folder + value.replaceAll("\\", "/") : null;
}

/**
 * @param {Place} place
 * @param {Set<GraphNode>} seen
 * @returns {{rows: import("./rows.js").Row[], complete: boolean}}
 */
function rowsAt({ node, path }, seen) {
    const found = { rows: /** @type {import("./rows.js").Row[]} */ ([]), complete: true };
    if (seen.has(node)) return found;
    seen.add(node);
    const slot = (node.inputs ?? []).findIndex((input) => input.name === "lora_stack");
    for (const place of slot < 0 ? [] : sources(node, slot, path)) {
        const value = kindOf(place.node) === "LoraCoreStack" ? widgetValue(place.node, "rows", place.path) : undefined;
        const before = rowsAt(place, seen);
        const known = value !== undefined && !isNewer(value);
        found.rows.push(...before.rows, ...(known ? parseRows(value).rows : []));
        found.complete &&= before.complete && known;
    }
    return found;
}

/**
 * Returns the nodes, and there the inputs, that a node's LORA_STACK outputs go to, through other Stack nodes.
 * @param {Place} place
 * @param {Set<GraphNode>} seen
 * @returns {Place[]}
 */
function stackConsumers({ node, path }, seen) {
    if (seen.has(node)) return [];
    seen.add(node);
    const stacks = (/** @type {GraphNode} */ one) => slotsOf(one.outputs, (output) => output.type === "LORA_STACK");
    const places = stacks(node).flatMap((slot) => targets(node, slot, path));
    return places.flatMap((place) => (stacks(place.node).length ? stackConsumers(place, seen) : [place]));
}

/** The id that the graph knows a node by: the class that the server knows, or the front end's type. */
function kindOf(/** @type {GraphNode} */ node) {
    return node.comfyClass ?? node.type;
}
