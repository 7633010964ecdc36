// @ts-check
/** The row editor of Stack LoRAs: a DOM widget whose value is the versioned object of lib/rows.js. */

import { text } from "../lib/i18n.js";
import { findName, splitName } from "../lib/names.js";
import { isNewer, moved, newRow, parseRows } from "../lib/rows.js";
import { element, icon, ICONS } from "./dom.js";
import { strengthField, switchButton } from "./fields.js";
import { gripButton } from "./grip.js";
import { chain, outerElement, stayShown } from "./mount.js";
import { nameLabel, openPicker } from "./picker.js";
import { STYLE } from "./style.js";

const HEAD = 22;
const ROW = 32;
const FOOT = 26;
const MARGIN = 8; // around a DOM widget on the canvas; Nodes 2.0 has its own
const MIN_WIDTH = 380;
const MIN_WIDTH_CLIP = 460;

/** @typedef {{captureUndo: () => void, onCanvas: () => boolean, zoom: (event: WheelEvent) => void}} Page */

/**
 * Adds the widget to a node, as a constructor of getCustomWidgets does.
 * @param {any} node
 * @param {string} name
 * @param {any} spec [type, options]; options.loras holds the names of the LoRA files
 * @param {Page} page
 */
export function addRows(node, name, spec, page) {
    const editor = new RowsEditor(node, page, spec?.[1]?.loras);
    const widget = node.addDOMWidget(name, "LORACORE_ROWS", outerElement(editor.root), {
        getValue: () => structuredClone(editor.value),
        setValue: (/** @type {unknown} */ value) => editor.load(value),
        getMinHeight: () => editor.height,
        getMaxHeight: () => editor.height,
        hideOnZoom: false,
        margin: MARGIN,
    });
    editor.onChange = () => widget.callback?.(widget.value);
    stayShown(node, widget, editor.root);
    // The host calls this on each node when the user refreshes its lists; it knows only its own combo boxes.
    chain(node, "refreshComboInNode", (definitions) => {
        editor.setNames(definitions?.[node.type]?.input?.optional?.[name]?.[1]?.loras);
    });
    return { widget, minWidth: MIN_WIDTH, minHeight: editor.height };
}

class RowsEditor {
    /**
     * @param {any} node
     * @param {Page} page
     * @param {string[] | undefined} names
     */
    constructor(node, page, names) {
        this.node = node;
        this.page = page;
        this.names = names ?? [];
        this.value = parseRows(null);
        this.clipColumn = false;
        this.onChange = () => {};
        this.root = element("div", { class: "loracore" });
        this.style = element("style", {}, STYLE);
        this.keepEventsInside();
        this.render();
    }

    get height() {
        const margins = this.page.onCanvas() ? 2 * MARGIN : 0;
        if (isNewer(this.value)) return margins + FOOT + HEAD;
        const count = this.value.rows.length;
        return margins + (count ? HEAD : 0) + ROW * count + FOOT;
    }

    /** Takes a value from the host: a loaded workflow, a paste, an undo. */
    load(/** @type {unknown} */ value) {
        const next = parseRows(value);
        if (JSON.stringify(next) === JSON.stringify(this.value)) return;
        this.value = next;
        this.clipColumn = false;
        this.render();
        this.fit(this.node.size[1]);
    }

    setNames(/** @type {string[] | undefined} */ names) {
        if (!names) return;
        this.names = names;
        this.render();
    }

    /** Changes the rows as the user asked, and lets the node grow or shrink by as much as its rows did. */
    change(/** @type {() => void} */ edit) {
        const before = this.height;
        edit();
        this.render();
        this.fit(this.node.size[1] + this.height - before);
        this.commit();
    }

    /** Gives the node this height, and more where its widgets need more. */
    fit(/** @type {number} */ wanted, width = 0) {
        const [leastWidth, leastHeight] = this.node.computeSize();
        this.node.setSize([Math.max(this.node.size[0], leastWidth, width), Math.max(leastHeight, wanted)]);
        this.node.setDirtyCanvas?.(true, true);
    }

    /** Tells the host of a change that the page already shows. */
    commit() {
        this.onChange();
        this.page.captureUndo();
    }

    render() {
        const { rows } = this.value;
        if (isNewer(this.value)) {
            const note = text("These rows were saved by a newer LoRA Core. They are kept; update to edit them.");
            this.root.replaceChildren(this.style, element("div", { class: "loracore-note" }, note));
            return;
        }
        this.clipColumn ||= rows.some((row) => row.strength_clip !== null);
        this.root.classList.toggle("has-clip", this.clipColumn);
        this.list = element("div", { role: "list", "aria-label": text("LoRAs") }, ...rows.map((_, index) => this.row(index)));
        this.root.replaceChildren(this.style, ...(rows.length ? [this.head()] : []), this.list, this.foot());
    }

    head() {
        const { rows } = this.value;
        const on = rows.filter((row) => row.on).length;
        const all = on === rows.length ? true : on ? "mixed" : false;
        const turn = (/** @type {boolean} */ to) => this.change(() => rows.forEach((row) => (row.on = to)));
        const titles = this.clipColumn ? [text("Model"), text("Clip")] : [text("Strength")];
        return element("div", { class: "loracore-head" }, element("span"), switchButton(text("All LoRAs"), all, turn),
            element("span", { class: "is-name" }, text("LoRA")), ...titles.map((title) => element("span", { class: "is-number" }, title)));
    }

