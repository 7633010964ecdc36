// @ts-check
/**
 * Strengths of blocks as text and as one number for each block: "double.0-9=0.5, te=0". The grammar is the node's own;
 * whether a name is one of the model's is the server's to say, and of the sliders' to know.
 */

import { text } from "./i18n.js";
import { HIGH, LOW } from "./strength.js";

const PLAIN = 1; // the factor of a block that no term names
const ALL = "all";
const ENCODERS = "te";
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;
const SELECTOR = /^(.*)\.(\d{1,6})(?:-(\d{1,6}))?$/;

/** @typedef {{name: string, title: string, numbers: number[]}} Group blocks that are counted, or one without numbers */
/** @typedef {{name: string, first: number | null, last: number | null, value: number | null}} Term a preset has no value */

/**
 * Returns the terms of a text, or what is wrong with it.
 * @param {string} written
 * @returns {{terms: Term[], error: string}}
 */
export function parseBlocks(written) {
    /** @type {Term[]} */
    const terms = [];
    for (const part of written.replaceAll("\n", ",").split(",").map((item) => item.trim()).filter(Boolean)) {
        const equals = part.indexOf("=");
        const selector = (equals < 0 ? part : part.slice(0, equals)).trim().toLowerCase();
        const number = equals < 0 ? null : part.slice(equals + 1).trim();
        const [, name = selector, first, last = first] = selector.match(SELECTOR) ?? [];
        if (!name || /\s/.test(name)) return wrong(text("“{part}” names no block; write for example double.0-9=0.5, te=0", { part }));
        if (first && Number(first) > Number(last)) return wrong(text("“{part}” counts backwards", { part }));
        if (first && number === null) return wrong(text("“{part}” has no strength; write {part}=0.5", { part }));
        const value = number === null ? null : NUMBER.test(number) ? Number(number) : Number.NaN;
        if (value !== null && !(value >= LOW && value <= HIGH)) {
            return wrong(text("“{part}” needs a number from −100 to 100", { part }));
        }
        terms.push({ name, first: first ? Number(first) : null, last: first ? Number(last) : null, value });
    }
    return { terms, error: "" };
}

function wrong(/** @type {string} */ error) {
    return { terms: [], error };
}

/** Returns the groups that have a strength of their own: not `te` where its encoders are named one by one. */
export function leavesOf(/** @type {Group[]} */ groups) {
    const named = groups.some((group) => group.name.startsWith(`${ENCODERS}.`));
    return groups.filter((group) => !(named && group.name === ENCODERS));
}

/** Returns what a group's blocks are called among the factors. */
export function keysOf(/** @type {Group} */ group) {
    return group.numbers.length ? group.numbers.map((number) => `${group.name}.${number}`) : [group.name];
}

/**
 * Returns the factor of every block; the last term that names a block has it.
 * @param {string} written
 * @param {Group[]} groups
 * @param {Record<string, string>} presets
 * @returns {{factors: Map<string, number>, error: string}}
 */
export function factorsOf(written, groups, presets) {
    const leaves = leavesOf(groups);
    const factors = new Map(leaves.flatMap(keysOf).map((name) => [name, PLAIN]));
    const { terms, error } = parseBlocks(written);
    for (const term of terms) {
        const preset = term.value === null && Object.hasOwn(presets, term.name) ? presets[term.name] : null;
        if (term.value === null && preset === null) return { factors, error: text("There is no preset “{name}”", { name: term.name }) };
        for (const one of preset === null ? [term] : parseBlocks(preset).terms) {
            const found = leaves.filter((group) => selects(one, group)).flatMap((group) => keysOf(group).filter((_, at) => inRange(one, group.numbers[at])));
            if (!found.length && preset === null) return { factors, error: text("This model has no blocks “{name}”", { name: selectorOf(one) }) };
            for (const name of found) factors.set(name, one.value ?? PLAIN);
        }
    }
    return { factors, error };
}

/** @param {Term} term @param {Group} group */
function selects(term, group) {
    return term.name === ALL || term.name === group.name || (term.name === ENCODERS && group.name.startsWith(`${ENCODERS}.`));
}

/** @param {Term} term @param {number | undefined} number */
function inRange({ first, last }, number) {
    return first === null || (number !== undefined && number >= first && number <= (last ?? first));
}

function selectorOf(/** @type {Term} */ { name, first, last }) {
    return first === null ? name : first === last ? `${name}.${first}` : `${name}.${first}-${last}`;
}

/**
 * Returns the shortest text that gives these factors; blocks with the plain factor are left out.
 * @param {Map<string, number>} factors
 * @param {Group[]} groups
 */
export function textOf(factors, groups) {
    const leaves = leavesOf(groups);
    const valueOf = (/** @type {string} */ name) => factors.get(name) ?? PLAIN;
    const one = same(leaves.flatMap(keysOf).map(valueOf));
    if (one !== null && leaves.length > 1) return one === PLAIN ? "" : `${ALL}=${shortNumber(one)}`;
    const encoders = leaves.filter((group) => group.name.startsWith(`${ENCODERS}.`));
    const encoder = encoders.length > 1 ? same(encoders.map((group) => valueOf(group.name))) : null;
    const terms = leaves.filter((group) => encoder === null || !encoders.includes(group)).flatMap((group) => termsOf(group, valueOf));
    if (encoder !== null && encoder !== PLAIN) terms.push(`${ENCODERS}=${shortNumber(encoder)}`);
    return terms.join(", ");
}

/** @param {Group} group @param {(name: string) => number} valueOf */
function termsOf(group, valueOf) {
    const values = keysOf(group).map(valueOf);
    const one = same(values);
    if (one !== null) return one === PLAIN ? [] : [`${group.name}=${shortNumber(one)}`];
    /** @type {Term[]} */
    const runs = [];
    group.numbers.forEach((number, at) => {
        const run = runs.at(-1);
        if (run && run.value === values[at] && run.last === number - 1) run.last = number;
        else runs.push({ name: group.name, first: number, last: number, value: values[at] });
    });
    return runs.filter((run) => run.value !== PLAIN).map((run) => `${selectorOf(run)}=${shortNumber(run.value ?? PLAIN)}`);
}

/** Returns what all of these numbers are, or null if they differ. */
export function same(/** @type {number[]} */ values) {
    return values.length && values.every((value) => value === values[0]) ? values[0] : null;
}

export function shortNumber(/** @type {number} */ value) {
    return String(Math.round(value * 1000) / 1000 + 0);
}
