// @ts-check
/** Keeps the widget of the present node on the page. */

import { element } from "./dom.js";

/** Returns the outer element of a widget: what the host places. What it shows is its only child. */
export function outerElement(/** @type {HTMLElement} */ body) {
    return element("div", { class: "loracore-root" }, body);
}

/**
 * Nodes 2.0 places a widget's element once. When an undo, or another workflow, replaces a node by one with the same
 * id in one step, it goes on showing the element of the node that is gone. The new widget then moves into that element.
 * @param {any} node
 * @param {any} widget
 * @param {HTMLElement} body
 */
export function stayShown(node, widget, body) {
    chain(node, "onAdded", () => {
        const places = document.querySelectorAll(`[data-node-id="${CSS.escape(String(node.id))}"] .loracore-root`);
        const left = [...places].find((place) => /** @type {HTMLElement} */ (place).dataset.left === widget.name);
        if (left) {
            left.replaceChildren(body);
            widget.element = left;
        }
        delete widget.element.dataset.left;
    });
    chain(node, "onRemoved", () => (widget.element.dataset.left = widget.name));
}

/**
 * Calls `then` after the node's own callback of this name, if it has one.
 * @param {any} node
 * @param {string} name
 * @param {(...values: any[]) => void} then
 */
export function chain(node, name, then) {
    const before = node[name];
    node[name] = function (/** @type {any[]} */ ...values) {
        const result = before?.apply(this, values);
        then(...values);
        return result;
    };
}
