// @ts-check
/** The text that a node returns with its result, shown under the node: read-only, not saved with the workflow. */

import { element } from "./dom.js";
import { STYLE } from "./style.js";

const MIN_HEIGHT = 90;
const FIRST_HEIGHT = 170;

/** Shows the node's text after each run; the widget comes with the first text. */
export function addReport(/** @type {any} */ node) {
    /** @type {HTMLElement | null} */
    let text = null;
    const before = node.onExecuted;
    node.onExecuted = function (/** @type {any} */ output, /** @type {any[]} */ ...rest) {
        const lines = output?.text;
        const report = Array.isArray(lines) ? lines.join("\n") : "";
        if (report) {
            text ??= addText(node);
            text.textContent = report;
        } else if (text) {
            text.textContent = "";
        }
        return before?.call(this, output, ...rest);
    };
}

function addText(/** @type {any} */ node) {
    const text = element("pre", { tabindex: 0, role: "log", "aria-label": "Report" });
    const root = element("div", { class: "loracore is-report" }, element("style", {}, STYLE), text);
    const widget = node.addDOMWidget("report", "LORACORE_REPORT", root, {
        getValue: () => text.textContent,
        setValue: () => {},
        getMinHeight: () => MIN_HEIGHT,
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
    root.addEventListener("wheel", (event) => text.scrollHeight > text.clientHeight && event.stopPropagation());
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height + FIRST_HEIGHT - MIN_HEIGHT)]);
    node.setDirtyCanvas?.(true, true); // the canvas places the widget when it draws
    return text;
}
