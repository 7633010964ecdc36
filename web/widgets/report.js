// @ts-check
/** The text that a node returns with its result, shown under the node: read-only, not saved with the workflow. */

import { text } from "../lib/i18n.js";
import { element } from "./dom.js";
import { chain } from "./mount.js";
import { STYLE } from "./style.js";

const LINES = { least: 90, first: 170 }; // heights of a report: what it never goes below, and what it starts with
const LINE = { least: 52, first: 52 }; // of a node that shows a line or two

/**
 * Shows the node's text after each run; the widget comes with the first text. Returns a function that shows an output.
 * @param {any} node
 * @param {{short?: boolean}} [options]
 */
export function addReport(node, { short = false } = {}) {
    /** @type {HTMLElement | null} */
    let shown = null;
    const show = (/** @type {any} */ output) => {
        const report = Array.isArray(output?.text) ? output.text.join("\n") : "";
        if (!report && !shown) return;
        shown ??= addText(node, short ? LINE : LINES);
        shown.textContent = report;
    };
    chain(node, "onExecuted", show);
    return show;
}

/**
 * @param {any} node
 * @param {{least: number, first: number}} heights
 */
function addText(node, heights) {
    const log = element("pre", { tabindex: 0, role: "log", "aria-label": text("Report") });
    const root = element("div", { class: "loracore is-report", style: `min-height: ${heights.least}px` }, element("style", {}, STYLE), log);
    const widget = node.addDOMWidget("report", "LORACORE_REPORT", root, {
        getValue: () => log.textContent,
        setValue: () => {},
        getMinHeight: () => heights.least,
        serialize: false,
        hideOnZoom: false,
        margin: 8,
    });
    widget.serialize = false; // or it takes a place in widgets_values
    for (const type of ["pointerdown", "contextmenu", "keydown"]) {
        root.addEventListener(type, (event) => {
            const shortcut = event instanceof KeyboardEvent && (event.ctrlKey || event.metaKey);
            if (!shortcut) event.stopPropagation();
        });
    }
    root.addEventListener("wheel", (event) => log.scrollHeight > log.clientHeight && event.stopPropagation());
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height + heights.first - heights.least)]);
    node.setDirtyCanvas?.(true, true); // the canvas places the widget when it draws
    return log;
}
