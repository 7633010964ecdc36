// @ts-check
/** One row of Stack LoRAs: its switch, file, report, strengths and menu. */

import { element, icon, ICONS } from "../kit/dom.js";
import { text } from "../lib/i18n.js";
import { stemOf } from "../lib/names.js";
import { strengthField, switchButton } from "./fields.js";
import { gripButton } from "./grip.js";
import { openRowMenu } from "./menu.js";
import { nameLabel, openPicker } from "./picker.js";
import { thumb } from "./thumb.js";

/** @typedef {import("../lib/rows.js").Row} Row */
/** @typedef {import("../lib/status.js").Status} Status */
/** @typedef {import("./editor.js").RowsEditor} RowsEditor */

/** @returns {HTMLElement} */
export function rowElement(/** @type {RowsEditor} */ editor, /** @type {number} */ index) {
    const row = editor.value.rows[index];
    const stem = stemOf(row.name);
    const status = editor.statusOf(row);
    const made = element("div", {
        class: `loracore-row${row.on ? "" : " is-off"}${status.missing ? " is-missing" : ""}`, role: "listitem", "data-row": index,
        "aria-setsize": editor.value.rows.length, "aria-posinset": index + 1,
    });
    const toggle = switchButton(text("Use {name}", { name: stem }), row.on, (on) => editor.change(() => (row.on = on)));
    const more = element("button", {
        class: "loracore-more", type: "button", "data-control": "more", "aria-haspopup": "menu",
        "aria-label": text("Menu of {name}", { name: stem }), title: text("Menu"), onclick: () => openRowMenu(editor, index, more),
    }, icon(ICONS.more));
    const remove = element("button", {
        class: "loracore-remove", type: "button", "data-control": "remove", "aria-label": text("Remove {name}", { name: stem }),
        title: text("Remove"), onclick: () => editor.remove(index),
    }, icon(ICONS.cross));
    toggle.dataset.control = "switch";
    made.append(gripButton(made, index, stem, editor.list, (from, to, byKey) => editor.move(from, to, byKey)), toggle,
        fileCell(editor, row, status), badge(editor, index, status), ...strengthFields(editor, row, stem), remove, more);
    made.addEventListener("contextmenu", (event) => {
        if (event.target instanceof HTMLInputElement) return; // its own menu pastes
        event.preventDefault();
        const open = () => openRowMenu(editor, index, more);
        // where this comes with the press, the release would close what the press opened
        if (event.buttons) window.addEventListener("pointerup", () => requestAnimationFrame(open), { once: true, capture: true });
        else open();
    });
    return made;
}

/** @param {RowsEditor} editor @param {Row} row @param {string} stem */
function strengthFields(editor, row, stem) {
    const fields = [strengthField(text("Strength of {name}", { name: stem }), row.strength, (value, done) => {
        row.strength = value;
        if (row.strength_clip === null) fields[1]?.show(value);
        if (done) editor.settle(row);
    })];
    if (editor.clipColumn) fields.push(clipField(editor, row, stem));
    fields.forEach((field, at) => field.root.querySelector("input")?.setAttribute("data-control", at ? "clip" : "strength"));
    return fields.map((field) => field.root);
}

/** @param {RowsEditor} editor @param {Row} row @param {string} stem */
function clipField(editor, row, stem) {
    const field = strengthField(text("Clip strength of {name}", { name: stem }), row.strength_clip ?? row.strength, (value, done) => {
        row.strength_clip = value;
        field.root.classList.remove("is-inherited");
        if (done) editor.settle(row);
    });
    field.root.classList.toggle("is-inherited", row.strength_clip === null);
    return field;
}

/** @param {RowsEditor} editor @param {Row} row @param {Status} status */
function fileCell(editor, row, status) {
    const pair = row.low ? null : editor.info.pairOf(row.name);
    if (!pair) return fileButton(editor, row, status);
    const partner = pair.high === row.name ? pair.low : pair.high;
    const label = pair.high === row.name ? text("Use the low-noise partner {name}", { name: partner }) : text("Use the high-noise partner {name}", { name: partner });
    const offer = element("button", {
        class: "loracore-chip is-offer", type: "button", "data-control": "offer", title: label, "aria-label": label,
        onclick: () => editor.setPair(row, pair.high, pair.low),
    }, pair.high === row.name ? text("+ low") : text("+ high"));
    return element("div", { class: "loracore-cell" }, fileButton(editor, row, status), offer);
}

/** @param {RowsEditor} editor @param {Row} row @param {Status} status */
function fileButton(editor, row, status) {
    const { missing, file, moved } = status;
    const title = missing ? text("{name}: not in your loras folders", { name: row.name })
        : moved && file ? text("{name}, found as {found}", { name: row.name, found: file }) : row.name;
    const mark = missing ? [icon(ICONS.warning)] : moved ? [icon(ICONS.link)] : [];
    const made = element("button", {
        class: "loracore-file", type: "button", title, "data-control": "file", "aria-haspopup": "listbox",
        "aria-label": missing ? text("LoRA file, missing: {name}", { name: row.name })
            : text("LoRA file: {name}", { name: row.name || text("none") }),
    }, thumb(file ?? "", editor.page), ...mark, nameLabel(row.name || text("Choose a LoRA")),
    ...(row.low ? [pairChip(row)] : []), icon(ICONS.down));
    made.addEventListener("click", () => openPicker(editor.layer, made, {
        names: editor.names, current: row.name, page: editor.page, onChoose: (name) => editor.choose(row, name),
    }));
    return made;
}

function pairChip(/** @type {Row} */ row) {
    const title = text("A pair: {high} for high noise, {low} for low noise", { high: row.name, low: row.low ?? "" });
    return element("span", { class: "loracore-chip", title }, text("high · low"));
}

/** @param {RowsEditor} editor @param {number} index @param {Status} status */
function badge(editor, index, status) {
    const row = editor.value.rows[index];
    const label = text("Report of {name}: {report}", { name: stemOf(row.name), report: status.title });
    const made = element("button", {
        class: `loracore-badge is-${status.tone}`, type: "button", "data-control": "badge", title: status.title, "aria-label": label,
        "aria-haspopup": "dialog", onclick: () => editor.openDetails(index, made),
    }, element("span", {}, status.label));
    made.classList.toggle("is-empty", !status.label);
    return made;
}

