// @ts-check
/** Strengths of a row's blocks: sliders for groups and numbers, presets, and the same as text. */

import { element } from "../../kit/dom.js";
import { factorsOf, keysOf, leavesOf, same, shortNumber, textOf } from "../../lib/blocks.js";
import { text } from "../../lib/i18n.js";

const LOWEST = 0; // of a slider; the text takes more
const HIGHEST = 2;
const STEP = 0.05;

/** @typedef {import("../../lib/blocks.js").Group} Group */

/** @returns {HTMLElement} */
export function blocksPanel(/** @type {import("./details.js").Context} */ { editor, row, info }) {
    const groups = info?.blocks?.groups ?? [];
    const presets = info?.blocks?.presets ?? {};
    const field = /** @type {HTMLInputElement} */ (element("input", {
        type: "text", class: "loracore-field", "aria-label": text("Block strengths as text"), spellcheck: "false", autocomplete: "off",
        placeholder: text("All blocks at full strength"), "aria-describedby": "loracore-blocks-error",
    }));
    const error = element("p", { class: "loracore-note is-error", id: "loracore-blocks-error", role: "alert" });
    let { factors } = factorsOf(String(row.blocks ?? ""), groups, presets);
    /** @type {(() => void)[]} */
    const sliders = [];

    const show = (/** @type {string} */ written) => {
        const read = factorsOf(written, groups, presets);
        // a file of unknown architecture has no groups here: the server judges the names
        error.textContent = groups.length ? read.error : "";
        field.setAttribute("aria-invalid", String(Boolean(error.textContent)));
        factors = read.factors;
        sliders.forEach((refresh) => refresh());
    };
    const write = (/** @type {string} */ written, done = true) => {
        field.value = written;
        show(written);
        if (done && written !== row.blocks) editor.change(() => (row.blocks = written));
    };
    const set = (/** @type {string[]} */ names, /** @type {number} */ value, /** @type {boolean} */ done) => {
        for (const name of names) factors.set(name, value);
        write(textOf(factors, groups), done);
    };

    field.addEventListener("input", () => show(field.value));
    field.addEventListener("change", () => write(field.value.trim()));
    const get = (/** @type {string} */ name) => factors.get(name) ?? 1;
    const rows = leavesOf(groups).map((group) => groupRow(group, get, set, sliders));
    write(String(row.blocks ?? ""), false);
    return element("div", { class: "loracore-blocks" },
        element("div", { class: "loracore-fields" }, field, ...presetChoice(presets, (name) => write(name)), resetButton(() => write(""))), error,
        ...(rows.length ? rows : [element("p", { class: "loracore-note" }, text("The blocks of this file's model are not known; write their names above."))]));
}

/** @param {Record<string, string>} presets @param {(name: string) => void} onChoose */
function presetChoice(presets, onChoose) {
    const names = Object.keys(presets);
    if (!names.length) return [];
    const select = /** @type {HTMLSelectElement} */ (element("select", { class: "loracore-field", "aria-label": text("Preset") },
        element("option", { value: "" }, text("Preset")), ...names.map((name) => element("option", { value: name, title: presets[name] }, name))));
    select.addEventListener("change", () => {
        if (select.value) onChoose(select.value);
        select.value = "";
    });
    return [select];
}

function resetButton(/** @type {() => void} */ onReset) {
    return element("button", { type: "button", class: "loracore-plain", onclick: onReset }, text("Reset"));
}

/**
 * @param {Group} group
 * @param {(name: string) => number} get
 * @param {(names: string[], value: number, done: boolean) => void} set
 * @param {(() => void)[]} sliders
 */
function groupRow(group, get, set, sliders) {
    const all = slider(group.title, keysOf(group), get, set, sliders);
    if (group.numbers.length < 2) return element("div", { class: "loracore-group" }, all);
    const numbers = element("div", { class: "loracore-numbers" });
    const made = element("details", { class: "loracore-group" }, element("summary", {}, all), numbers);
    made.addEventListener("toggle", () => {
        if (numbers.childElementCount) return; // built when first opened: models have up to a hundred
        numbers.append(...group.numbers.map((number, at) => slider(`${group.title} ${number}`, [keysOf(group)[at]], get, set, sliders, String(number))));
    });
    return made;
}

/**
 * @param {string} label
 * @param {string[]} names the blocks that it sets
 * @param {(name: string) => number} get
 * @param {(names: string[], value: number, done: boolean) => void} set
 * @param {(() => void)[]} sliders
 * @param {string} [short] what is shown of the label
 */
function slider(label, names, get, set, sliders, short = label) {
    const input = /** @type {HTMLInputElement} */ (element("input", { type: "range", min: LOWEST, max: HIGHEST, step: STEP, "aria-label": label }));
    const shown = element("output", {});
    const refresh = () => {
        const one = same(names.map(get));
        const most = names.map(get).reduce((sum, value) => sum + value, 0) / names.length;
        input.value = String(one ?? most);
        input.setAttribute("aria-valuetext", one === null ? text("mixed") : shortNumber(one));
        shown.textContent = one === null ? text("mixed") : shortNumber(one);
        input.classList.toggle("is-changed", one !== 1);
    };
    input.addEventListener("input", () => set(names, Number(input.value), false));
    input.addEventListener("change", () => set(names, Number(input.value), true));
    input.addEventListener("click", (event) => event.preventDefault()); // or the group around it opens
    sliders.push(refresh);
    refresh();
    return element("div", { class: "loracore-slider" }, element("span", { title: label }, short), input, shown);
}
