// @ts-check
/** The details of a row. */

import { text } from "../lib/i18n.js";
import { element } from "./dom.js";
import { openPopover } from "./popover.js";

/**
 * @param {import("./rows.js").RowsEditor} editor
 * @param {number} index
 * @param {HTMLElement} anchor
 */
export function openDetails(editor, index, anchor) {
    const status = editor.statusOf(editor.value.rows[index]);
    const close = element("p", { tabindex: 0 }, status.title);
    openPopover(editor.layer, anchor, { class: "is-details", role: "dialog", label: text("Details"), width: 420 }, close);
    close.focus();
}
