// @ts-check
/** What the menu of a row offers. */

import { openMenu } from "../kit/menu.js";
import { text } from "../lib/i18n.js";
import { stemOf } from "../lib/names.js";

/**
 * @param {import("./editor.js").RowsEditor} editor
 * @param {number} index
 * @param {HTMLElement} anchor
 */
export function openRowMenu(editor, index, anchor) {
    const row = editor.value.rows[index];
    const last = editor.value.rows.length - 1;
    const items = [
        ...nameItems(editor, row),
        { label: text("Details"), run: () => editor.openDetails(index, editor.control(index, "more") ?? anchor) },
        { label: row.on ? text("Switch off") : text("Switch on"), run: () => editor.change(() => (row.on = !row.on)) },
        ...pairItems(editor, row),
        { label: text("Duplicate"), line: true, run: () => editor.duplicate(index) },
        { label: text("Move to the top"), disabled: index === 0, run: () => editor.move(index, 0, true, "more") },
        { label: text("Move to the bottom"), disabled: index === last, run: () => editor.move(index, last, true, "more") },
        { label: text("Remove"), danger: true, line: true, run: () => editor.remove(index) },
    ];
    openMenu(editor.layer, anchor, text("Menu of {name}", { name: stemOf(row.name) }), items);
}

/**
 * Names to put in the place of one that is missing or written differently. It is the user who takes one.
 * @param {import("./editor.js").RowsEditor} editor
 * @param {import("../lib/rows.js").Row} row
 */
function nameItems(editor, row) {
    const { moved, file, candidates } = editor.statusOf(row);
    const names = moved && file ? [file] : candidates;
    return names.slice(0, 8).map((name) => ({ label: text("Use this name"), hint: name, run: () => editor.rename(row, name) }));
}

/**
 * @param {import("./editor.js").RowsEditor} editor
 * @param {import("../lib/rows.js").Row} row
 */
function pairItems(editor, row) {
    if (row.low) {
        return [{ label: text("Remove the low-noise partner"), hint: row.low, line: true, run: () => editor.setPair(row, row.name, "") }];
    }
    const pair = editor.info.pairOf(row.name);
    if (!pair) return [];
    const partner = pair.high === row.name ? pair.low : pair.high;
    const label = pair.high === row.name ? text("Use the low-noise partner") : text("Use the high-noise partner");
    return [{ label, hint: partner, line: true, run: () => editor.setPair(row, pair.high, pair.low) }];
}
