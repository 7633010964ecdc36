// @ts-check
/** File names of LoRAs: how they are shown, searched and found. Lists of tens of thousands are usual. */

import { text } from "./i18n.js";

/** Splits "styles/ink.safetensors" into what is shown faintly and what is shown: "styles/" and "ink". */
export function splitName(/** @type {string} */ name) {
    const cut = name.lastIndexOf("/") + 1;
    const file = name.slice(cut);
    const dot = file.lastIndexOf(".");
    return { folder: name.slice(0, cut), stem: dot > 0 ? file.slice(0, dot) : file };
}

/** What people call a file, and the row that names it. */
export function stemOf(/** @type {string} */ name) {
    return splitName(name).stem || text("none");
}

/**
 * Returns the names that contain every word of `query`, in any order and case; matches in the file's own name first.
 * @param {string[]} names
 * @param {string} query
 */
export function searchNames(names, query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return names;
    const contains = (/** @type {string} */ text) => words.every((word) => text.toLowerCase().includes(word));
    /** @type {string[]} */
    const inFile = [];
    /** @type {string[]} */
    const others = [];
    for (const name of names) {
        if (contains(name)) (contains(splitName(name).stem) ? inFile : others).push(name);
    }
    return [...inFile, ...others];
}

/**
 * Returns the one of `names` that a saved name means, as the node finds it: the same name, then without regard to
 * case, then by the file's own name where only one fits; null if none does or several do.
 * @param {string} name
 * @param {string[]} names
 * @returns {string | null}
 */
export function findName(name, names) {
    const { exact, byCase, byOwnName } = indexOf(names);
    if (exact.has(name)) return name;
    const fitting = byCase.get(name.toLowerCase()) ?? byOwnName.get(ownName(name)) ?? [];
    return fitting.length === 1 ? fitting[0] : null;
}

/**
 * Returns the folders of `names` with what lies right in them: the loras folder itself first, the others by name.
 * @param {string[]} names
 * @returns {{folder: string, names: string[]}[]}
 */
export function foldersOf(names) {
    return [...indexOf(names).byFolder].map(([folder, inside]) => ({ folder, names: inside }))
        .sort((a, b) => Number(a.folder !== "") - Number(b.folder !== "") || (a.folder.toLowerCase() < b.folder.toLowerCase() ? -1 : 1));
}

/** @typedef {{exact: Set<string>, byCase: Map<string, string[]>, byOwnName: Map<string, string[]>, byFolder: Map<string, string[]>}} Index */

/** @type {WeakMap<string[], Index>} one for each list that the host sent */
const indexes = new WeakMap();

/** @returns {Index} */
function indexOf(/** @type {string[]} */ names) {
    let index = indexes.get(names);
    if (!index) {
        index = {
            exact: new Set(names),
            byCase: grouped(names, (name) => name.toLowerCase()),
            byOwnName: grouped(names, ownName),
            byFolder: grouped(names, (name) => splitName(name).folder),
        };
        indexes.set(names, index);
    }
    return index;
}

/**
 * @param {string[]} names
 * @param {(name: string) => string} keyOf
 */
function grouped(names, keyOf) {
    /** @type {Map<string, string[]>} */
    const groups = new Map();
    for (const name of names) {
        const group = groups.get(keyOf(name));
        if (group) group.push(name);
        else groups.set(keyOf(name), [name]);
    }
    return groups;
}

function ownName(/** @type {string} */ name) {
    return name.slice(name.lastIndexOf("/") + 1).toLowerCase();
}
