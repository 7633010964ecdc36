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
