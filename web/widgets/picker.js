// @ts-check
/** A searchable list of file names in a popover: above everything, at the same size at every zoom. */

import { text } from "../lib/i18n.js";
import { searchNames, splitName } from "../lib/names.js";
import { element, icon, ICONS } from "./dom.js";

const SHOWN = 300; // more options than this only slow the list down; typing narrows it
const MARGIN = 8;
const LIST_ID = "loracore-options"; // only one popover is open at a time

/** The name as two parts, so that the folder gives way first where space is short. */
export function nameLabel(/** @type {string} */ name) {
    const { folder, stem } = splitName(name);
    return element("span", { class: "loracore-name" },
        element("span", { class: "is-folder" }, folder), element("span", { class: "is-stem" }, stem));
}

/**
 * Opens the list at `anchor`; it closes on a choice, on Escape and on a press elsewhere.
 * @param {HTMLElement} root the widget's root, which the popover joins so that it has its style
 * @param {HTMLElement} anchor
 * @param {string[]} names
 * @param {string} current
 * @param {(name: string) => void} onChoose
 */
export function openPicker(root, anchor, names, current, onChoose) {
    const input = /** @type {HTMLInputElement} */ (element("input", {
        type: "text", role: "combobox", "aria-label": text("Search LoRA files"), "aria-expanded": "true",
        "aria-autocomplete": "list", "aria-controls": LIST_ID, placeholder: text("Search"), spellcheck: "false", autocomplete: "off",
    }));
    const list = element("div", { class: "loracore-options", id: LIST_ID, role: "listbox", "aria-label": text("LoRA files") });
    const popover = element("div", { class: "loracore-picker", popover: "auto" },
        element("div", { class: "loracore-search" }, icon(ICONS.search), input), list);
    /** @type {string[]} */
    let found = [];
    let active = 0;

    const choose = (/** @type {string} */ name) => {
        popover.hidePopover();
        onChoose(name);
    };
    const mark = (/** @type {number} */ index) => {
        active = Math.max(0, Math.min(index, list.querySelectorAll("[role=option]").length - 1));
        list.querySelectorAll("[role=option]").forEach((option, at) => {
            option.setAttribute("aria-selected", String(at === active));
            if (at !== active) return;
            option.scrollIntoView({ block: "nearest" });
            input.setAttribute("aria-activedescendant", option.id);
        });
    };
    const fill = () => {
        found = searchNames(names, input.value);
        list.replaceChildren(...found.slice(0, SHOWN).map((name, index) => option(name, index)));
        const note = !names.length ? text("No LoRA files in your loras folders.")
            : !found.length ? text("No name contains this.")
            : found.length > SHOWN ? text("{n} more; type to narrow the list.", { n: found.length - SHOWN }) : "";
        if (note) list.append(element("div", { class: "loracore-note" }, note));
        mark(input.value ? 0 : found.indexOf(current));
    };
    const option = (/** @type {string} */ name, /** @type {number} */ index) => element("div", {
        class: `loracore-option${name === current ? " is-current" : ""}`, role: "option", title: name, id: `${LIST_ID}-${index}`,
        onclick: () => choose(name), onpointermove: () => index !== active && mark(index),
    }, nameLabel(name));

    input.addEventListener("input", fill);
    input.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
        if (step) {
            event.preventDefault();
            mark(active + step);
        } else if (event.key === "Enter" && found.length) {
            choose(found[active]);
        }
    });
    popover.addEventListener("wheel", (event) => event.stopPropagation());
    popover.addEventListener("toggle", (event) => {
        if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
        popover.remove();
        anchor.focus({ preventScroll: true });
    });
    root.append(popover);
    popover.showPopover();
    fill();
    place(popover, anchor);
    input.focus({ preventScroll: true });
    mark(active);
}

/** Puts the popover below the anchor, or above where there is more room. */
function place(/** @type {HTMLElement} */ popover, /** @type {HTMLElement} */ anchor) {
    const at = anchor.getBoundingClientRect();
    const width = Math.min(Math.max(at.width, 320), innerWidth - 2 * MARGIN);
    const below = innerHeight - at.bottom - 2 * MARGIN;
    const above = at.top - 2 * MARGIN;
    const up = below < 260 && above > below;
    popover.style.width = `${width}px`;
    popover.style.maxHeight = `${Math.max(160, Math.min(420, up ? above : below))}px`;
    popover.style.left = `${Math.max(MARGIN, Math.min(at.left, innerWidth - width - MARGIN))}px`;
    if (up) popover.style.bottom = `${innerHeight - at.top + 4}px`;
    else popover.style.top = `${at.bottom + 4}px`;
}
