// @ts-check
/** How the rows of Stack LoRAs are shown: head, list, foot, and what lies above them. */

import { element } from "../kit/dom.js";
import { Hands } from "../kit/hands.js";
import { controlAt, markOf } from "../kit/popover.js";
import { STYLE } from "../kit/style.js";
import { VirtualList } from "../kit/virtual.js";
import { text } from "../lib/i18n.js";
import { modelsOf } from "../lib/models.js";
import { findName } from "../lib/names.js";
import { isNewer, parseRows } from "../lib/rows.js";
import { statusOf } from "../lib/status.js";
import { RowChecks } from "./checks.js";
import { FileInfo } from "./fileinfo.js";
import { footElement, headElement, noteElement } from "./frame.js";
import { listMissing } from "./missing.js";
import { rowElement } from "./row.js";
import { forgetPictures } from "./thumb.js";

const HEAD = 22;
const ROW = 32;
const FOOT = 26;
const NOTE = 44;
export const MARGIN = 8; // around a DOM widget on the canvas; Nodes 2.0 has its own
const MOST_ROWS = 24; // in sight at once; more scroll

/** @typedef {import("../lib/rows.js").Row} Row */
/** @typedef {import("../types.js").Page} Page */

/** Shows a value and follows it; what the user changes is for the class above. */
export class RowsView {
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
        this.layer = element("div", { class: "loracore-layer" });
        this.above = element("div");
        this.below = element("div");
        this.listRoot = element("div", { class: "loracore-list", role: "list", "aria-label": text("LoRAs"), tabindex: -1, "data-capture-wheel": "true" });
        this.body = element("div", { class: "loracore-body" }, this.above, this.listRoot, this.below);
        this.root = element("div", { class: "loracore is-rows" }, element("style", {}, STYLE), this.body, this.layer);
        this.list = new VirtualList(this.listRoot, ROW, (index) => rowElement(/** @type {any} */ (this), index));
        this.hands = new Hands(this.body);
        this.checks = new RowChecks(node, page, () => (isNewer(this.value) ? [] : this.value.rows), () => this.refresh());
        this.info = new FileInfo(this);
        this.keepEventsInside();
        this.render();
    }

    get height() {
        const margins = this.page.onCanvas() ? 2 * MARGIN : 0;
        if (isNewer(this.value)) return margins + NOTE;
        const count = this.value.rows.length;
        const note = "unreadable" in this.value ? NOTE : 0;
        return margins + note + (count ? HEAD : 0) + ROW * Math.min(count, MOST_ROWS) + FOOT;
    }

    get scrolls() {
        return !isNewer(this.value) && this.value.rows.length > MOST_ROWS;
    }

    /** Takes a value from the host: a loaded workflow, a paste, an undo. */
    load(/** @type {unknown} */ value) {
        const next = parseRows(value);
        if (JSON.stringify(next) === JSON.stringify(this.value)) return;
        this.layer.replaceChildren(); // what is open belongs to rows that are gone
        this.value = next;
        this.clipColumn = false;
        this.render();
        this.fit(this.node.size[1]);
    }

    setNames(/** @type {string[] | undefined} */ names) {
        if (!names) return;
        this.names = names;
        forgetPictures();
        this.info.forget();
        this.checks.refresh();
        this.refresh();
    }

    /** What a row says of its file. */
    statusOf(/** @type {Row} */ row) {
        return statusOf(row, findName(row.name, this.names), this.checks.of(row), this.checks.runOf(row));
    }

    /** Gives the node this height, and more where its widgets need more. */
    fit(/** @type {number} */ wanted, width = 0) {
        const [leastWidth, leastHeight] = this.node.computeSize();
        this.node.setSize([Math.max(this.node.size[0], leastWidth, width), Math.max(leastHeight, wanted)]);
        this.node.setDirtyCanvas?.(true, true);
    }

    /** Shows what came by itself, such as an answer of the server, once nothing is under the user's hands. */
    refresh() {
        this.hands.whenOff(() => this.render());
    }

    render() {
        const mark = this.body.contains(document.activeElement) ? markOf(document.activeElement) : null;
        const newer = isNewer(this.value);
        const rows = newer ? [] : this.value.rows;
        this.clipColumn ||= rows.some((row) => (row.strength_clip ?? null) !== null);
        this.root.classList.toggle("has-clip", this.clipColumn);
        this.root.classList.toggle("is-scrolling", this.scrolls);
        this.list.fill(rows.length, ROW * Math.min(rows.length, MOST_ROWS));
        this.above.replaceChildren(...this.notes(), ...(rows.length ? [headElement(/** @type {any} */ (this))] : []));
        this.below.replaceChildren(...(newer ? [] : [footElement(/** @type {any} */ (this))]));
        if (mark) controlAt(this.body, mark)?.focus({ preventScroll: true });
        if (newer) return;
        this.noteFiles();
        this.checks.schedule();
    }

    notes() {
        if (isNewer(this.value)) {
            return [noteElement(text("These rows were saved by a newer LoRA Core. They are kept; update to edit them."))];
        }
        if (!("unreadable" in this.value)) return [];
        return [noteElement(text("The saved rows cannot be read. What was found is kept in the workflow."), true)];
    }

    /** Says which model files the node needs, and which of them ComfyUI should list as missing. */
    noteFiles() {
        const { rows } = this.value;
        const models = modelsOf(rows, this.node.properties?.models);
        if (models.length || this.node.properties?.models) (this.node.properties ??= {}).models = models;
        if (!this.node.widgets?.length) return; // this widget itself is still to come
        const missing = rows.flatMap((row, at) => (row.name && this.statusOf(row).missing ? [{ row, number: at + 1, name: row.name }] : []));
        listMissing(this.node, missing, this.names, ({ row }, name) => this.choose(row, name));
    }

    /**
     * Gives a row another file; the class above does it.
     * @param {Row} _row
     * @param {string} _name
     */
    choose(_row, _name) {}

    /** @param {number} index @param {string} control */
    control(index, control) {
        return controlAt(this.body, { row: String(index), control });
    }

    /** The canvas must not drag, delete or zoom because of what happens in here; its own shortcuts still work. */
    keepEventsInside() {
        this.root.addEventListener("pointerdown", (event) => event.button !== 1 && event.stopPropagation());
        this.root.addEventListener("contextmenu", (event) => event.stopPropagation());
        // Nodes 2.0 leaves the wheel to an element that asks for it as long as it has the focus
        this.listRoot.addEventListener("pointerenter", () => {
            const typing = document.activeElement?.matches("input, textarea, [contenteditable]");
            if (this.scrolls && !typing && !this.root.contains(document.activeElement)) this.listRoot.focus({ preventScroll: true });
        });
        this.listRoot.addEventListener("pointerleave", () => document.activeElement === this.listRoot && this.listRoot.blur());
        this.root.addEventListener("wheel", (event) => {
            if (this.scrolls && !event.ctrlKey && this.listRoot.contains(/** @type {Node} */ (event.target))) event.stopPropagation();
            else this.page.zoom(event);
        });
        this.root.addEventListener("keydown", (event) => {
            const shortcut = event.ctrlKey || event.metaKey;
            const typing = event.target instanceof HTMLInputElement && event.key !== "Enter";
            if (!shortcut || typing) event.stopPropagation();
        });
    }
}
