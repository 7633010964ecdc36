// @ts-check
/** A row with a file for each of two models, one for high and one for low noise: always shown, set only by the user. */

import { element } from "../../kit/dom.js";
import { text } from "../../lib/i18n.js";
import { stemOf } from "../../lib/names.js";
import { strengthField } from "../fields.js";
import { openPicker } from "../picker.js";

/** @returns {HTMLElement} */
export function pairPanel(/** @type {import("./details.js").Context} */ context) {
    const panel = element("div", { class: "loracore-pair" });
    const fill = () => panel.replaceChildren(...parts(context, fill));
    fill();
    return panel;
}

/**
 * @param {import("./details.js").Context} context
 * @param {() => void} refresh
 * @returns {HTMLElement[]}
 */
function parts({ editor, row, layer }, refresh) {
    const set = (/** @type {string} */ high, /** @type {string} */ low) => {
        editor.setPair(row, high, low);
        refresh();
    };
    const pair = editor.info.pairOf(row.name);
    const offers = pair && !row.low ? [plainButton(text("Use {name}", { name: pair.high === row.name ? pair.low : pair.high }),
        () => set(pair.high, pair.low))] : [];
    const choose = plainButton(row.low ? text("Another low-noise file") : text("Choose the low-noise file"), () => openPicker(layer, choose, {
        names: editor.names, current: row.low ?? "", page: editor.page, onChoose: (name) => set(row.name, name),
    }));
    const note = element("p", { class: "loracore-note" },
        text("Models such as Wan 2.2 are two models in turn. A pair gives each its own file; Load LoRA has an output for each."));
    if (!row.low) return [note, element("div", { class: "loracore-fields" }, ...offers, choose)];
    const strength = strengthField(text("Low-noise strength of {name}", { name: stemOf(row.low) }), row.low_strength ?? row.strength, (value, done) => {
        row.low_strength = value;
        strength.root.classList.remove("is-inherited");
        if (done) editor.commit();
    });
    strength.root.classList.toggle("is-inherited", (row.low_strength ?? null) === null);
    return [
        element("dl", { class: "loracore-facts" },
            element("dt", {}, text("High noise")), element("dd", {}, row.name), element("dt", {}, text("Low noise")), element("dd", {}, row.low),
            element("dt", {}, text("Low-noise strength")), element("dd", {}, strength.root)),
        element("div", { class: "loracore-fields" }, choose, plainButton(text("Swap"), () => set(row.low ?? "", row.name)),
            plainButton(text("Remove the low-noise partner"), () => set(row.name, ""))),
        note,
    ];
}

/** @param {string} label @param {() => void} run */
function plainButton(label, run) {
    return element("button", { type: "button", class: "loracore-plain", onclick: run }, label);
}
