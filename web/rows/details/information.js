// @ts-check
/** What a LoRA file says of itself: trigger words and metadata. All of it is text of strangers, and shown as text. */

import { copyButton } from "../../kit/copy.js";
import { element } from "../../kit/dom.js";
import { text } from "../../lib/i18n.js";
import { thumb } from "../thumb.js";

const MOST_TAGS = 20;

/** @returns {HTMLElement} */
export function wordsPanel(/** @type {import("./details.js").Context} */ { info }) {
    /** @type {{word: string, source?: string, count?: number | null}[]} */
    const words = info?.words ?? [];
    if (!words.length) return element("p", { class: "loracore-note" }, text("The file and what lies beside it name no trigger words."));
    const chips = words.map(({ word, source, count }) => {
        const button = copyButton(text("Copy {word}", { word }), () => word, element("span", {}, word),
            ...(count ? [element("span", { class: "is-hint" }, `×${count}`)] : []));
        button.classList.add("is-word");
        if (source) button.title = text("{word}, from {source}: copy", { word, source });
        return button;
    });
    const all = copyButton(text("Copy all words"), () => words.map(({ word }) => word).join(", "), element("span", {}, text("Copy all words")));
    all.classList.add("loracore-plain");
    return element("div", { class: "loracore-words" }, element("div", { class: "loracore-chips" }, ...chips), all);
}

/** @returns {HTMLElement} */
export function informationPanel(/** @type {import("./details.js").Context} */ { editor, info }) {
    if (!info) return element("div");
    const facts = [
        [text("Title"), info.title], [text("Made for"), info.arches?.join(", ")], [text("Base"), info.base],
        [text("Kind"), info.kinds?.join(", ")], [text("Rank"), rankText(info.rank)], [text("Key names"), info.dialect],
        [text("Modules"), info.modules], [text("Trainer"), info.trainer], [text("Author"), info.author],
        [text("License"), info.license], [text("Size"), sizeText(info.size)],
    ].filter(([, value]) => value);
    const list = element("dl", { class: "loracore-facts" },
        ...facts.flatMap(([name, value]) => [element("dt", {}, String(name)), element("dd", {}, String(value))]), ...hashOf(editor, info));
    const picture = info.has_preview ? [thumb(info.name, editor.page)] : [];
    return element("div", { class: "loracore-information" }, element("div", { class: "loracore-fields is-top" }, list, ...picture),
        ...(info.description ? [element("p", { class: "loracore-description" }, info.description)] : []),
        ...tagChart(info.tags ?? []), ...metadataTable(info.metadata ?? []));
}

/**
 * The hash of the content, which takes reading the whole file once.
 * @param {import("../editor.js").RowsEditor} editor
 * @param {import("../fileinfo.js").Info} info
 */
function hashOf(editor, info) {
    const value = element("dd", { class: "is-hash" }, text("Reading the file…"));
    const fill = (/** @type {string} */ hash) => value.replaceChildren(
        element("code", { title: hash }, hash.slice(0, 12)), copyButton(text("Copy the hash"), () => hash));
    if (info.hash) fill(info.hash);
    else {
        editor.info.of(info.name, true).then((full) => {
            if (full?.hash) fill(full.hash);
            else value.textContent = full?.error ?? "–";
        });
    }
    return [element("dt", { title: text("The sha256 of the content after the header") }, text("Hash")), value];
}

/** @param {{tag: string, count: number}[]} tags */
function tagChart(tags) {
    if (!tags.length) return [];
    const most = Math.max(...tags.map((item) => item.count), 1);
    const bars = tags.slice(0, MOST_TAGS).map(({ tag, count }) => {
        const bar = element("span", { class: "is-bar", style: `width: ${Math.max(1, (100 * count) / most)}%` });
        return element("li", {}, element("span", { class: "is-tag", title: tag }, tag), element("span", { class: "is-track" }, bar),
            element("span", { class: "is-hint" }, String(count)));
    });
    return [element("h4", {}, text("Tags it was trained on")), element("ul", { class: "loracore-chart" }, ...bars)];
}

/** @param {[string, string][]} metadata */
function metadataTable(metadata) {
    if (!metadata.length) return [];
    const rows = metadata.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, String(name)), element("td", {}, String(value))));
    return [element("details", { class: "loracore-metadata" },
        element("summary", {}, text("Metadata ({n})", { n: metadata.length })), element("table", {}, element("tbody", {}, ...rows)))];
}

/** @param {[number, number] | null | undefined} rank */
function rankText(rank) {
    if (!rank) return "";
    return rank[0] === rank[1] ? String(rank[0]) : `${rank[0]}–${rank[1]}`;
}

function sizeText(/** @type {number} */ bytes) {
    const [unit, divisor] = bytes >= 1e9 ? ["GB", 1e9] : bytes >= 1e6 ? ["MB", 1e6] : ["KB", 1e3];
    return bytes ? `${(bytes / Number(divisor)).toFixed(1)} ${unit}` : "";
}
