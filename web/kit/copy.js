// @ts-check
/** Buttons that copy a text. */

import { text } from "../lib/i18n.js";
import { element, icon, ICONS } from "./dom.js";

const SHOWN = 1200; // milliseconds that a button says it has copied

/**
 * @param {string} label
 * @param {() => string} get
 * @param {...Node} content
 */
export function copyButton(label, get, ...content) {
    const button = element("button", { type: "button", class: "loracore-copier", "aria-label": label, title: label, "aria-live": "polite" },
        ...(content.length ? content : [icon(ICONS.copy)]));
    button.addEventListener("click", async () => {
        const done = await copied(get(), button);
        button.classList.toggle("is-done", done);
        button.title = done ? text("Copied") : text("This page may not copy: select the text instead");
        setTimeout(() => {
            button.classList.remove("is-done");
            button.title = label;
        }, SHOWN);
    });
    return button;
}

/** Copies a text; over plain http the browser has no clipboard for pages, and an older way is left. */
async function copied(/** @type {string} */ value, /** @type {HTMLElement} */ near) {
    if (navigator.clipboard) {
        try {
            await navigator.clipboard.writeText(value);
            return true;
        } catch {
            // not allowed: the older way asks nobody
        }
    }
    const area = /** @type {HTMLTextAreaElement} */ (element("textarea", { class: "loracore-offstage", "aria-hidden": "true" }));
    area.value = value;
    near.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    near.focus({ preventScroll: true });
    return done;
}
