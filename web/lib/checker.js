// @ts-check
/** Asks the server how LoRA files fit a model: once for each question that differs, a moment after the last change. */

const ROUTE = "/lora-core/check";
const PAUSE = 250; // milliseconds after the last change, so that typing asks once

/**
 * @typedef {{model: string | null, rows: import("./rows.js").Row[]}} Question
 * @typedef {object} Asker whom it asks for
 * @property {() => Question | null} question as things stand now; null: there is nothing to ask
 * @property {(row: import("./rows.js").Row) => unknown} keyOf what of a row the answer is for
 * @property {(answer: any, question: Question | null) => void} take gets each answer, null if there is none
 * @property {() => boolean} [knows] whether the answer to the first question is there without the server
 * @property {boolean} [filesAlone] whether it wants to hear of the files where the server does not have the model
 */

export class Checker {
    /**
     * @param {import("../types.js").Page} page
     * @param {Asker} asker
     */
    constructor(page, asker) {
        this.page = page;
        this.asker = asker;
        /** @type {string | null} what was asked last */
        this.asked = null;
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        this.timer = undefined;
        this.ears = new AbortController();
        this.request = new AbortController();
    }

    /** Looks at each change of the graph, until `stop`. */
    start() {
        this.stop();
        this.ears = new AbortController();
        this.page.onGraphChange(() => this.schedule(), this.ears.signal);
        this.schedule();
    }

    stop() {
        this.ears.abort();
        this.request.abort();
        clearTimeout(this.timer);
        this.asked = null;
    }

    /** Asks soon, unless nothing has changed that matters. */
    schedule() {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.ask(), PAUSE);
    }

    /** Asks again even for what is known: files may have come or gone. */
    refresh() {
        this.asked = "";
        this.schedule();
    }

    /** Takes the present question as answered: somebody knows more than the server would say. */
    settle() {
        this.request.abort();
        this.asked = this.keyOf(this.asker.question());
    }

    async ask() {
        const question = this.asker.question();
        const [key, first] = [this.keyOf(question), this.asked === null];
        if (key === this.asked) return;
        this.asked = key;
        if (first && this.asker.knows?.()) return;
        this.request.abort();
        this.request = new AbortController();
        const { signal } = this.request;
        let answer = null;
        try {
            answer = question && await this.answerTo(question, signal);
        } catch (error) {
            // a file may be half copied; the run will say what is wrong
            if (!signal.aborted) console.debug("LoRA Core:", error);
        }
        if (!signal.aborted) this.asker.take(answer, question);
    }

    /** @param {Question} question @param {AbortSignal} signal */
    async answerTo({ model, rows }, signal) {
        const answer = await this.page.post(ROUTE, { model, rows }, signal);
        const refused = this.asker.filesAlone && answer?.error && !answer.rows;
        return refused ? this.page.post(ROUTE, { model: null, rows }, signal) : answer;
    }

    /** @param {Question | null} question */
    keyOf(question) {
        return JSON.stringify(question && [question.model, question.rows.map(this.asker.keyOf)]);
    }
}
