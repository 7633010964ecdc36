// @ts-check
/** A menu that opens at a control: by click, by the context menu, and all by keyboard. */

import { element } from "./dom.js";
import { openPopover } from "./popover.js";

/**
 * @typedef {object} Item
 * @property {string} label
 * @property {() => void} run
 * @property {string} [hint] what stands faintly at the right: a key, a file name
 * @property {boolean} [danger]
 * @property {boolean} [disabled]
 * @property {boolean} [line] whether a line is drawn above it
 */

/**
 * @param {HTMLElement} layer
 * @param {HTMLElement} anchor
 * @param {string} label
 * @param {Item[]} items
 */
export function openMenu(layer, anchor, label, items) {
    const buttons = items.map((item) => element("button", {
        class: `loracore-item${item.danger ? " is-danger" : ""}${item.line ? " has-line" : ""}`,
        type: "button", role: "menuitem", tabindex: -1, disabled: item.disabled,
        onclick: () => {
            menu.close();
            item.run();
        },
        onpointermove: (/** @type {PointerEvent} */ event) => /** @type {HTMLElement} */ (event.currentTarget).focus({ preventScroll: true }),
    }, element("span", {}, item.label), ...(item.hint ? [element("span", { class: "is-hint" }, item.hint)] : [])));
    const menu = openPopover(layer, anchor, { class: "is-menu", role: "menu", label, width: 0, height: 480 }, ...buttons);
    const usable = buttons.filter((button) => !button.hasAttribute("disabled"));
    menu.root.addEventListener("keydown", (event) => {
        const at = usable.indexOf(/** @type {HTMLElement} */ (document.activeElement));
        const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
        if (event.key === "Tab") menu.close();
        const typed = event.key.length === 1 && event.key !== " " ? usable.findIndex((button, index) =>
            index !== at && button.textContent?.toLowerCase().startsWith(event.key.toLowerCase())) : -1;
        if (to === undefined && typed < 0) return;
        event.preventDefault();
        usable.at(to === undefined ? typed : to % usable.length)?.focus();
    });
    usable[0]?.focus({ preventScroll: true });
    return menu;
}
