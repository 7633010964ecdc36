// @ts-check
/** What the server says of the rows' files on the model that the stack is wired to, and what the last run said. */

import { chain } from "../kit/mount.js";
import { Checker } from "../lib/checker.js";
import { checkKey, runsOf } from "../lib/status.js";
import { consumersOf, modelOfStack } from "../lib/upstream.js";

/** @typedef {import("../lib/status.js").Check} Check */
/** @typedef {import("../lib/status.js").Run} Run */

export class RowChecks {
    /**
     * @param {any} node
     * @param {import("./editor.js").Page} page
     * @param {() => import("../lib/rows.js").Row[]} getRows
     * @param {() => void} onAnswer
     */
    constructor(node, page, getRows, onAnswer) {
        this.node = node;
        this.page = page;
        this.getRows = getRows;
        this.onAnswer = onAnswer;
        this.title = ""; // of the model's architecture, as people call it
        /** @type {string | null} */
        this.model = null;
        /** @type {Map<string, Check>} */
        this.answers = new Map();
        /** @type {Map<string, Run>} */
        this.runs = new Map();
        this.checker = new Checker(page, {
            question: () => this.question(), keyOf: checkKey, take: (answer, question) => this.take(answer, question), filesAlone: true,
        });
        this.ears = new AbortController();
        chain(node, "onAdded", () => this.start());
        chain(node, "onRemoved", () => this.stop());
    }

    start() {
        this.stop();
        this.ears = new AbortController();
        this.page.onExecuted((id, output) => this.takeRun(id, output), this.ears.signal);
        this.checker.start();
    }

    stop() {
        this.ears.abort();
        this.checker.stop();
    }

    /** Asks soon, unless nothing has changed that matters. */
    schedule() {
        if (this.node.graph) this.checker.schedule();
    }

    /** Asks again even for what is known: files may have come or gone. */
    refresh() {
        if (this.node.graph) this.checker.refresh();
    }

    question() {
        const rows = this.getRows();
        const model = this.page.isOn("checks") ? modelOfStack(this.node) : null; // whether files are there is always told
        return rows.length ? { model, rows: rows.map((row) => ({ ...row })) } : null; // as they are now
    }

    /**
     * @param {any} answer
     * @param {import("../lib/checker.js").Question | null} question
     */
    take(answer, question) {
        if (!answer?.rows || !question) return;
        if (question.model !== this.model) this.runs.clear();
        this.model = question.model;
        this.title = answer.title ?? "";
        this.answers = new Map(question.rows.map((row, at) => [checkKey(row), answer.rows[at]]));
        this.onAnswer();
    }

    /**
     * Takes what a node that uses this stack reported of its run.
     * @param {string} id
     * @param {any} output
     */
    takeRun(id, output) {
        const loras = output?.report?.[0]?.loras;
        const ids = consumersOf(this.node).map((place) => String(place.node.id));
        if (!Array.isArray(loras) || !ids.includes(String(id).split(":").at(-1) ?? "")) return;
        const rows = this.getRows();
        const runs = runsOf(rows, (row) => this.of(row)?.name ?? null, loras);
        this.runs = new Map(rows.flatMap((row, at) => (runs[at] ? [[checkKey(row), /** @type {Run} */ (runs[at])]] : [])));
        this.onAnswer();
    }

    /** @returns {Check | null} */
    of(/** @type {import("../lib/rows.js").Row} */ row) {
        return this.answers.get(checkKey(row)) ?? null;
    }

    /** @returns {Run | null} */
    runOf(/** @type {import("../lib/rows.js").Row} */ row) {
        return this.runs.get(checkKey(row)) ?? null;
    }
}
