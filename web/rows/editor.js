// @ts-check
/** The row editor of Stack LoRAs: a DOM widget whose value is the versioned object of lib/rows.js. */

import { chain, outerElement, stayShown } from "../kit/mount.js";
import { moved, newRow } from "../lib/rows.js";
import { openDetails } from "./details/details.js";
import { MARGIN, RowsView } from "./view.js";

const MIN_WIDTH = 440;
const MIN_WIDTH_CLIP = 530;
const PAIR = ["low", "low_strength", "low_hash", "low_size"];

/** @typedef {import("../lib/rows.js").Row} Row */
/** @typedef {import("../types.js").Page} Page */

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

/** What the user can do to the rows. */
export class RowsEditor extends RowsView {
    /** Changes the rows as the user asked, and lets the node grow or shrink by as much as its rows did. */
    change(/** @type {() => void} */ edit) {
        const before = this.height;
        edit();
        this.render();
        this.fit(this.node.size[1] + this.height - before);
        this.commit();
    }

    /** Tells the host of a change that the page already shows. */
    commit() {
        this.onChange();
        this.page.captureUndo();
    }

    /** Ends a change of a row's strength: a number that takes the place of one that was wrong takes its mark away. */
    settle(/** @type {Row} */ row) {
        if (this.layer.isConnected && this.root.querySelector(".loracore-badge.is-bad")) this.render();
        this.commit();
        return row;
    }

    /** Shows the second column; hiding it makes every clip strength follow the model's again. */
    toggleClip() {
        this.change(() => {
            this.clipColumn = !this.clipColumn;
            if (!this.clipColumn) this.value.rows.forEach((row) => (row.strength_clip = null));
        });
        if (this.clipColumn) this.fit(this.node.size[1], MIN_WIDTH_CLIP);
    }

    add(/** @type {string} */ name) {
        this.change(() => this.value.rows.push(newRow(name)));
        this.list.reveal(this.value.rows.length - 1);
        this.info.noteHash(name);
    }

    /** Gives a row another file: what was noted of the old one no longer holds. */
    choose(/** @type {Row} */ row, /** @type {string} */ name) {
        if (name === row.name) return;
        this.change(() => {
            Object.assign(row, { name, hash: "", size: 0 });
            forget(row, [...PAIR, "unreadable"]);
        });
        this.info.noteHash(name);
    }

    /** Gives a row the present name of its file; hash and size still hold. */
    rename(/** @type {Row} */ row, /** @type {string} */ name) {
        this.change(() => (row.name = name));
    }

    /**
     * Makes a row a pair, or with an empty `low` a row of one file again.
     * @param {Row} row
     * @param {string} high
     * @param {string} low
     */
    setPair(row, high, low) {
        this.change(() => {
            forget(row, PAIR);
            if (high !== row.name) Object.assign(row, { name: high, hash: "", size: 0 });
            if (low) Object.assign(row, { low, low_strength: null, low_hash: "", low_size: 0 });
        });
        if (low) [high, low].forEach((name) => this.info.noteHash(name));
    }

    remove(/** @type {number} */ index) {
        this.change(() => this.value.rows.splice(index, 1));
        const next = Math.min(index, this.value.rows.length - 1);
        (this.control(next, "remove") ?? this.body.querySelector("[data-control=add]"))?.focus({ preventScroll: true });
    }

    duplicate(/** @type {number} */ index) {
        this.change(() => this.value.rows.splice(index + 1, 0, structuredClone(this.value.rows[index])));
        this.list.reveal(index + 1);
        this.control(index + 1, "more")?.focus({ preventScroll: true });
    }

    /** Moves a row; with the keyboard, the focus goes with it. */
    move(/** @type {number} */ from, /** @type {number} */ to, keepFocus = false, control = "grip") {
        if (from === to || !this.value.rows[to]) return;
        this.change(() => (this.value.rows = moved(this.value.rows, from, to)));
        if (!keepFocus) return;
        this.list.reveal(to);
        this.control(to, control)?.focus({ preventScroll: true });
    }

    /** @param {number} index @param {HTMLElement} anchor @param {string} [tab] */
    openDetails(index, anchor, tab) {
        return openDetails(this, index, anchor, tab);
    }
}

/** @param {any} row @param {string[]} fields */
function forget(row, fields) {
    for (const field of fields) delete row[field];
}
