// @ts-check
/** The value of the rows widget: one versioned object, plain JSON; what is not known here is kept. */

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
 */

/**
 * @typedef {object} Rows
 * @property {number} v
 * @property {Row[]} rows
 */

/** @returns {Row} */
export function newRow(/** @type {string} */ name) {
    return { on: true, name, strength: 1, strength_clip: null, blocks: "", hash: "", size: 0 };
}

/**
 * Returns the rows of a saved value: the object, the same as JSON text, a bare list, or nothing. The result shares
 * no part with `value`. A value of a newer version comes back as it is; see `isNewer`.
 * @param {unknown} value
 * @returns {Rows}
 */
export function parseRows(value) {
    const found = typeof value === "string" ? parseJson(value) : value;
    const object = Array.isArray(found) ? { rows: found } : isObject(found) ? found : {};
    const copy = structuredClone(object);
    if (isNewer(copy)) return /** @type {any} */ (copy);
    const rows = Array.isArray(copy.rows) ? copy.rows.filter(isObject) : [];
    return { ...copy, v: VERSION, rows: rows.map((row) => ({ ...newRow(""), ...row, name: slashes(row.name) })) };
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

function slashes(/** @type {unknown} */ name) {
    return typeof name === "string" ? name.replaceAll("\\", "/") : "";
}

/** @returns {value is Record<string, any>} */
function isObject(/** @type {unknown} */ value) {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseJson(/** @type {string} */ text) {
    try {
        return JSON.parse(text);
    } catch {
        return null; // not rows of ours, for example the empty text of an old workflow
    }
}
