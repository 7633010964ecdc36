// @ts-check
/** The details of a row, above the page: its report, block strengths, trigger words and what its file says of itself. */

import { element, icon, ICONS } from "../../kit/dom.js";
import { openPopover } from "../../kit/popover.js";
import { key, text } from "../../lib/i18n.js";
import { nameLabel } from "../picker.js";
import { blocksPanel } from "./blocks.js";
import { informationPanel, wordsPanel } from "./information.js";
import { pairPanel } from "./pair.js";

/** @typedef {import("../../lib/rows.js").Row} Row */
/** @typedef {import("../fileinfo.js").Info} Info */

/**
 * @typedef {object} Context what a panel works with
 * @property {import("../editor.js").RowsEditor} editor
 * @property {Row} row
 * @property {Info | null} info
 * @property {HTMLElement} layer for lists that open above the details
 */

/** @type {{title: string, panel: (context: Context) => HTMLElement}[]} */
const TABS = [
    { title: key("Blocks"), panel: blocksPanel },
    { title: key("Words"), panel: wordsPanel },
    { title: key("Information"), panel: informationPanel },
    { title: key("Pair"), panel: pairPanel },
];
let last = 0; // the tab that was open last opens again

/**
 * @param {import("../editor.js").RowsEditor} editor
 * @param {number} index
 * @param {HTMLElement} anchor
 * @param {string} [tab] title of the tab to open
 */
export async function openDetails(editor, index, anchor, tab) {
    const row = editor.value.rows[index];
    const status = editor.statusOf(row);
    const body = element("div", { class: "loracore-panel", role: "tabpanel", tabindex: 0, id: "loracore-panel" },
        element("p", { class: "loracore-note" }, status.file ? text("Reading the file…") : text("There is no file to look into.")));
    const tabs = element("div", { class: "loracore-tabs", role: "tablist" });
    const close = element("button", { type: "button", class: "loracore-close", "aria-label": text("Close"), title: text("Close") }, icon(ICONS.cross));
    const said = element("p", { class: `loracore-said is-${status.tone}`, role: "status" }, status.title);
    const popover = openPopover(editor.layer, anchor,
        { class: "is-details", role: "dialog", label: text("Details of {name}", { name: row.name || text("none") }), width: 440, height: 560 },
        element("div", { class: "loracore-title" }, nameLabel(row.name || text("none")), close), said, tabs, body);
    close.addEventListener("click", popover.close);
    close.focus({ preventScroll: true });
    const info = status.file ? await editor.info.of(status.file) : null;
    if (!popover.root.isConnected) return;
    if (info?.error || (status.file && !info)) body.replaceChildren(element("p", { class: "loracore-note is-error" }, info?.error ?? text("The server says nothing of this file.")));
    if (!info || info.error) return;
    const names = TABS.map((item) => text(item.title));
    fillTabs(tabs, body, { editor, row, info, layer: popover.root }, tab ? names.indexOf(tab) : last);
    popover.place();
    if (document.activeElement === close) /** @type {HTMLElement | null} */ (tabs.querySelector("[aria-selected=true]"))?.focus({ preventScroll: true });
}

/**
 * @param {HTMLElement} tabs
 * @param {HTMLElement} body
 * @param {Context} context
 * @param {number} start
 */
function fillTabs(tabs, body, context, start) {
    const show = (/** @type {number} */ at) => {
        last = at;
        buttons.forEach((button, index) => {
            button.setAttribute("aria-selected", String(index === at));
            button.tabIndex = index === at ? 0 : -1;
        });
        body.setAttribute("aria-label", text(TABS[at].title));
        body.replaceChildren(TABS[at].panel(context));
        body.scrollTop = 0;
    };
    const buttons = TABS.map(({ title }, at) => element("button", {
        type: "button", role: "tab", "aria-controls": "loracore-panel", onclick: () => show(at),
    }, text(title)));
    tabs.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const to = (last + step + TABS.length) % TABS.length;
        show(to);
        buttons[to].focus();
    });
    tabs.replaceChildren(...buttons);
    show(Math.max(0, start));
}
