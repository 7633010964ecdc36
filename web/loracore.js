// @ts-check
/** LoRA Core in ComfyUI's page: the row editor of Stack LoRAs, and the report under every node of the pack. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { page } from "./host.js";
import { importing } from "./importing/importing.js";
import { setLanguage } from "./lib/i18n.js";
import { reporting } from "./report/reporting.js";
import { addRows } from "./rows/editor.js";
import { SETTINGS } from "./settings.js";

const OURS = "LoraCore"; // begins the id of every node of the pack

const reports = reporting(app, api, page);

app.registerExtension({
    name: "loracore.rows",
    settings: SETTINGS,
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

app.registerExtension({ name: "loracore.importing", ...importing(app, page) });
