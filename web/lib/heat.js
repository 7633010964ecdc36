// @ts-check
/** The blocks of a LoRA's report as the rows of a heat map, and the same in words. */

import { text } from "./i18n.js";

/**
 * @typedef {object} Block
 * @property {string} block "double_blocks.3"; "" holds the modules without a place
 * @property {number} matched modules that fit
 * @property {number} total modules that the file has for it
 * @property {number | null} [norm]
 * @property {number | null} [relative_size]
 */

/**
 * @typedef {{number: number | null, block: Block, value: number | null, share: number}} Cell `share`: of the largest, 0 to 1
 * @typedef {{name: string, cells: Cell[]}} Group
 */

/** Returns the name of a number of a report, such as "0.9 %". */
export function percent(/** @type {number} */ value) {
    const shown = 100 * value;
    return `${shown >= 100 ? shown.toFixed(0) : Number(shown.toPrecision(2))} %`;
}

/** Whether the blocks tell their size beside the weights; else they are compared by their own norms. */
function isRelative(/** @type {Block[]} */ blocks) {
    return blocks.some((block) => block.relative_size != null);
}

/**
 * Returns the blocks in groups of the same name, "double_blocks" with its numbers, and last those without a number;
 * those without a place are left out.
 * @param {Block[]} blocks in the order of the model
 * @returns {Group[]}
 */
export function groupsOf(blocks) {
    const relative = isRelative(blocks);
    const value = (/** @type {Block} */ block) => (relative ? block.relative_size : block.norm) ?? null;
    const most = Math.max(0, ...blocks.map((block) => value(block) ?? 0));
    /** @type {Map<string, Group>} */
    const groups = new Map();
    for (const block of blocks.filter((one) => one.block !== "")) {
        const [stem, digits] = splitNumber(block.block);
        const name = digits ? stem : "";
        const group = groups.get(name) ?? { name, cells: [] };
        groups.set(name, group);
        const own = value(block);
        const number = digits ? Number(digits) : null;
        group.cells.push({ number, block, value: own, share: most && own ? own / most : 0 });
    }
    const rest = groups.get("");
    if (rest) groups.delete("");
    return [...groups.values(), ...(rest ? [{ ...rest, name: text("others") }] : [])];
}

/** Splits "double_blocks.3" into "double_blocks" and "3", each of which may be empty. */
function splitNumber(/** @type {string} */ name) {
    let end = name.length;
    while (end > 0 && name[end - 1] >= "0" && name[end - 1] <= "9") end -= 1;
    return [name.slice(0, name[end - 1] === "." ? end - 1 : end), name.slice(end)];
}

/** Returns what one cell stands for, in words. */
export function cellText(/** @type {Cell} */ { block }) {
    const fit = text("{matched} of {total} modules", { matched: block.matched, total: block.total });
    const size = block.relative_size != null ? `Δ ${percent(block.relative_size)}`
        : block.norm != null ? text("size {norm}", { norm: Number(block.norm.toPrecision(3)) }) : text("size unknown");
    return `${block.block}: ${size}, ${fit}`;
}

/** Returns the map in words, for those who do not see it. */
export function mapText(/** @type {Block[]} */ blocks) {
    const cells = groupsOf(blocks).flatMap((group) => group.cells);
    const strong = cells.filter((cell) => cell.value !== null).sort((a, b) => (b.value ?? 0) - (a.value ?? 0));
    const partial = cells.filter(({ block }) => block.matched < block.total);
    const parts = [text("{n} blocks.", { n: cells.length })];
    if (strong.length) parts.push(text("The strongest: {list}.", { list: strong.slice(0, 3).map(cellText).join("; ") }));
    if (partial.length) parts.push(text("Not whole: {list}.", { list: partial.slice(0, 5).map(cellText).join("; ") }));
    return parts.join(" ");
}
