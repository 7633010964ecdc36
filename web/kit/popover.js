// @ts-check
/** What opens above the page: at the same size at every zoom, gone on Escape and on a press elsewhere. */

import { element } from "./dom.js";

const MARGIN = 8;
const GAP = 4;

/**
 * @typedef {object} Opened
 * @property {HTMLElement} root
 * @property {() => void} close
 * @property {() => void} place puts it at its anchor again, after its content has changed
 */

/**
 * Opens a popover with these children at an anchor. When it closes, the focus goes back to the anchor, or to the
 * control that has taken its place since.
 * @param {HTMLElement} layer a widget's element that no change of its rows replaces; the popover has its style
 * @param {HTMLElement} anchor
 * @param {{class: string, width?: number, height?: number, role?: string, label?: string, onclose?: () => void}} options
 * @param {...Node} children
 * @returns {Opened}
 */
export function openPopover(layer, anchor, options, ...children) {
    const root = element("div", {
        class: `loracore-popover ${options.class}`, popover: "auto", role: options.role, "aria-label": options.label,
    }, ...children);
    const mark = markOf(anchor);
    const put = () => place(root, anchor.isConnected ? anchor : controlAt(layer, mark) ?? anchor, options);
    root.addEventListener("wheel", (event) => event.stopPropagation());
    root.addEventListener("toggle", (event) => {
        if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
        const elsewhere = document.activeElement !== document.body && !root.contains(document.activeElement);
        root.remove();
        options.onclose?.();
        const back = anchor.isConnected ? anchor : controlAt(layer, mark);
        if (!elsewhere) back?.focus({ preventScroll: true });
    });
    layer.append(root);
    root.showPopover();
    put();
    return { root, close: () => root.isConnected && root.hidePopover(), place: put };
}

/** What tells a control of the rows from the others, when the rows are built anew. */
export function markOf(/** @type {Element | null} */ control) {
    const row = control?.closest("[data-row]");
    return { row: row?.getAttribute("data-row") ?? "", control: control?.getAttribute("data-control") ?? "" };
}

/**
 * Returns the control with this mark among the rows of the widget that `inside` belongs to.
 * @param {Element} inside
 * @param {{row: string, control: string}} mark
 * @returns {HTMLElement | null}
 */
export function controlAt(inside, mark) {
    if (!mark.control) return null;
    const where = mark.row === "" ? "" : `[data-row="${CSS.escape(mark.row)}"] `;
    return inside.closest(".loracore")?.querySelector(`${where}[data-control="${mark.control}"]`) ?? null;
}

/**
 * Puts a popover below the anchor, or above where there is more room.
 * @param {HTMLElement} popover
 * @param {HTMLElement} anchor
 * @param {{width?: number, height?: number}} options
 */
function place(popover, anchor, { width, height = 420 }) {
    const at = anchor.getBoundingClientRect();
    const wide = Math.min(width ?? Math.max(at.width, 320), innerWidth - 2 * MARGIN);
    const below = innerHeight - at.bottom - 2 * MARGIN;
    const above = at.top - 2 * MARGIN;
    const up = below < Math.min(height, 260) && above > below;
    if (width !== 0) popover.style.width = `${wide}px`;
    const taken = width === 0 ? popover.offsetWidth : wide;
    popover.style.maxHeight = `${Math.max(160, Math.min(height, up ? above : below))}px`;
    popover.style.left = `${Math.max(MARGIN, Math.min(at.left, innerWidth - taken - MARGIN))}px`;
    popover.style.bottom = up ? `${Math.max(MARGIN, innerHeight - at.top + GAP)}px` : "auto";
    popover.style.top = up ? "auto" : `${Math.min(at.bottom + GAP, innerHeight - 160 - MARGIN)}px`;
}
