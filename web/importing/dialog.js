// @ts-check
/** The dialog that takes `<lora:…>` text and whose text it is. */

import { element } from "../kit/dom.js";
import { key, text } from "../lib/i18n.js";

const STYLE = `
.loracore-dialog {
    width: min(560px, 92vw); margin: auto; padding: 16px; pointer-events: auto;
    border: 1px solid var(--border-color, #444); border-radius: 10px;
    background: var(--comfy-menu-bg, #222); color: var(--input-text, #ddd); font: 13px/1.4 Inter, system-ui, sans-serif;
}
.loracore-dialog::backdrop { background: rgb(0 0 0 / .5); }
.loracore-dialog form { display: grid; gap: 12px; }
.loracore-dialog h2 { margin: 0; font-size: 15px; font-weight: 600; }
.loracore-dialog label { display: grid; gap: 4px; }
.loracore-dialog :is(textarea, select) {
    width: 100%; box-sizing: border-box; padding: 6px 8px; border: 1px solid var(--border-color, #444); border-radius: 6px;
    background: var(--comfy-input-bg, #111); color: inherit; font: inherit;
}
.loracore-dialog textarea { min-height: 110px; resize: vertical; }
.loracore-dialog [role="alert"] { margin: 0; color: var(--error-text, #ff5c5c); white-space: pre-wrap; overflow-wrap: anywhere; }
.loracore-dialog [role="alert"]:empty { display: none; }
.loracore-dialog footer { display: flex; justify-content: flex-end; gap: 8px; }
.loracore-dialog button {
    padding: 6px 14px; border: 1px solid var(--border-color, #444); border-radius: 6px; cursor: pointer;
    background: var(--comfy-input-bg, #111); color: inherit; font: inherit;
}
.loracore-dialog button[type="submit"] { background: var(--p-primary-color, #4b8bbe); border-color: transparent; color: #fff; }
.loracore-dialog :is(button, textarea, select):focus-visible { outline: 2px solid var(--p-primary-color, #4b8bbe); outline-offset: 1px; }
`;

const DIALECTS = [
    ["lora-manager", key("rgthree or LoRA Manager: name:model:clip, clip as model if left out")],
    ["prompt-control", key("Prompt Control: name:model:clip, clip as model if left out")],
    ["easy-use", key("Easy-Use: name:model:clip, each 1 if left out")],
    ["a1111", key("A1111 and Forge: name:clip:model, model as clip if left out")],
];

/**
 * Shows the dialog until `take` says that nothing is wrong, or the user closes it.
 * @param {Element} inside where the dialog stands in the page; it is shown above everything
 * @param {(source: string, dialect: string) => Promise<string>} take returns what is wrong, or ""
 * @returns {Promise<void>}
 */
export function askForText(inside, take) {
    const area = /** @type {HTMLTextAreaElement} */ (element("textarea", { placeholder: "<lora:name:0.8>", required: true }));
    const options = DIALECTS.map(([value, title]) => element("option", { value }, text(title)));
    const choice = /** @type {HTMLSelectElement} */ (element("select", {}, ...options));
    const wrong = element("p", { role: "alert" });
    const close = () => dialog.close();
    const submit = async (/** @type {Event} */ event) => {
        event.preventDefault();
        wrong.textContent = await take(area.value, choice.value);
        if (!wrong.textContent) close();
    };
    const form = element("form", { onsubmit: submit },
        element("h2", {}, text("Add LoRAs from text")),
        element("label", {}, text("Text with <lora:…>"), area),
        element("label", {}, text("Whose text it is"), choice),
        wrong,
        element("footer", {},
            element("button", { type: "button", onclick: close }, text("Cancel")),
            element("button", { type: "submit" }, text("Add"))));
    const dialog = /** @type {HTMLDialogElement} */ (element("dialog", {
        class: "loracore-dialog",
        "aria-label": text("Add LoRAs from text"),
        onkeydown: (/** @type {Event} */ event) => event.stopPropagation(), // the page's shortcuts are not meant
    }, element("style", {}, STYLE), form));
    inside.append(dialog);
    dialog.showModal();
    area.focus();
    return new Promise((resolve) => dialog.addEventListener("close", () => {
        dialog.remove();
        resolve();
    }));
}
