// @ts-check
/** What a row says of its file: from the server's check, from the last run, and before both from the list of names. */

import { key, text } from "./i18n.js";
import { problemOf } from "./rows.js";

/**
 * @typedef {object} Check what the server says of one row
 * @property {string} state full, partial, none, unknown, missing, ambiguous, broken or empty
 * @property {string | null} [name] the file that the row's name means
 * @property {string | null} [how] how it was found: exact, slashes, case, base name or hash
 * @property {string[]} [candidates]
 * @property {string} [summary]
 * @property {string} [reason]
 * @property {string[]} [unmatched]
 * @property {string} [blocks_error]
 * @property {string} [hash]
 * @property {number} [size]
 * @property {Check | null} [low]
 */

/** @typedef {{summary?: string, state?: string}} Run what the last run reported of the row's file */

/**
 * @typedef {object} Status
 * @property {"good" | "part" | "bad" | "plain"} tone
 * @property {string} label a few letters
 * @property {string} title all of it
 * @property {boolean} missing whether there is no file to use
 * @property {string | null} file the file that the row's name means
 * @property {boolean} moved whether the file has another name than the row
 * @property {string[]} candidates
 */

const LABELS = {
    missing: key("missing"),
    ambiguous: key("several"),
    broken: key("broken"),
};
const HOW = {
    slashes: key("Found as {name}: written with other slashes."),
    case: key("Found as {name}: written in another letter case."),
    "base name": key("Found as {name}: in another folder."),
    hash: key("Found as {name}: it has the same content."),
};
const MISSING = ["missing", "ambiguous"];
const RANKS = ["plain", "good", "part", "bad"];

/**
 * @param {import("./rows.js").Row} row
 * @param {string | null} found the file of the list that its name means
 * @param {Check | null} check
 * @param {Run | null} run
 * @returns {Status}
 */
export function statusOf(row, found, check, run = null) {
    const problem = problemOf(row);
    if (problem) return { ...EMPTY, tone: "bad", label: text("error"), title: problem };
    if (!row.name) return { ...EMPTY, title: text("No file is chosen.") };
    const own = check ? ofCheck(check, row.name, run) : ofList(row.name, found);
    if (!check?.low) return own;
    const low = ofCheck(check.low, row.low ?? "", null);
    const worse = RANKS.indexOf(low.tone) > RANKS.indexOf(own.tone);
    const title = `${text("High noise: {text}", { text: own.title })}\n${text("Low noise: {text}", { text: low.title })}`;
    return { ...own, ...(worse ? { tone: low.tone, label: low.label } : {}), title };
}

/** @type {Status} */
const EMPTY = { tone: "plain", label: "", title: "", missing: false, file: null, moved: false, candidates: [] };

/** @returns {Status} */
function ofList(/** @type {string} */ name, /** @type {string | null} */ found) {
    if (found === null) return { ...EMPTY, tone: "bad", label: text(LABELS.missing), title: text("{name}: not in your loras folders", { name }), missing: true };
    const moved = found !== name;
    return { ...EMPTY, file: found, moved, title: moved ? text("{name}, found as {found}", { name, found }) : name };
}

/**
 * @param {Check} check
 * @param {string} name
 * @param {Run | null} run
 * @returns {Status}
 */
function ofCheck(check, name, run) {
    const missing = MISSING.includes(check.state);
    const state = !missing && check.state !== "broken" && run?.state ? run.state : check.state;
    const summary = run?.summary || check.summary || "";
    const file = check.name ?? null;
    const how = /** @type {Record<string, string>} */ (HOW)[check.how ?? ""];
    const blocks = check.blocks_error ?? "";
    const lines = [
        summary && run ? text("Last run: {summary}", { summary }) : summary,
        check.reason ?? "",
        blocks && text("Block strengths: {error}", { error: blocks }),
        check.unmatched?.length ? text("Without a place: {names}", { names: check.unmatched.join(", ") }) : "",
        how && file ? text(how, { name: file }) : "",
        check.candidates?.length ? text("Could be: {names}", { names: check.candidates.join(", ") }) : "",
    ].filter(Boolean);
    return {
        tone: blocks ? "bad" : toneOf(state),
        label: blocks ? text("blocks") : labelOf(state, summary),
        title: lines.join("\n") || (missing ? text("{name}: not in your loras folders", { name }) : name),
        missing,
        file,
        moved: file !== null && file !== name,
        candidates: check.candidates ?? [],
    };
}

/** @returns {Status["tone"]} */
function toneOf(/** @type {string} */ state) {
    if (state === "full") return "good";
    if (state === "partial") return "part";
    return state === "unknown" || state === "empty" ? "plain" : "bad";
}

/** The count of matched modules; without a model, what the file is for. */
function labelOf(/** @type {string} */ state, /** @type {string} */ summary) {
    const known = /** @type {Record<string, string>} */ (LABELS)[state];
    if (known) return text(known);
    const [count = "", arch = ""] = summary.split(" · ");
    return state === "unknown" ? arch : count;
}

/** What of a row its check depends on: with the same, the same answer holds. */
export function checkKey(/** @type {import("./rows.js").Row} */ row) {
    return JSON.stringify([row.name, row.blocks, row.hash, row.size, row.low ?? "", row.low_hash ?? "", row.low_size ?? 0]);
}

/**
 * Returns what the last run reported of each row, by the file's own name; null where it has nothing. Rows that are off
 * took no part.
 * @param {import("./rows.js").Row[]} rows
 * @param {(row: import("./rows.js").Row) => string | null} fileOf
 * @param {any[]} loras of the report
 * @returns {(Run | null)[]}
 */
export function runsOf(rows, fileOf, loras) {
    const own = (/** @type {string} */ name) => name.replaceAll("\\", "/").split("/").at(-1);
    /** @type {Map<string | undefined, any[]>} the last first */
    const left = new Map();
    for (const lora of loras.filter((one) => typeof one?.name === "string").reverse()) {
        const same = left.get(own(lora.name)) ?? [];
        same.push(lora);
        left.set(own(lora.name), same);
    }
    return rows.map((row) => {
        const file = fileOf(row) ?? row.name;
        return (row.on && file ? left.get(own(file))?.pop() : null) ?? null;
    });
}
