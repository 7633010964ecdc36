// @ts-check
/** The badge of Stack LoRAs: how many of its rows are on, also where the node is folded or small. */

import { text } from "../lib/i18n.js";

/** @returns {string} "" for a node without rows, which shows no badge */
export function countText(/** @type {unknown} */ value) {
    const found = /** @type {any} */ (value)?.rows;
    const rows = Array.isArray(found) ? found : [];
    const on = rows.filter((row) => row?.on).length;
    if (!rows.length) return "";
    return on === rows.length ? text("{count} LoRAs", { count: on }) : text("{on} of {count} LoRAs", { on, count: rows.length });
}

/**
 * Gives a node with rows its badge; the host asks for it whenever it draws the node.
 * @param {any} node
 * @param {() => boolean} isWanted
 */
export function addBadge(node, isWanted) {
    const Badge = /** @type {any} */ (globalThis).LGraphBadge;
    if (!Badge || !Array.isArray(node.badges)) return; // a host without badges
    const rows = () => node.widgets?.find((/** @type {any} */ widget) => widget.name === "rows")?.value;
    node.badges.push(() => new Badge({ text: isWanted() ? countText(rows()) : "" }));
}
