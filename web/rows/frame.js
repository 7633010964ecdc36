// @ts-check
/** What stands above and below the rows. */

import { element, icon, ICONS } from "../kit/dom.js";
import { text } from "../lib/i18n.js";
import { switchButton } from "./fields.js";
import { openPicker } from "./picker.js";

/** @typedef {import("./editor.js").RowsEditor} RowsEditor */

/** The switch of all rows, and the titles of the columns. */
export function headElement(/** @type {RowsEditor} */ editor) {
    const { rows } = editor.value;
    const on = rows.filter((row) => row.on).length;
    const all = on === rows.length ? true : on ? "mixed" : false;
    const turn = (/** @type {boolean} */ to) => editor.change(() => rows.forEach((row) => (row.on = to)));
    const toggle = switchButton(text("All LoRAs"), all, turn);
    toggle.dataset.control = "all";
    const title = (/** @type {string} */ name) => element("span", { class: "is-number" }, name);
    const titles = editor.clipColumn ? [title(text("Model")), title(text("Clip"))] : [title(text("Strength"))];
    return element("div", { class: "loracore-head" }, element("span"), toggle,
        element("span", { class: "is-name" }, text("LoRA")),
        element("span", { class: "is-model", title: editor.checks.title }, editor.checks.title), ...titles);
}

export function footElement(/** @type {RowsEditor} */ editor) {
    const add = element("button", { class: "is-add", type: "button", "data-control": "add", "aria-haspopup": "listbox" },
        icon(ICONS.plus), text("Add LoRA"));
    add.addEventListener("click", () => openPicker(editor.layer, add, {
        names: editor.names, current: "", page: editor.page, onChoose: (name) => editor.add(name),
    }));
    const clip = element("button", {
        type: "button", "data-control": "clips", "aria-pressed": String(editor.clipColumn), onclick: () => editor.toggleClip(),
        title: text("A strength of its own for the text encoder"),
    }, text("Clip strength"));
    return element("div", { class: "loracore-foot" }, add, clip);
}

export function noteElement(/** @type {string} */ note, error = false) {
    return element("div", { class: `loracore-note${error ? " is-error" : ""}`, role: "note" }, note);
}
