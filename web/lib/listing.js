// @ts-check
/** What the list of files shows, line by line: folders that open and close, or what a search found. */

import { foldersOf, searchNames } from "./names.js";

const FEW = 60; // with more files than this, folders start closed

/** @typedef {{folder: string, count: number, open: boolean}} FolderLine */
/** @typedef {{name: string}} FileLine */
/** @typedef {FolderLine | FileLine} Line */

/**
 * Returns the lines of the list. Without a query: the files of the loras folder itself, then each folder with its
 * files below it if it is open. With one: the files found, without folders.
 * @param {string[]} names
 * @param {string} query
 * @param {(folder: string) => boolean} isOpen
 * @returns {Line[]}
 */
export function linesOf(names, query, isOpen) {
    if (query.trim()) return searchNames(names, query).map((name) => ({ name }));
    /** @type {Line[]} */
    const lines = [];
    for (const { folder, names: inside } of foldersOf(names)) {
        const open = folder === "" || isOpen(folder);
        if (folder !== "") lines.push({ folder, count: inside.length, open });
        if (open) for (const name of inside) lines.push({ name });
    }
    return lines;
}

/** Whether a folder is open before the user has opened or closed it. */
export function startsOpen(/** @type {string} */ folder, /** @type {string[]} */ names, /** @type {string} */ current) {
    return names.length <= FEW || (current.startsWith(folder) && !current.slice(folder.length).includes("/"));
}
