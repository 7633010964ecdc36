// @ts-check
/** What is wired to a node before anything has run: the model that it works on, and the rows of its stack. */

import { isNewer, parseRows } from "./rows.js";
import { followed, Links, slotsOf, sources, targets, widgetValue } from "./wires.js";

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
    return only(modelsAt([{ node, slot: 0, path: [] }], new Links()));
}

/**
 * Returns the name of the model of all nodes that a node's LORA_STACK goes to, or null as `modelOf` does.
 * @param {GraphNode} node
 */
export function modelOfStack(node) {
    return only(modelsAt(consumersOf(node), new Links()));
}

/** Returns the nodes that a node's LORA_STACK goes to, through other Stack nodes. */
export function consumersOf(/** @type {GraphNode} */ node) {
    return stackConsumers({ node, slot: 0, path: [] }, new Links());
}

/**
 * Returns the rows of all Stack nodes wired to a node's `lora_stack`, in stack order; `complete` is false if some of it
 * comes from elsewhere, so that nobody knows it before the run.
 * @param {GraphNode} node
 * @returns {{rows: import("./rows.js").Row[], complete: boolean}}
 */
export function stackRows(node) {
    return rowsAt({ node, slot: 0, path: [] }, new Links());
}

/** @param {(string | null)[]} names */
function only(names) {
    const different = new Set(names);
    return different.size === 1 ? [...different][0] : null;
}

/**
 * @param {Place[]} places
 * @param {Links} links
 * @returns {(string | null)[]}
 */
function modelsAt(places, links) {
    /** @type {Set<GraphNode>} */
    const seen = new Set();
    const isModel = (/** @type {unknown} */ type) => type === "MODEL";
    return followed(places, ({ node, path }, found) => {
        if (seen.has(node)) return [];
        seen.add(node);
        const own = OWN_FILES[kindOf(node)];
        const inputs = own ? [] : slotsOf(node.inputs, (input, slot) =>
            input.name !== LOW_INPUT && (isModel(input.type) || isModel(links.into(node, slot)?.type)));
        if (inputs.length) return inputs.flatMap((slot) => sources(node, slot, path, links));
        const loader = own ? [own, ""] : LOADER_FILES.find(([name]) => node.widgets?.some((widget) => widget.name === name));
        found.push(loader ? fileName(widgetValue(node, loader[0], path, links), loader[1]) : null);
        return [];
    });
}

/** @returns {string | null} */
function fileName(/** @type {unknown} */ value, /** @type {string} */ folder) {
    return typeof value === "string" && value && value !== NO_FILE ? folder + value.replaceAll("\\", "/") : null;
}

/**
 * @param {Place} start
 * @param {Links} links
 * @returns {{rows: import("./rows.js").Row[], complete: boolean}}
 */
function rowsAt(start, links) {
    let complete = true;
    /** @type {Set<GraphNode>} */
    const seen = new Set();
    /** @typedef {{place: Place, own: boolean}} Task its own rows, or those of what is wired to it, which come before */
    const rows = followed([/** @type {Task} */ ({ place: start, own: false })], (
        { place: { node, path }, own }, /** @type {import("./rows.js").Row[]} */ found) => {
        if (own) {
            const value = kindOf(node) === "LoraCoreStack" ? widgetValue(node, "rows", path, links) : undefined;
            const known = value !== undefined && !isNewer(value);
            for (const row of known ? parseRows(value).rows : []) found.push(row);
            complete &&= known;
            return [];
        }
        if (seen.has(node)) return [];
        seen.add(node);
        const slot = (node.inputs ?? []).findIndex((input) => input.name === "lora_stack");
        const places = slot < 0 ? [] : sources(node, slot, path, links);
        return places.flatMap((place) => [{ place, own: false }, { place, own: true }]);
    });
    return { rows, complete };
}

/**
 * Returns the nodes, and there the inputs, that a node's LORA_STACK outputs go to, through other Stack nodes.
 * @param {Place} start
 * @param {Links} links
 * @returns {Place[]}
 */
function stackConsumers(start, links) {
    /** @type {Set<GraphNode>} */
    const seen = new Set();
    const stacks = (/** @type {GraphNode} */ one) => slotsOf(one.outputs, (output) => output.type === "LORA_STACK");
    return followed([start], (place, /** @type {Place[]} */ found) => {
        const slots = stacks(place.node);
        if (!slots.length && place !== start) found.push(place);
        if (!slots.length || seen.has(place.node)) return [];
        seen.add(place.node);
        return slots.flatMap((slot) => targets(place.node, slot, place.path, links));
    });
}

/** The id that the graph knows a node by: the class that the server knows, or the front end's type. */
function kindOf(/** @type {GraphNode} */ node) {
    return node.comfyClass ?? node.type;
}
