/**
 * The texts of web/ and their translations. `node tests/web/texts.mjs` lists what is not translated; with `--sync` it
 * gives every table a line for each new text, its translation empty, and drops the lines of texts that are gone.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const WEB = join(dirname(fileURLToPath(import.meta.url)), "../../web");
const TEXTS = join(WEB, "lib/texts");
const CALL = /(?<![\w.]|function )(text|key)\(\s*("(?:[^"\\\n]|\\.)*"|[^\s)])/g;
export const COMMENT = /\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm;

export const LANGUAGES = readdirSync(TEXTS).map((name) => name.replace(/\.js$/, "")).sort();

/** Returns the texts of one source, and what it calls `text` or `key` with that this cannot read. */
export function textsIn(source) {
    const found = [...source.replace(COMMENT, "").matchAll(CALL)].map(([, name, argument]) => ({ name, argument }));
    const literal = ({ argument }) => argument.startsWith('"') && argument.length > 1;
    const bad = found.filter((call) => !literal(call) && (call.name === "key" || /["'`]/.test(call.argument)));
    return { texts: found.filter(literal).map((call) => JSON.parse(call.argument)), bad: bad.map((call) => call.argument) };
}

/** Returns every source of the page below web/, by its name. */
export function sources() {
    const names = readdirSync(WEB, { recursive: true }).map((name) => name.replaceAll("\\", "/"));
    const own = names.filter((name) => /\.m?js$/.test(name) && !name.startsWith("lib/texts/") && name !== "lib/i18n.js");
    return Object.fromEntries(own.map((name) => [name, readFileSync(join(WEB, name), "utf8")]));
}

/** Returns all texts of the page, sorted. */
export function allTexts() {
    return [...new Set(Object.values(sources()).flatMap((source) => textsIn(source).texts))].sort();
}

export async function tableOf(language) {
    return (await import(pathToFileURL(join(TEXTS, `${language}.js`)))).TEXTS;
}

/** Returns the placeholders of a text, sorted. */
export function places(text) {
    return [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort();
}

async function sync(language) {
    const table = await tableOf(language);
    const lines = allTexts().map((text) => `    ${JSON.stringify(text)}: ${JSON.stringify(table[text] ?? "")},\n`);
    const head = "// @ts-check\n/** @type {Record<string, string>} */\nexport const TEXTS = {\n";
    writeFileSync(join(TEXTS, `${language}.js`), `${head}${lines.join("")}};\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    for (const language of LANGUAGES) {
        if (process.argv.includes("--sync")) await sync(language);
        const table = await tableOf(language);
        const absent = allTexts().filter((text) => !table[text]);
        for (const text of absent) process.stdout.write(`${language}: ${JSON.stringify(text)}\n`);
    }
}
