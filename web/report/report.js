// @ts-check
/**
 * The report under a node: a line for each LoRA, what was written, warnings, and the plain text. Read-only, not saved.
 * Before a run it shows how the wired LoRAs would fit, and during one how far it is.
 */

import { copyButton } from "../kit/copy.js";
import { element } from "../kit/dom.js";
import { chain } from "../kit/mount.js";
import { STYLE } from "../kit/style.js";
import { text } from "../lib/i18n.js";
import { energyChart } from "./energychart.js";
import { loraLine } from "./loraline.js";
import { progressBar } from "./progress.js";

const LINES = { least: 90, first: 170 }; // heights of a report: what it never goes below, and what it starts with
const LINE = { least: 52, first: 52 }; // of a node that shows a line or two
const LINE_HEIGHT = 24;
const CURVE_HEIGHT = 130;
const MOST_LINES = 6; // more than these scroll

/** @typedef {ReturnType<typeof addReport>} ShownReport */

/**
 * Gives a node its report; the widget comes with the first thing to show.
 * @param {any} node
 * @param {{short?: boolean}} [options]
 */
export function addReport(node, { short = false } = {}) {
    /** @type {Body | null} */
    let body = null;
    const made = () => (body ??= new Body(node, short ? LINE : LINES));
    const show = (/** @type {any} */ output) => {
        const said = Array.isArray(output?.text) ? output.text.join("\n") : "";
        if (said || body) made().result(said, output?.report?.[0]);
    };
    chain(node, "onExecuted", show);
    return {
        show,
        /** Whether the result of a run is shown. */
        hasResult: () => body?.kind === "result",
        /** Shows how LoRAs would fit; nothing to tell clears only what was shown before a run. */
        before(/** @type {import("./loraline.js").LoraReport[]} */ loras) {
            if (loras.length || body) made().before(loras);
        },
        /** @param {string} phase */
        phase: (phase) => made().progress().phase(phase),
        /** @param {number} done @param {number} total */
        step: (done, total) => body?.bar?.step(done, total), // of a node that tells its phases
        /** Shows why the node did not run to its end; null: it was stopped. */
        failed(/** @type {string | null} */ why) {
            if (why || body) made().failed(why);
        },
    };
}

class Body {
    /**
     * @param {any} node
     * @param {{least: number, first: number}} heights
     */
    constructor(node, heights) {
        this.node = node;
        this.heights = heights;
        this.extra = 0; // height of what is above the text
        this.kind = ""; // of what is shown: result, before, running or failed
        this.log = element("pre", { tabindex: 0, role: "log", "aria-label": text("Report") });
        this.top = element("div", { class: "loracore-top" });
        this.copy = copyButton(text("Copy the report as text"), () => this.log.textContent ?? "");
        this.copy.classList.add("loracore-copy");
        this.root = element("div", { class: "loracore is-report" }, element("style", {}, STYLE), this.top,
            element("div", { class: "loracore-text" }, this.log, this.copy));
        /** @type {ReturnType<typeof progressBar> | null} */
        this.bar = null;
        this.addWidget();
        const [width, height] = node.computeSize();
        node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height + heights.first - heights.least)]);
        this.fill([]);
    }

    addWidget() {
        const widget = this.node.addDOMWidget("report", "LORACORE_REPORT", this.root, {
            getValue: () => this.log.textContent,
            setValue: () => {},
            getMinHeight: () => this.heights.least + this.extra,
            serialize: false,
            hideOnZoom: false,
            margin: 8,
        });
        widget.serialize = false; // or it takes a place in widgets_values
        for (const type of ["pointerdown", "contextmenu", "keydown"]) {
            this.root.addEventListener(type, (event) => {
                const shortcut = event instanceof KeyboardEvent && (event.ctrlKey || event.metaKey);
                if (!shortcut) event.stopPropagation();
            });
        }
        this.root.addEventListener("wheel", (event) => {
            const scrolls = [this.log, this.top].some((part) => part.scrollHeight > part.clientHeight);
            if (scrolls) event.stopPropagation();
        });
    }

    /**
     * @param {string} said
     * @param {any} report
     */
    result(said, report) {
        this.log.textContent = said;
        this.kind = "result";
        const lines = (report?.loras ?? []).map((/** @type {any} */ lora) => loraLine(this.root, lora));
        const chart = energyChart(report?.layers?.some?.((/** @type {any} */ layer) => layer.curve?.length) ? report.layers : []);
        this.fill(lines, chart);
    }

    before(/** @type {import("./loraline.js").LoraReport[]} */ loras) {
        if (this.kind === "running" || (!loras.length && this.kind !== "before")) return;
        this.kind = "before";
        this.log.textContent = loras.map((lora) => `${lora.name}: ${lora.summary || lora.reason}`).join("\n");
        const note = text("before the run");
        const lines = loras.map((lora) => loraLine(this.root, lora, note));
        this.fill(lines.length ? [element("div", { class: "loracore-caption" }, note), ...lines] : []);
    }

    progress() {
        if (!this.bar) {
            this.kind = "running";
            this.bar = progressBar();
            this.fill([this.bar.root], null, true);
        }
        return this.bar;
    }

    failed(/** @type {string | null} */ why) {
        this.log.textContent = why ?? "";
        this.kind = "failed";
        this.fill(why ? [element("div", { class: "loracore-line is-none", role: "alert" },
            element("i", { class: "is-lamp" }), element("span", {}, why.split("\n")[0]))] : []);
    }

    /**
     * Shows elements above the text, and lets the node grow by what they need more than those before.
     * @param {Element[]} lines
     * @param {Element | null} [chart]
     * @param {boolean} [running]
     */
    fill(lines, chart = null, running = false) {
        if (!running) this.bar = null;
        this.top.replaceChildren(...lines, ...(chart ? [chart] : []));
        this.copy.hidden = !this.log.textContent;
        const extra = Math.min(lines.length, MOST_LINES) * LINE_HEIGHT + (chart ? CURVE_HEIGHT : 0) + (running ? LINE_HEIGHT : 0);
        const more = extra - this.extra;
        this.extra = extra;
        this.root.style.minHeight = `${this.heights.least + extra}px`;
        const [width, height] = this.node.computeSize();
        this.node.setSize([Math.max(this.node.size[0], width), Math.max(this.node.size[1] + more, height)]);
        this.node.setDirtyCanvas?.(true, true); // the canvas places the widget when it draws
    }
}
