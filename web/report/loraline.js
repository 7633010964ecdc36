// @ts-check
/** One LoRA of a report as a line in the colour of its state; pressing it opens names and the map of its blocks. */

import { element } from "../kit/dom.js";
import { openPopover } from "../kit/popover.js";
import { text } from "../lib/i18n.js";
import { stemOf } from "../lib/names.js";
import { heatMap } from "./heatmap.js";

const WIDTH = 440; // of the popover
const HIGHEST = 0.7; // of the page's height

/**
 * @typedef {object} LoraReport what the server says of one LoRA
 * @property {string} name
 * @property {string} summary
 * @property {string} state full, partial, none, or unknown
 * @property {string} [reason] why it is not full
 * @property {import("../lib/heat.js").Block[]} [blocks]
 * @property {string[]} [unmatched]
 * @property {{name: string, expected: number[], found: number[]}[]} [mismatched]
 * @property {string[]} [without_effect]
 * @property {string[]} [elsewhere]
 * @property {string[]} [host_names]
 * @property {string[]} [repeated]
 * @property {Record<string, string[]>} [read_as]
 * @property {Record<string, string>} [not_adapters]
 * @property {Record<string, string[]>} [unsupported]
 */

/**
 * @param {HTMLElement} root the widget's root, which the popover joins so that it has its style
 * @param {LoraReport} lora
 * @param {string} [note] such as "before the run"
 */
export function loraLine(root, lora, note = "") {
    const said = lora.state === "none" && lora.reason ? lora.reason : lora.summary || lora.reason || "";
    const name = stemOf(lora.name);
    const line = element("button", {
        type: "button", class: `loracore-line is-${lora.state}${note ? " is-before" : ""}`, title: `${lora.name}: ${said}`, "aria-haspopup": "dialog",
        "aria-label": `${name}: ${said}${note ? `, ${note}` : ""}`,
    }, element("i", { class: "is-lamp" }), element("b", {}, name), element("span", {}, said));
    line.addEventListener("click", () => openDetails(root, line, lora, said));
    return line;
}

/**
 * @param {HTMLElement} root
 * @param {HTMLElement} anchor
 * @param {LoraReport} lora
 * @param {string} said
 */
function openDetails(root, anchor, lora, said) {
    const map = heatMap(lora.blocks ?? []);
    const parts = sections(lora).map(([title, names]) => element("section", {}, element("h4", {}, `${title} (${names.length})`),
        element("ul", {}, ...names.map((one) => element("li", {}, one)))));
    const popover = openPopover(root, anchor,
        { class: "loracore-details", role: "dialog", label: lora.name, width: WIDTH, height: HIGHEST * innerHeight },
        element("h3", {}, lora.name), element("p", { class: `is-${lora.state}` }, said),
        ...(map ? [element("section", {}, element("h4", {}, text("Change by block")), map)] : []), ...parts);
    popover.root.tabIndex = -1;
    popover.root.focus({ preventScroll: true });
}

/** @returns {[string, string[]][]} */
function sections(/** @type {LoraReport} */ lora) {
    const shapes = (lora.mismatched ?? []).map(({ name, expected, found }) =>
        text("{name}: expected {expected}, found {found}", { name, expected: expected.join("×"), found: found.join("×") }));
    const kinds = Object.entries(lora.unsupported ?? {}).flatMap(([kind, names]) => names.map((name) => `${name}: ${kind}`));
    const readAs = Object.entries(lora.read_as ?? {}).flatMap(([how, names]) => names.map((name) => `${name}: ${how}`));
    const others = Object.entries(lora.not_adapters ?? {}).map(([name, what]) => `${name}: ${what}`);
    /** @type {[string, string[]][]} */
    const all = [
        [text("Without a place in the model"), lora.unmatched ?? []],
        [text("Of another shape"), shapes],
        [text("Not applied by this version"), kinds],
        [text("Of a model that is not here"), lora.elsewhere ?? []],
        [text("Without effect"), lora.without_effect ?? []],
        [text("Like others under another name, applied once"), lora.repeated ?? []],
        [text("Placed by a changed name"), readAs],
        [text("Placed by ComfyUI's names"), lora.host_names ?? []],
        [text("No adapter's tensors"), others],
    ];
    return all.filter(([, names]) => names.length);
}
