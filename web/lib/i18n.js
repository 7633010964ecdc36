// @ts-check
/** The page's texts in its language. The English text is the key; a language that lacks it shows it in English. */

import { TEXTS as ja } from "./texts/ja.js";
import { TEXTS as zh } from "./texts/zh.js";

/** @type {Record<string, Record<string, string>>} */
export const TABLES = { ja, zh };

/** @type {Record<string, string>} */
let table = {};

/** Sets the language of all later texts: a tag such as "zh" or "ja-JP"; one without a table means English. */
export function setLanguage(/** @type {string | null | undefined} */ tag) {
    const language = (tag ?? "").toLowerCase();
    table = TABLES[language] ?? TABLES[language.split(/[-_]/)[0]] ?? {};
}

/**
 * Returns a text in the page's language. `tests/web/texts.mjs` reads the first argument out of the source, so it is a
 * plain literal in double quotes, or a variable whose values went through `key`.
 * @param {string} english
 * @param {Record<string, string | number>} [values] what stands for "{name}" in the text
 */
export function text(english, values = {}) {
    const found = Object.hasOwn(table, english) && table[english] ? table[english] : english;
    return found.replace(/\{(\w+)\}/g, (place, name) => (Object.hasOwn(values, name) ? String(values[name]) : place));
}

/** Marks a text that a table holds in English and that `text` is called with later. */
export function key(/** @type {string} */ english) {
    return english;
}
