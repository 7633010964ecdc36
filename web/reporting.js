// @ts-check
/** Fills the reports of the pack's nodes: from runs, from what the server says while one is on, and before any run. */

import { newRow } from "./lib/rows.js";
import { modelOf, stackRows } from "./lib/upstream.js";
import { nodeAt } from "./lib/wires.js";
import { addReport } from "./widgets/report.js";

const STACK = "LoraCoreStack";
const CHECKED = ["LoraCoreLoad", "LoraCoreMerge"]; // nodes that tell before a run how LoRAs would fit
const WIDTH = 420; // of a new node: a line of its report is to be read without a click
const PAUSE = 250; // milliseconds without a change before the server is asked

/**
 * Returns what the extension calls for each node.
 * @param {any} app
 * @param {any} api
 * @param {import("./types.js").Page} page
 */
export function reporting(app, api, page) {
    /** @type {WeakMap<any, import("./widgets/report.js").ShownReport>} */
    const reports = new WeakMap();
    const checks = new Checks(page, reports);
    /** @type {Set<string>} runs that wrote a file, and whose result may come again from the cache */
    const listed = new Set();
    const at = (/** @type {unknown} */ id) => nodeAt(app.graph?.rootGraph ?? app.graph, String(id));
    const reportAt = (/** @type {unknown} */ id) => {
        const node = at(id);
        return node ? reports.get(node) : undefined;
    };

    api.addEventListener("loracore.phase", (/** @type {any} */ { detail }) => reportAt(detail.node)?.phase(detail.phase));
    api.addEventListener("progress", (/** @type {any} */ { detail }) => reportAt(detail.node)?.step(detail.value, detail.max));
    api.addEventListener("execution_error", (/** @type {any} */ { detail }) => {
        checks.settle(at(detail.node_id));
        reportAt(detail.node_id)?.failed(detail.exception_message || detail.exception_type || "");
    });
    api.addEventListener("executed", (/** @type {any} */ { detail }) => {
        const node = at(detail.display_node ?? detail.node);
        checks.settle(node);
        if (!node || !reports.has(node)) return;
        const run = runThatWrote(detail.output);
        if (run && !listed.has(run)) page.refreshLists();
        if (run) listed.add(run);
    });
    api.addEventListener("execution_interrupted", (/** @type {any} */ { detail }) => reportAt(detail.node_id)?.failed(null));
    api.addEventListener("graphChanged", () => checks.look(app.graph?.rootGraph ?? app.graph));

    return {
        /** @param {any} node */
        add(node) {
            reports.set(node, addReport(node, { short: node.comfyClass === STACK }));
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
                checks.look(app.graph?.rootGraph ?? app.graph);
            });
        },
    };
}

/** Names the run that a node's output is of, where it wrote files. */
function runThatWrote(/** @type {any} */ output) {
    const report = output?.report?.[0];
    return report?.outputs?.length ? JSON.stringify([report.outputs, report.seconds]) : "";
}

/** Asks the server how the LoRAs that are wired to a node fit its model, once the graph has not changed for a moment. */
class Checks {
    /**
     * @param {import("./types.js").Page} page
     * @param {WeakMap<any, import("./widgets/report.js").ShownReport>} reports
     */
    constructor(page, reports) {
        this.page = page;
        this.reports = reports;
        /** @type {WeakMap<any, string>} what was asked last for a node */
        this.asked = new WeakMap();
        /** @type {WeakMap<any, AbortController>} */
        this.pending = new WeakMap();
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        this.timer = undefined;
    }

    look(/** @type {any} */ root) {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => {
            const graphs = root ? [root, ...(root.subgraphs?.values() ?? [])] : [];
            const nodes = graphs.flatMap((graph) => graph.nodes ?? []);
            for (const node of nodes) if (CHECKED.includes(node.comfyClass)) this.ask(node);
        }, PAUSE);
    }

    /** A run has told more of a node than the server would: what was asked before, or would be, is not shown. */
    settle(/** @type {any} */ node) {
        if (!node || !CHECKED.includes(node.comfyClass)) return;
        this.pending.get(node)?.abort();
        this.asked.set(node, JSON.stringify(this.questionOf(node)));
    }

    questionOf(/** @type {any} */ node) {
        return { model: this.page.isOn("checks") ? modelOf(node) : null, rows: rowsOf(node) };
    }

    async ask(/** @type {any} */ node) {
        const report = this.reports.get(node);
        const question = this.questionOf(node);
        const known = JSON.stringify(question);
        if (!report || this.asked.get(node) === known) return;
        const isFirst = !this.asked.has(node);
        this.asked.set(node, known);
        if (isFirst && report.hasResult()) return; // of a run with just these, before the page was loaded
        this.pending.get(node)?.abort();
        if (!question.model || !question.rows.length) return report.before([]);
        const stop = new AbortController();
        this.pending.set(node, stop);
        try {
            report.before(await this.answer(question, stop.signal));
        } catch (error) {
            if (!stop.signal.aborted) report.before([]); // the run will say what is wrong; a file may be half copied
            if (!stop.signal.aborted) console.debug("LoRA Core:", error);
        }
    }

    /**
     * @param {{model: string | null, rows: import("./lib/rows.js").Row[]}} question
     * @param {AbortSignal} signal
     * @returns {Promise<import("./widgets/loraline.js").LoraReport[]>}
     */
    async answer(question, signal) {
        const answer = await this.page.post("/lora-core/check", question, signal);
        return (answer?.rows ?? []).flatMap((/** @type {any} */ row, /** @type {number} */ index) =>
            [row, ...(row.low ? [row.low] : [])].filter((one) => one.state !== "empty").map((one) => ({
                ...one, name: one.name ?? question.rows[index].name, state: stateOf(one.state),
                summary: one.summary || one.reason, reason: one.reason || one.blocks_error,
            })));
    }
}

function stateOf(/** @type {string} */ state) {
    return ["full", "partial", "unknown"].includes(state) ? state : "none"; // missing, ambiguous, broken
}

/** @returns {import("./lib/rows.js").Row[]} */
function rowsOf(/** @type {any} */ node) {
    const value = (/** @type {string} */ name) => node.widgets?.find((/** @type {any} */ one) => one.name === name)?.value;
    const own = typeof value("lora_name") === "string" && value("lora_name") !== "None" ? [newRow(value("lora_name"))] : [];
    return [...stackRows(node).rows, ...own].filter((row) => row.on && row.name);
}
