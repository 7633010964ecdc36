// @ts-check
/** ComfyUI's page as our widgets use it. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { isOn } from "./settings.js";

const tracker = () => app.extensionManager?.workflow?.activeWorkflow?.changeTracker;

/** @type {import("./types.js").Page} */
export const page = {
    isOn: (name) => isOn(app.extensionManager, name),

    // the page sees no change inside a DOM widget by itself
    captureUndo() {
        const changes = tracker();
        const capture = changes?.captureCanvasState ?? changes?.checkState;
        capture?.call(changes);
    },

    quietly(edit) {
        const changes = tracker();
        const state = () => JSON.parse(JSON.stringify((app.graph.rootGraph ?? app.graph).serialize()));
        const settled = changes?.activeState && changes.constructor.graphEqual?.(changes.activeState, state());
        edit();
        if (settled) changes.activeState = state();
    },

    onCanvas: () => !globalThis.LiteGraph?.vueNodesMode,

    // with the LiteGraph renderer, DOM widgets lie beside the canvas and swallow the wheel
    zoom(event) {
        if (page.onCanvas()) app.canvas?.processMouseWheel?.(event);
    },

    urlOf: (route) => api.apiURL(route),
    get: (route, signal) => answerOf(route, { signal }),
    post: (route, body, signal) => answerOf(route, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
    }),

    refreshLists: () => app.extensionManager?.command?.execute?.("Comfy.RefreshNodeDefinitions"),

    onGraphChange: (listener, signal) => api.addEventListener("graphChanged", listener, { signal }),
    onExecuted: (listener, signal) => api.addEventListener("executed", (/** @type {any} */ event) => {
        const { display_node: shown, node, output } = event.detail ?? {};
        listener(String(shown ?? node), output);
    }, { signal }),
};

/**
 * @param {string} route
 * @param {RequestInit} options
 */
async function answerOf(route, options) {
    let response;
    try {
        response = await api.fetchApi(route, options);
    } catch (error) {
        if (/** @type {Error} */ (error).name === "AbortError") throw error;
        return null; // the server is gone, and ComfyUI's page says so
    }
    const json = response.headers.get("Content-Type")?.includes("json");
    return json ? response.json() : null;
}
