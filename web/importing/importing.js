// @ts-check
/** Workflows from other packs and back: entries in a node's menu, commands for the whole, and `<lora:…>` text as rows. */

import { text } from "../lib/i18n.js";
import { locator, meant, targetOf, told, withRows } from "../lib/importing.js";
import { askForText } from "./dialog.js";

/** @typedef {import("../lib/importing.js").Target} Target */
/** @typedef {import("../types.js").Page} Page */

const STACK = "LoraCoreStack";
const ROUTE = "/lora-core/import";

/**
 * What the page registers for importing.
 * @param {any} app
 * @param {Page} page
 */
export function importing(app, page) {
    const commands = [
        {
            id: "loracore.convertWorkflow",
            label: "Convert workflow to LoRA Core",
            icon: "pi pi-file-import",
            function: () => convert(app, page, "loracore", null),
        },
        {
            id: "loracore.convertToBuiltin",
            label: "Convert workflow to built-in loaders",
            icon: "pi pi-file-export",
            function: () => convert(app, page, "builtin", null),
        },
        {
            id: "loracore.importText",
            label: "Add LoRAs from <lora:…> text",
            icon: "pi pi-align-left",
            function: () => importText(app, page),
        },
    ];
    return {
        commands,
        menuCommands: [{ path: ["Extensions", "LoRA Core"], commands: commands.map((command) => command.id) }],
        /** @param {any} node */
        getNodeMenuItems: (node) => menuOf(app, page, node),
    };
}

/**
 * @param {any} app
 * @param {Page} page
 * @param {any} node
 */
function menuOf(app, page, node) {
    const target = targetOf(node);
    if (!target) return [];
    const content = target === "loracore" ? text("Convert to LoRA Core") : text("Convert to built-in loaders");
    const nodes = () => meant(node, selected(app)).map(locator);
    const entries = [{ content, callback: () => void convert(app, page, target, nodes()) }];
    if (target === "builtin" && isKnown("LoadLoraModel")) {
        entries.push({ content: text("Convert to built-in rows"), callback: () => void convert(app, page, "builtin-rows", nodes()) });
    }
    if (node.type === STACK) {
        entries.push({ content: text("Add LoRAs from text…"), callback: () => void importText(app, page, node) });
    }
    return entries;
}

/** Whether this ComfyUI has a node: its loaders with rows came late. @param {string} type */
const isKnown = (type) => type in (/** @type {any} */ (globalThis).LiteGraph?.registered_node_types ?? {});

/** The selected nodes, without the groups and reroutes that are selected too. @param {any} app @returns {any[]} */
const selected = (app) => [...(app.canvas?.selectedItems ?? [])].filter((item) => Array.isArray(item.inputs));

/**
 * Converts nodes, or the whole workflow, and loads the result where the view is: one step to undo.
 * @param {any} app
 * @param {Page} page
 * @param {Target} to
 * @param {string[] | null} nodes
 */
async function convert(app, page, to, nodes) {
    const root = app.graph?.rootGraph ?? app.rootGraph ?? app.graph;
    const answer = await ask(app, page, { workflow: root.serialize(), nodes, to });
    if (!answer) return;
    if (answer.converted) {
        await load(app, page, answer.workflow);
        await makeRoom(app);
    }
    tell(app, told(answer, to));
}

/**
 * Loads a workflow as the page's own undo does, so that its name, its view and its history stay.
 * @param {any} app
 * @param {Page} page
 * @param {object} workflow
 */
async function load(app, page, workflow) {
    const active = app.extensionManager?.workflow?.activeWorkflow;
    const tracker = active?.changeTracker;
    if (typeof tracker?.updateState !== "function") {
        await app.loadGraphData(workflow, true, false, active ?? null);
        return;
    }
    page.captureUndo();
    tracker.redoQueue.length = 0;
    await tracker.updateState([workflow], tracker.undoQueue);
}

/** Gives our nodes the height that their widgets need, as part of the same step. @param {any} app */
async function makeRoom(app) {
    const root = app.graph?.rootGraph ?? app.graph;
    for (const graph of [root, ...(root.subgraphs?.values() ?? [])]) {
        for (const node of graph.nodes ?? []) {
            if (node.type?.startsWith("LoraCore")) makeRoomFor(node);
        }
    }
    app.canvas?.setDirty?.(true, true);
    const state = await steady(() => JSON.stringify(root.serialize()));
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    if (tracker) tracker.activeState = JSON.parse(state);
}

/**
 * Returns what `read` gives once it has been the same for some frames: Nodes 2.0 measures its nodes bit by bit, and what
 * it finds is no step of the user's.
 * @param {() => string} read
 */
async function steady(read) {
    let [found, same] = [read(), 0];
    for (let frames = 0; same < 12 && frames < 120; frames++) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        const now = read();
        same = now === found ? same + 1 : 0;
        found = now;
    }
    return found;
}

/**
 * Asks for text and adds its rows to `node`, to the selected Stack LoRAs, or to a new one.
 * @param {any} app
 * @param {Page} page
 * @param {any} [node]
 */
async function importText(app, page, node) {
    await askForText(app.canvas.canvas.parentElement, async (source, dialect) => {
        const answer = await post(page, { text: source, dialect });
        if (answer.error || !answer.rows?.length) return answer.error ?? text("There is no <lora:…> in this text.");
        const stack = node ?? selected(app).find((other) => other.type === STACK) ?? newStack(app);
        const widget = stack.widgets.find((/** @type {any} */ one) => one.name === "rows");
        widget.value = withRows(widget.value, answer.rows);
        makeRoomFor(stack);
        page.captureUndo();
        const summary = text("LoRAs added: {n}", { n: answer.rows.length });
        const detail = answer.notes.map((/** @type {string} */ note) => `• ${note}`).join("\n");
        tell(app, { severity: "success", summary, detail, life: 6000 + 3000 * answer.notes.length });
        return "";
    });
}

/** @param {any} app */
function newStack(app) {
    const node = globalThis.LiteGraph.createNode(STACK);
    const [left, top, width, height] = app.canvas.visible_area ?? [0, 0, 800, 600];
    node.pos = [left + width / 2 - node.size[0] / 2, top + height / 3];
    (app.canvas.graph ?? app.graph).add(node);
    return node;
}

/** @param {any} node */
function makeRoomFor(node) {
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

/**
 * @param {any} app
 * @param {Page} page
 * @param {object} question
 */
async function ask(app, page, question) {
    const answer = await post(page, question);
    if (!answer.error) return answer;
    tell(app, { severity: "error", summary: text("Could not convert"), detail: answer.error, life: 12000 });
    return null;
}

/**
 * @param {Page} page
 * @param {object} question
 * @returns {Promise<any>} the answer, or {error}
 */
const post = async (page, question) => (await page.post(ROUTE, question)) ?? { error: text("ComfyUI does not answer.") };

/** @param {any} app @param {object} message */
function tell(app, message) {
    app.extensionManager.toast.add(message);
}
