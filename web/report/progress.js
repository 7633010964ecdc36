// @ts-check
/** What a running node is at: the phase, a bar and the time left. */

import { element } from "../kit/dom.js";
import { key, text } from "../lib/i18n.js";
import { spanText, TimeLeft } from "../lib/timeleft.js";

const PHASES = /** @type {Record<string, string>} */ ({
    reading: key("reading"), merging: key("merging"), extracting: key("extracting"), resizing: key("resizing"),
    combining: key("combining"), converting: key("converting"), measuring: key("measuring"),
    verifying: key("verifying every byte"), writing: key("finishing the file"),
});

/** Returns the bar: `root` to show, `phase` and `step` to tell it what the server says. */
export function progressBar() {
    const said = element("span", {}, text("reading"));
    const left = element("span", { class: "is-left" });
    const bar = element("div", { role: "progressbar", "aria-label": text("Progress"), "aria-valuemin": 0, "aria-valuemax": 100 }, element("i"));
    const root = element("div", { class: "loracore-progress" }, element("div", { class: "is-said" }, said, left), bar);
    const rate = new TimeLeft();
    return {
        root,
        phase(/** @type {string} */ name) {
            said.textContent = PHASES[name] ? text(PHASES[name]) : name;
            left.textContent = "";
        },
        step(/** @type {number} */ done, /** @type {number} */ total) {
            const share = total > 0 ? Math.min(1, done / total) : 0;
            const seconds = rate.step(share, performance.now() / 1000);
            bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
            bar.style.setProperty("--done", `${(100 * share).toFixed(1)}%`);
            left.textContent = `${Math.round(100 * share)} %${seconds !== null && share < 1 ? ` · ${spanText(seconds)}` : ""}`;
        },
    };
}
