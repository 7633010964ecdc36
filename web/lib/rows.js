// @ts-check
/** The value of the rows widget: one versioned object, plain JSON; what is not known here is kept. */

import { text } from "./i18n.js";
import { HIGH, LOW } from "./strength.js";

export const VERSION = 1;

/**
 * @typedef {object} Row
 * @property {boolean} on
 * @property {string} name file name below the loras folders, with forward slashes
 * @property {number} strength
 * @property {number | null} strength_clip null: as `strength`
 * @property {string} blocks
 * @property {string} hash
 * @property {number} size
 * @property {string} [low] of a pair: the low-noise file; `name` is then the high-noise one
 * @property {number | null} [low_strength] null: as `strength`
 * @property {string} [low_hash]
 * @property {number} [low_size]
 * @property {unknown} [unreadable] what stood in the row's place and is no row, or in the place of its name
 */

/**
 * @typedef {object} Rows
 * @property {number} v
 * @property {Row[]} rows
 * @property {unknown} [unreadable] a value that holds no rows, as it was found
 */

/** @returns {Row} */
export function newRow(/** @type {string} */ name) {
    return { on: true, name, strength: 1, strength_clip: null, blocks: "", hash: "", size: 0 };
}

/**
 * Returns the rows of a saved value: the object, the same as JSON text, a bare list, or nothing. The result shares
 * no part with `value`, and nothing of it is dropped: what cannot be read is kept as `unreadable`. A value of a newer
 * version comes back as it is; see `isNewer`.
 * @param {unknown} value
 * @returns {Rows}
 */
export function parseRows(value) {
    const found = typeof value === "string" ? parseJson(value) : value;
    const object = Array.isArray(found) ? { rows: found } : isObject(found) ? found : unreadable(found);
    /** @type {any} */
    const copy = structuredClone(object);
    if (isNewer(copy)) return /** @type {any} */ (copy);
    const { rows = [] } = copy;
    const items = Array.isArray(rows) ? rows : [];
    const rest = items === rows ? copy : { ...copy, ...unreadable(rows) };
    return { ...rest, v: VERSION, rows: items.map(parseRow) };
}

/** @returns {Row} */
function parseRow(/** @type {any} */ item) {
    if (typeof item === "string") return newRow(slashes(item));
    if (!isObject(item)) return { ...newRow(""), unreadable: item };
    const row = { ...newRow(""), ...item, on: Boolean(item.on ?? true) };
    if (typeof row.low === "string") row.low = slashes(row.low);
    const { name } = row;
    return typeof name === "string" ? { ...row, name: slashes(name) } : { ...row, name: "", unreadable: name };
}

function unreadable(/** @type {unknown} */ found) {
    return found === null || found === undefined ? {} : { unreadable: found };
}

/** Returns what is wrong with a row, or "". */
export function problemOf(/** @type {Row} */ row) {
    if ("unreadable" in row) return text("This is not a row: {found}", { found: shortJson(row.unreadable) });
    const strengths = [row.strength, row.strength_clip ?? 0, row.low_strength ?? 0];
    const bad = strengths.find((strength) => !isStrength(strength));
    if (bad === undefined) return "";
    return text("A strength must be a number from −100 to 100, found {found}", { found: shortJson(bad) });
}

/** Whether the node accepts this as a strength. Text that is a number will do, as in API prompts. */
export function isStrength(/** @type {unknown} */ value) {
    const number = typeof value === "string" && value.trim() ? Number(value) : value;
    return typeof number === "number" && number >= LOW && number <= HIGH;
}

function shortJson(/** @type {unknown} */ value) {
    const found = typeof value === "number" ? String(value) : JSON.stringify(value) ?? String(value);
    return found.length > 60 ? `${found.slice(0, 60)}…` : found;
}

/** Whether a newer LoRA Core made this value; it must be shown as such and left alone. */
export function isNewer(/** @type {any} */ value) {
    return isObject(value) && "v" in value && value.v !== VERSION;
}

/**
 * Returns a list with the item at `from` moved to `to`.
 * @template T
 * @param {T[]} items
 * @param {number} from
 * @param {number} to
 */
export function moved(items, from, to) {
    const rest = items.filter((_, index) => index !== from);
    rest.splice(Math.max(0, Math.min(to, rest.length)), 0, items[from]);
    return rest;
}

function slashes(/** @type {string} */ name) {
    return name.replaceAll("\\", "/");
}

/** @returns {value is Record<string, any>} */
function isObject(/** @type {unknown} */ value) {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns what JSON text says, null for empty text, and any other text as it is. */
function parseJson(/** @type {string} */ json) {
    try {
        return json.trim() ? JSON.parse(json) : null;
    } catch {
        return json;
    }
}