    foot() {
        const add = element("button", { class: "is-add", type: "button", "aria-haspopup": "listbox" },
            icon(ICONS.plus), text("Add LoRA"));
        add.addEventListener("click", () => openPicker(this.root, add, this.names, "", (name) => {
            this.change(() => this.value.rows.push(newRow(name)));
        }));
        const clip = element("button", {
            type: "button", "aria-pressed": String(this.clipColumn), onclick: () => this.toggleClip(),
            title: text("A strength of its own for the text encoder"),
        }, text("Clip strength"));
        return element("div", { class: "loracore-foot" }, add, clip);
    }

    /** Shows the second column; hiding it makes every clip strength follow the model's again. */
    toggleClip() {
        this.change(() => {
            this.clipColumn = !this.clipColumn;
            if (!this.clipColumn) this.value.rows.forEach((row) => (row.strength_clip = null));
        });
        if (this.clipColumn) this.fit(this.node.size[1], MIN_WIDTH_CLIP);
    }

    row(/** @type {number} */ index) {
        const row = this.value.rows[index];
        const { stem } = splitName(row.name);
        const found = findName(row.name, this.names);
        const missing = row.name !== "" && found === null;
        const made = element("div", {
            class: `loracore-row${row.on ? "" : " is-off"}${missing ? " is-missing" : ""}`, role: "listitem",
        });
        const strength = strengthField(text("Strength of {name}", { name: stem }), row.strength, (value, done) => {
            row.strength = value;
            if (row.strength_clip === null) clip?.show(value);
            if (done) this.commit();
        });
        const clip = this.clipColumn ? this.clipField(row, stem) : null;
        const remove = () => this.change(() => this.value.rows.splice(index, 1));
        made.append(
            gripButton(made, index, stem, (from, to, byKey) => this.move(from, to, byKey)),
            switchButton(text("Use {name}", { name: stem }), row.on, (on) => this.change(() => (row.on = on))),
            this.fileButton(row, found),
            strength.root,
            ...(clip ? [clip.root] : []),
            element("button", { class: "loracore-remove", type: "button", "aria-label": text("Remove {name}", { name: stem }),
                title: text("Remove"), onclick: remove },
                icon(ICONS.cross)),
        );
        return made;
    }

    clipField(/** @type {import("../lib/rows.js").Row} */ row, /** @type {string} */ stem) {
        const field = strengthField(text("Clip strength of {name}", { name: stem }), row.strength_clip ?? row.strength, (value, done) => {
            row.strength_clip = value;
            field.root.classList.remove("is-inherited");
            if (done) this.commit();
        });
        field.root.classList.toggle("is-inherited", row.strength_clip === null);
        return field;
    }

    /**
     * @param {import("../lib/rows.js").Row} row
     * @param {string | null} found the file that the row's name means
     */
    fileButton(row, found) {
        const missing = row.name !== "" && found === null;
        const title = missing ? text("{name}: not in your loras folders", { name: row.name })
            : found && found !== row.name ? text("{name}, found as {found}", { name: row.name, found }) : row.name;
        const made = element("button", {
            class: "loracore-file", type: "button", title, "aria-haspopup": "listbox",
            "aria-label": missing ? text("LoRA file, missing: {name}", { name: row.name })
                : text("LoRA file: {name}", { name: row.name || text("none") }),
        }, ...(missing ? [icon(ICONS.warning)] : []), nameLabel(row.name || text("Choose a LoRA")), icon(ICONS.down));
        made.addEventListener("click", () => openPicker(this.root, made, this.names, row.name, (name) => {
            // another file: what was noted of the old one no longer holds
            this.change(() => name !== row.name && Object.assign(row, { name, hash: "", size: 0 }));
        }));
        return made;
    }

    /** Moves a row; with the keyboard, the handle keeps the focus. */
    move(/** @type {number} */ from, /** @type {number} */ to, keepFocus = false) {
        if (from === to || !this.value.rows[to]) return;
        this.change(() => (this.value.rows = moved(this.value.rows, from, to)));
        const grip = this.list?.children[to]?.querySelector(".loracore-grip");
        if (keepFocus) /** @type {HTMLElement | undefined} */ (grip)?.focus();
    }

    /** The canvas must not drag, delete or zoom because of what happens in here; its own shortcuts still work. */
    keepEventsInside() {
        this.root.addEventListener("pointerdown", (event) => event.button !== 1 && event.stopPropagation());
        this.root.addEventListener("contextmenu", (event) => event.stopPropagation());
        this.root.addEventListener("wheel", (event) => this.page.zoom(event));
        this.root.addEventListener("keydown", (event) => {
            const shortcut = event.ctrlKey || event.metaKey;
            const typing = event.target instanceof HTMLInputElement && event.key !== "Enter";
            if (!shortcut || typing) event.stopPropagation();
        });
    }
}
