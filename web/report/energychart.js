// @ts-check
/** The curve of retained energy against rank, with the ranks of the written file marked; pointing at it tells values. */

import { element, svg } from "../kit/dom.js";
import { energyCurve, kept } from "../lib/energy.js";
import { percent } from "../lib/heat.js";
import { text } from "../lib/i18n.js";

const WIDTH = 300;
const HEIGHT = 84;
const LEFT = 34; // room for the labels
const BOTTOM = 14;

/**
 * Returns the chart, or null where the report tells no curve.
 * @param {import("../lib/energy.js").Layer[]} layers
 */
export function energyChart(layers) {
    const points = energyCurve(layers);
    if (points.length < 2) return null;
    const [first, last] = [Math.log2(points[0].rank), Math.log2(points[points.length - 1].rank)];
    const x = (/** @type {number} */ rank) => LEFT + ((Math.log2(rank) - first) / (last - first)) * (WIDTH - LEFT - 6);
    const y = (/** @type {number} */ share) => 6 + (1 - share) * (HEIGHT - BOTTOM - 6);
    const line = points.map(({ rank, share }) => `${x(rank).toFixed(1)},${y(share).toFixed(1)}`).join(" ");
    const file = kept(layers);
    const label = (/** @type {string} */ said, /** @type {number} */ at, /** @type {number} */ down, anchor = "middle") => {
        const made = svg("text", { x: at, y: down, "text-anchor": anchor });
        made.textContent = said;
        return made;
    };
    const marks = file ? [svg("rect", {
        class: "is-span", x: x(file.low) - 1, width: Math.max(2, x(Math.min(file.high, 2 ** last)) - x(file.low) + 2), y: 4,
        height: HEIGHT - BOTTOM - 2,
    })] : [];
    const dot = svg("circle", { class: "is-dot", r: 3, cx: -9, cy: -9 });
    const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "loracore-curve" }, ...marks,
        ...[0, 0.5, 1].map((share) => svg("line", { class: "is-rule", x1: LEFT, x2: WIDTH - 6, y1: y(share), y2: y(share) })),
        svg("polyline", { points: line }), dot, label("100 %", LEFT - 4, y(1) + 4, "end"), label("0", LEFT - 4, y(0), "end"),
        ...points.filter((_, index) => index % Math.ceil(points.length / 8) === 0).map(({ rank }) => label(`${rank}`, x(rank), HEIGHT - 2)));
    const says = file ? text("keeps {share} at rank {ranks}", { share: percent(file.energy), ranks: ranks(file) }) : "";
    const caption = element("div", { class: "loracore-caption", "aria-live": "polite" }, says);
    chart.addEventListener("pointermove", (event) => {
        const box = chart.getBoundingClientRect();
        const at = ((/** @type {PointerEvent} */ (event).clientX - box.left) / box.width) * WIDTH;
        const near = points.reduce((a, b) => (Math.abs(x(a.rank) - at) <= Math.abs(x(b.rank) - at) ? a : b));
        dot.setAttribute("cx", String(x(near.rank)));
        dot.setAttribute("cy", String(y(near.share)));
        caption.textContent = text("rank {rank} would keep {share}", { rank: near.rank, share: percent(near.share) });
    });
    chart.addEventListener("pointerleave", () => {
        dot.setAttribute("cx", "-9");
        caption.textContent = says;
    });
    const words = points.map(({ rank, share }) => `${rank}: ${percent(share)}`).join(", ");
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", text("Retained energy by rank. {list}", { list: words }));
    return element("div", { class: "loracore-energy" }, element("div", { class: "loracore-caption" }, text("Retained energy by rank")),
        chart, caption);
}

function ranks(/** @type {{low: number, high: number}} */ { low, high }) {
    return low === high ? String(low) : `${low}–${high}`;
}
