// @ts-check
/** The controls of a row: a switch and a strength field. Each calls back with its new value. */

import { element, icon, ICONS } from "../kit/dom.js";
import { markTyped } from "../kit/hands.js";
import { text } from "../lib/i18n.js";
import { isStrength } from "../lib/rows.js";
import { clampStrength, formatStrength, parseStrength } from "../lib/strength.js";

const STEP = 0.05; // of the buttons and the arrow keys
const FINE_STEP = 0.01; // with Shift, and per DRAG_PIXELS while dragging
const DRAG_PIXELS = 3;

/**
 * @param {string} label
 * @param {boolean | "mixed"} on
 * @param {(on: boolean) => void} onChange
 */
export function switchButton(label, on, onChange) {
    const click = () => onChange(made.getAttribute("aria-checked") !== "true");
    const made = element("button", {
        class: "loracore-switch", type: "button", role: "switch",
        "aria-checked": String(on), "aria-label": label, title: label, onclick: click,
    });
    return made;
}

/**
 * A number with buttons on both sides; typing, the arrow keys and dragging sideways change it too. A saved value that
 * is no strength is shown as it is, until another takes its place.
 * @param {string} label
 * @param {unknown} value
 * @param {(value: number, done: boolean) => void} onChange `done` is false while the user still drags
 */
export function strengthField(label, value, onChange) {
    const input = /** @type {HTMLInputElement} */ (
        element("input", { type: "text", inputmode: "decimal", "aria-label": label, title: text("{label}: type, or drag sideways", { label }) })
    );
    let good = isStrength(value);
    let current = good ? Number(value) : 1;
    const show = () => {
        input.value = good ? formatStrength(current) : String(value);
        input.setAttribute("aria-invalid", String(!good));
        markTyped(input, false);
    };
    const set = (/** @type {number} */ next, done = true) => {
        const changed = clampStrength(next) !== current || !good;
        good = true;
        current = clampStrength(next);
        show();
        if (changed || done) onChange(current, done);
    };
    const button = (/** @type {string} */ path, /** @type {string} */ what, /** @type {number} */ step) =>
        element("button", { type: "button", tabindex: -1, "aria-label": what, onclick: () => set(current + step) }, icon(path));

    input.addEventListener("focus", () => input.select());
    input.addEventListener("input", () => markTyped(input));
    input.addEventListener("blur", () => markTyped(input, false)); // a text that is what it was is no change
    input.addEventListener("change", () => {
        const typed = parseStrength(input.value);
        if (typed === null) show();
        else set(typed);
    });
    input.addEventListener("keydown", (event) => {
        if (event.key === "Enter") input.blur();
        if (event.key === "Escape") { show(); input.blur(); }
        if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
        event.preventDefault();
        const step = event.shiftKey ? FINE_STEP : STEP;
        set((parseStrength(input.value) ?? current) + (event.key === "ArrowUp" ? step : -step));
    });
    dragSideways(input, () => current, set);
    show();
    const root = element("div", { class: "loracore-number" },
        button(ICONS.minus, text("Lower {label}", { label }), -STEP), input,
        button(ICONS.plus, text("Raise {label}", { label }), STEP));
    return { root, show: (/** @type {number} */ next) => { current = next; good = true; show(); } };
}

/**
 * Changes a number while the pointer moves sideways with its button down; a press without a move focuses the field.
 * @param {HTMLInputElement} input
 * @param {() => number} get
 * @param {(value: number, done?: boolean) => void} set
 */
function dragSideways(input, get, set) {
    input.addEventListener("pointerdown", (down) => {
        if (down.button !== 0 || document.activeElement === input) return;
        down.preventDefault();
        const from = get();
        let dragged = false;
        const move = (/** @type {PointerEvent} */ event) => {
            const steps = Math.trunc((event.clientX - down.clientX) / DRAG_PIXELS);
            dragged ||= steps !== 0;
            if (dragged) set(from + steps * FINE_STEP, false);
        };
        const end = () => {
            input.removeEventListener("pointermove", move);
            input.removeEventListener("pointerup", end);
            input.removeEventListener("pointercancel", end);
            if (dragged) set(get());
            else input.focus();
        };
        input.setPointerCapture(down.pointerId);
        input.addEventListener("pointermove", move);
        input.addEventListener("pointerup", end);
        input.addEventListener("pointercancel", end);
    });
}
