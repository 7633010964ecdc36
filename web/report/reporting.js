// @ts-check
/** Fills the reports of the pack's nodes: from runs, from what the server says while one is on, and before any run. */

import { nodeAt } from "../lib/wires.js";
import { precheck } from "./precheck.js";
import { addReport } from "./report.js";

const STACK = "LoraCoreStack";
const WIDTH = 420; // of a new node: a line of its report is to be read without a click

/**
 * Returns what the extension calls for each node.
 * @param {any} app
 * @param {any} api
 * @param {import("../types.js").Page} page
 */
export function reporting(app, api, page) {
    /** @type {WeakMap<any, import("./report.js").ShownReport>} */
    const reports = new WeakMap();
    /** @type {WeakMap<any, import("../lib/checker.js").Checker | null>} */
    const checks = new WeakMap();
    /** @type {Set<string>} runs that wrote a file, and whose result may come again from the cache */
    const listed = new Set();
    const at = (/** @type {unknown} */ id) => nodeAt(app.graph?.rootGraph ?? app.graph, String(id));
    const reportAt = (/** @type {unknown} */ id) => {
        const node = at(id);
        return node ? reports.get(node) : undefined;
    };
    // a run has told more of a node than the server would
    const settle = (/** @type {any} */ node) => node && checks.get(node)?.settle();

    api.addEventListener("loracore.phase", (/** @type {any} */ { detail }) => reportAt(detail.node)?.phase(detail.phase));
    api.addEventListener("progress", (/** @type {any} */ { detail }) => reportAt(detail.node)?.step(detail.value, detail.max));
    api.addEventListener("execution_error", (/** @type {any} */ { detail }) => {
        settle(at(detail.node_id));
        reportAt(detail.node_id)?.failed(detail.exception_message || detail.exception_type || "");
    });
    api.addEventListener("executed", (/** @type {any} */ { detail }) => {
        const node = at(detail.display_node ?? detail.node);
        settle(node);
        if (!node || !reports.has(node)) return;
        const run = runThatWrote(detail.output);
        if (run && !listed.has(run)) page.refreshLists();
        if (run) listed.add(run);
    });
    api.addEventListener("execution_interrupted", (/** @type {any} */ { detail }) => reportAt(detail.node_id)?.failed(null));

    return {
        /** @param {any} node */
        add(node) {
            const report = addReport(node, { short: node.comfyClass === STACK });
            reports.set(node, report);
            checks.set(node, precheck(node, page, report));
            if (node.comfyClass !== STACK) node.setSize([Math.max(node.size[0], WIDTH), node.size[1]]);
        },
        /**
         * A node that an undo made anew, or that is in a workflow opened again, shows its last report as it shows its
         * last picture. The host puts its outputs back right after it has loaded the nodes.
         * @param {any} node
         */
        loaded(node) {
            const report = reports.get(node);
            if (!report) return;
            requestAnimationFrame(() => {
                if (node.graph?.isRootGraph) report.show(app.nodeOutputs?.[node.id]);
                checks.get(node)?.schedule();
            });
        },
    };
}

/** Names the run that a node's output is of, where it wrote files. */
function runThatWrote(/** @type {any} */ output) {
    const report = output?.report?.[0];
    return report?.outputs?.length ? JSON.stringify([report.outputs, report.seconds]) : "";
}
