// @ts-check
/** Which nodes can be converted, how a node is named to the server, and how its answer is told. */

import { text } from "./i18n.js";
import { PEER_TYPES } from "./peertypes.js";

/** @typedef {import("../types.js").GraphNode} GraphNode */
/** @typedef {"loracore" | "builtin" | "builtin-rows"} Target */

const BUILTIN_TYPES = ["LoraLoader", "LoraLoaderModelOnly"];
const OUR_TYPES = ["LoraCoreLoad", "LoraCoreStack"];

/**
 * What a node can be converted to, or null.
 * @param {{ type?: string | null }} node
 * @returns {Target | null}
 */
export function targetOf(node) {
    const type = node.type ?? "";
    if (PEER_TYPES.includes(type) || BUILTIN_TYPES.includes(type)) return "loracore";
    return OUR_TYPES.includes(type) ? "builtin" : null;
}

/**
 * The nodes that an entry of `node`'s menu means: all that are selected, if it is one of them, else it alone.
 * @param {GraphNode} node
 * @param {GraphNode[]} selected
 */
export function meant(node, selected) {
    const target = targetOf(node);
    const same = selected.filter((other) => targetOf(other) === target);
    return same.includes(node) ? same : [node];
}

/**
 * A node as the server finds it in a workflow: by its id, and inside a subgraph after the id of that.
 * @param {GraphNode} node
 */
export function locator(node) {
    const graph = /** @type {any} */ (node.graph);
    return !graph || graph.isRootGraph || !graph.rootGraph || graph.rootGraph === graph ? `${node.id}` : `${graph.id}:${node.id}`;
}

/**
 * What a message says after a conversion.
 * @param {{ converted: number, notes: string[] }} answer
 * @param {Target} target
 * @returns {{ severity: "success" | "info", summary: string, detail: string, life: number }}
 */
export function told(answer, target) {
    const count = { n: answer.converted };
    const done = target === "loracore"
        ? text("Converted to LoRA Core: {n}", count)
        : text("Converted to built-in loaders: {n}", count);
    const notes = answer.notes.map((note) => `• ${note}`);
    return {
        severity: answer.converted ? "success" : "info",
        summary: answer.converted ? done : text("Nothing to convert"),
        detail: notes.join("\n"),
        life: 6000 + 3000 * notes.length,
    };
}

/**
 * The value of Stack LoRAs with more rows at its end.
 * @param {any} value
 * @param {object[]} rows
 */
export function withRows(value, rows) {
    const own = Array.isArray(value?.rows) ? value.rows : [];
    return { v: 1, ...value, rows: [...own, ...rows] };
}
