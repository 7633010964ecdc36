// @ts-check
/** A searchable list of file names in folders, in a popover. Only the lines in sight are in the page. */

import { element, icon, ICONS } from "../kit/dom.js";
import { openPopover } from "../kit/popover.js";
import { VirtualList } from "../kit/virtual.js";
import { text } from "../lib/i18n.js";
import { linesOf, startsOpen } from "../lib/listing.js";
import { splitName } from "../lib/names.js";
import { thumb } from "./thumb.js";

const LINE = 32;
const PAGE = 10;
const PICTURE_WAIT = 120; // milliseconds: lines that only scroll by load no picture
const LIST_ID = "loracore-options"; // only one popover is open at a time

/** @type {Map<string, boolean>} folders that the user opened or closed since the page was loaded */
const opened = new Map();

/** The name as two parts, so that the folder gives way first where space is short. */
export function nameLabel(/** @type {string} */ name) {
    const { folder, stem } = splitName(name);
    return element("span", { class: "loracore-name" },
        element("span", { class: "is-folder" }, folder), element("span", { class: "is-stem" }, stem));
}

/**
 * Opens the list at `anchor`; it closes on a choice, on Escape and on a press elsewhere.
 * @param {HTMLElement} layer the widget's element for popovers
 * @param {HTMLElement} anchor
 * @param {{names: string[], current: string, page: import("../types.js").Page, onChoose: (name: string) => void}} options
 */
export function openPicker(layer, anchor, options) {
    return new Picker(layer, anchor, options);
}

class Picker {
    /**
     * @param {HTMLElement} layer
     * @param {HTMLElement} anchor
     * @param {{names: string[], current: string, page: import("../types.js").Page, onChoose: (name: string) => void}} options
     */
    constructor(layer, anchor, { names, current, page, onChoose }) {
        this.names = names;
        this.current = current;
        this.page = page;
        this.onChoose = onChoose;
        this.active = 0;
        /** @type {import("../lib/listing.js").Line[]} */
        this.lines = [];
        this.input = /** @type {HTMLInputElement} */ (element("input", {
            type: "text", role: "combobox", "aria-label": text("Search LoRA files"), "aria-expanded": "true", "aria-autocomplete": "list",
            "aria-controls": LIST_ID, placeholder: text("Search"), spellcheck: "false", autocomplete: "off",
            oninput: () => this.fill(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.press(event),
        }));
        this.options = element("div", { class: "loracore-options", id: LIST_ID, role: "listbox", "aria-label": text("LoRA files") });
        this.note = element("div", { class: "loracore-note", role: "status" });
        this.list = new VirtualList(this.options, LINE, (index) => this.line(index));
        this.popover = openPopover(layer, anchor, { class: "loracore-picker" },
            element("div", { class: "loracore-search" }, icon(ICONS.search), this.input), this.options, this.note);
        this.fill();
        this.popover.place();
        this.list.draw();
        this.input.focus({ preventScroll: true });
        this.mark(this.active);
    }

    fill() {
        const isOpen = (/** @type {string} */ folder) => opened.get(folder) ?? startsOpen(folder, this.names, this.current);
        this.lines = linesOf(this.names, this.input.value, isOpen);
        const start = this.input.value ? 0 : this.lines.findIndex((line) => "name" in line && line.name === this.current);
        this.active = Math.max(0, start);
        this.options.scrollTop = 0;
        this.list.fill(this.lines.length);
        this.note.textContent = !this.names.length ? text("No LoRA files in your loras folders.")
            : !this.lines.length ? text("No name contains this.") : "";
        this.mark(this.active);
    }

    line(/** @type {number} */ index) {
        const line = this.lines[index];
        const common = {
            role: "option", id: `${LIST_ID}-${index}`, "aria-selected": String(index === this.active),
            "aria-setsize": this.lines.length, "aria-posinset": index + 1,
            onclick: () => this.take(index), onpointermove: () => index !== this.active && this.mark(index),
        };
        if ("folder" in line) {
            return element("div", { ...common, class: `loracore-option is-header${line.open ? " is-open" : ""}`,
                "aria-label": line.open ? text("Folder {name}, open", { name: line.folder }) : text("Folder {name}, closed", { name: line.folder }) },
            icon(ICONS.right), element("span", { class: "loracore-name" }, line.folder.slice(0, -1)),
            element("span", { class: "is-hint" }, String(line.count)));
        }
        const { name } = line;
        const inFolder = !this.input.value.trim() && name.includes("/");
        return element("div", { ...common, title: name,
            class: `loracore-option${name === this.current ? " is-current" : ""}${inFolder ? " is-inside" : ""}` },
        thumb(name, this.page, { wait: PICTURE_WAIT }), nameLabel(inFolder ? name.slice(name.lastIndexOf("/") + 1) : name));
    }

    /** Chooses a file, or opens or closes a folder. */
    take(/** @type {number} */ index) {
        const line = this.lines[index];
        if (!line) return;
        if ("folder" in line) {
            opened.set(line.folder, !line.open);
            const { scrollTop } = this.options;
            this.fill();
            this.options.scrollTop = scrollTop;
            this.mark(index);
            return;
        }
        this.popover.close();
        this.onChoose(line.name);
    }

    mark(/** @type {number} */ index) {
        this.active = Math.max(0, Math.min(index, this.lines.length - 1));
        if (!this.lines.length) return this.input.removeAttribute("aria-activedescendant");
        const option = this.list.reveal(this.active);
        for (const [at, shown] of this.list.shown) shown.setAttribute("aria-selected", String(at === this.active));
        if (option) this.input.setAttribute("aria-activedescendant", option.id);
    }

    press(/** @type {KeyboardEvent} */ event) {
        const step = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE }[event.key];
        const line = this.lines[this.active];
        if (step) {
            event.preventDefault();
            this.mark(this.active + step);
        } else if (event.key === "Enter") {
            event.preventDefault(); // the button that gets the focus back would be pressed by the same key
            this.take(this.active);
        } else if (!this.input.value && line && "folder" in line && event.key === (line.open ? "ArrowLeft" : "ArrowRight")) {
            event.preventDefault();
            this.take(this.active);
        }
    }
}
