// @ts-check
/** LoRA Core in ComfyUI's page: the row editor of Stack LoRAs, and the report under every node of the pack. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { setLanguage } from "./lib/i18n.js";
import { reporting } from "./reporting.js";
import { addRows } from "./widgets/rows.js";

const OURS = "LoraCore"; // begins the id of every node of the pack

/** What the widgets need of the page. */
const page = {
    /** Makes one undo step of what changed since the last; the page sees no change inside a DOM widget by itself. */
    captureUndo() {
        const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
        const capture = tracker?.captureCanvasState ?? tracker?.checkState;
        capture?.call(tracker);
    },

    /** Whether the LiteGraph renderer shows the nodes; the other is Nodes 2.0. */
    onCanvas: () => !globalThis.LiteGraph?.vueNodesMode,

    /**
     * Zooms the canvas: with the LiteGraph renderer, DOM widgets lie beside the canvas and swallow the wheel.
     * @param {WheelEvent} event
     */
    zoom(event) {
        if (page.onCanvas()) app.canvas?.processMouseWheel?.(event);
    },
};

const reports = reporting(app, api);

app.registerExtension({
    name: "loracore.rows",
    init() {
        setLanguage(app.extensionManager?.setting?.get("Comfy.Locale"));
        app.ui?.settings?.addEventListener("Comfy.Locale.change", (/** @type {any} */ event) => setLanguage(event.detail?.value));
    },
    getCustomWidgets() {
        return {
            /** @param {any} node @param {string} name @param {any} spec */
            LORACORE_ROWS: (node, name, spec) => addRows(node, name, spec, page),
        };
    },
    /** @param {any} node */
    nodeCreated(node) {
        if (node.comfyClass?.startsWith(OURS)) reports.add(node);
    },
    /** @param {any} node */
    loadedGraphNode: (node) => reports.loaded(node),
});
