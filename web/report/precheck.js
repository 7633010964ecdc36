// @ts-check
/** How the LoRAs that are wired to a node fit its model, in its report before a run. */

import { chain } from "../kit/mount.js";
import { Checker } from "../lib/checker.js";
import { newRow } from "../lib/rows.js";
import { modelOf, stackRows } from "../lib/upstream.js";

const CHECKED = ["LoraCoreLoad", "LoraCoreMerge"];

/**
 * Keeps a node's report up with what is wired to it; null for a node that does not tell this.
 * @param {any} node
 * @param {import("../types.js").Page} page
 * @param {import("./report.js").ShownReport} report
 */
export function precheck(node, page, report) {
    if (!CHECKED.includes(node.comfyClass)) return null;
    const checker = new Checker(page, {
        question: () => questionOf(node, page),
        keyOf: (row) => row,
        take: (answer, question) => report.before(linesOf(answer, question?.rows ?? [])),
        knows: report.hasResult, // of a run with just these, before the page was loaded
    });
    chain(node, "onAdded", () => checker.start());
    chain(node, "onRemoved", () => checker.stop());
    return checker;
}

/** @param {any} node @param {import("../types.js").Page} page */
function questionOf(node, page) {
    const model = page.isOn("checks") ? modelOf(node) : null;
    const rows = rowsOf(node);
    return model && rows.length ? { model, rows } : null;
}

/** @returns {import("../lib/rows.js").Row[]} */
function rowsOf(/** @type {any} */ node) {
    const value = (/** @type {string} */ name) => node.widgets?.find((/** @type {any} */ one) => one.name === name)?.value;
    const own = typeof value("lora_name") === "string" && value("lora_name") !== "None" ? [newRow(value("lora_name"))] : [];
    return [...stackRows(node).rows, ...own].filter((row) => row.on && row.name);
}

/**
 * @param {any} answer
 * @param {import("../lib/rows.js").Row[]} rows
 * @returns {import("./loraline.js").LoraReport[]}
 */
function linesOf(answer, rows) {
    return (answer?.rows ?? []).flatMap((/** @type {any} */ row, /** @type {number} */ index) =>
        [row, ...(row.low ? [row.low] : [])].filter((one) => one.state !== "empty").map((one) => ({
            ...one, name: one.name ?? rows[index].name, state: stateOf(one.state),
            summary: one.summary || one.reason, reason: one.reason || one.blocks_error,
        })));
}

function stateOf(/** @type {string} */ state) {
    return ["full", "partial", "unknown"].includes(state) ? state : "none"; // missing, ambiguous, broken
}
