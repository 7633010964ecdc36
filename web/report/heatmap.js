// @ts-check
/** A heat map of what a LoRA changes, block by block: darker is stronger, an amber edge means modules without a place. */

import { element, svg } from "../kit/dom.js";
import { cellText, groupsOf, mapText, percent } from "../lib/heat.js";
import { text } from "../lib/i18n.js";

const CELL = 15;
const GAP = 2;
const PER_LINE = 24;

/**
 * Returns the map with its legend, or null where the report tells no block.
 * @param {import("../lib/heat.js").Block[]} blocks
 */
export function heatMap(blocks) {
    const groups = groupsOf(blocks);
    if (!groups.length) return null;
    const rows = groups.map((group) => element("div", { class: "loracore-heat-row" },
        element("span", { class: "is-group", title: group.name }, group.name), cells(group)));
    const told = groups.flatMap((group) => group.cells).flatMap((cell) => (cell.value === null ? [] : [cell]));
    const most = told.reduce((a, b) => (a && (a.value ?? 0) >= (b.value ?? 0) ? a : b), told[0]);
    const size = most?.block.relative_size;
    const legend = element("div", { class: "loracore-legend" }, "0", element("i"),
        size != null ? percent(size) : most ? text("strongest") : text("size unknown"));
    return element("div", { class: "loracore-heat", role: "img", "aria-label": mapText(blocks) }, ...rows, legend);
}

function cells(/** @type {import("../lib/heat.js").Group} */ group) {
    const lines = Math.ceil(group.cells.length / PER_LINE);
    const width = Math.min(group.cells.length, PER_LINE) * (CELL + GAP);
    const drawn = group.cells.map((cell, index) => {
        const [column, line] = [index % PER_LINE, Math.floor(index / PER_LINE)];
        const whole = cell.block.matched === cell.block.total;
        const box = svg("rect", {
            x: column * (CELL + GAP) + 1, y: line * (CELL + GAP) + 1, width: CELL, height: CELL, rx: 3,
            class: `is-cell${whole ? "" : cell.block.matched ? " is-partial" : " is-none"}`,
            style: `--heat: ${(100 * Math.sqrt(cell.share)).toFixed(0)}%`,
        });
        const title = svg("title", {});
        title.textContent = cellText(cell);
        box.append(title);
        return box;
    });
    return svg("svg", { "aria-hidden": "true", width: width + GAP, height: lines * (CELL + GAP) + GAP }, ...drawn);
}
