// @ts-check
/** Asks the server what the rows' files do on the model that the stack is wired to, and keeps its answers. */

import { checkKey, runsOf } from "../lib/status.js";
import { consumersOf, modelOfStack } from "../lib/upstream.js";
import { chain } from "./mount.js";

const PAUSE = 250; // milliseconds after the last change, so that typing asks once

/** @typedef {import("../lib/status.js").Check} Check */
/** @typedef {import("../lib/status.js").Run} Run */

export class RowChecks {
    /**
     * @param {any} node
     * @param {import("./rows.js").Page} page
     * @param {() => import("../lib/rows.js").Row[]} getRows
     * @param {() => void} onAnswer
     */
    constructor(node, page, getRows, onAnswer) {
        this.node = node;
        this.page = page;
        this.getRows = getRows;
        this.onAnswer = onAnswer;
        this.asked = "";
        this.timer = 0;
        this.title = ""; // of the model's architecture, as people call it
        /** @type {string | null} */
        this.model = null;
        /** @type {AbortController | null} */
        this.request = null;
        /** @type {Map<string, Check>} */
        this.answers = new Map();
        /** @type {Map<string, Run>} */
        this.runs = new Map();
        chain(node, "onAdded", () => this.listen());
        chain(node, "onRemoved", () => this.stop());
    }

    listen() {
        this.stop();
        this.ears = new AbortController();
        this.page.onGraphChange(() => this.schedule(), this.ears.signal);
        this.page.onExecuted((id, output) => this.takeRun(id, output), this.ears.signal);
        this.schedule();
    }

    stop() {
        this.ears?.abort();
        this.request?.abort();
        clearTimeout(this.timer);
        this.asked = "";
    }

    /** Asks soon, unless nothing has changed that matters. */
    schedule() {
        clearTimeout(this.timer);
        if (this.node.graph) this.timer = setTimeout(() => this.ask(), PAUSE);
    }

    /** Asks again even for what is known: files may have come or gone. */
    refresh() {
        this.asked = "";
        this.schedule();
    }

    async ask() {
        const rows = this.getRows();
        const model = this.page.isOn("checks") ? modelOfStack(this.node) : null; // whether files are there is always told
        const question = JSON.stringify([model, rows.map(checkKey)]);
        if (question === this.asked) return;
        this.asked = question;
        this.request?.abort();
        this.request = new AbortController();
        if (!rows.length) return;
        const keys = rows.map(checkKey);
        try {
            const ask = (/** @type {string | null} */ on) => this.page.post("/lora-core/check", { model: on, rows }, this.request?.signal);
            const first = await ask(model);
            const answer = first?.error && !first.rows ? await ask(null) : first; // of a model that is not there
            if (!answer?.rows || this.asked !== question) return;
            if (model !== this.model) this.runs.clear();
            this.model = model;
            this.title = answer.title ?? "";
            this.answers = new Map(keys.map((key, at) => [key, answer.rows[at]]));
            this.onAnswer();
        } catch (error) {
            if (/** @type {Error} */ (error).name !== "AbortError") throw error;
        }
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
