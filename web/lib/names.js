// @ts-check
/** File names of LoRAs: how they are shown and searched. */

/** Splits "styles/ink.safetensors" into what is shown faintly and what is shown: "styles/" and "ink". */
export function splitName(/** @type {string} */ name) {
    const cut = name.lastIndexOf("/") + 1;
    const file = name.slice(cut);
    const dot = file.lastIndexOf(".");
    return { folder: name.slice(0, cut), stem: dot > 0 ? file.slice(0, dot) : file };
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
    const found = names.filter(contains);
    const inFile = found.filter((name) => contains(splitName(name).stem));
    return [...inFile, ...found.filter((name) => !inFile.includes(name))];
}

/**
 * Returns the one of `names` that a saved name means, as the node finds it: the same name, then without regard to
 * case, then by the file's own name where only one fits; null if none does or several do.
 * @param {string} name
 * @param {string[]} names
 * @returns {string | null}
 */
export function findName(name, names) {
    if (names.includes(name)) return name;
    const lower = (/** @type {string} */ text) => text.toLowerCase();
    const own = (/** @type {string} */ text) => lower(text).slice(text.lastIndexOf("/") + 1);
    for (const same of [lower, own]) {
        const fitting = names.filter((candidate) => same(candidate) === same(name));
        if (fitting.length) return fitting.length === 1 ? fitting[0] : null;
    }
    return null;
}
