// @ts-check
/** The handle of a row: moves it by dragging, or with the arrow keys. */

import { element, icon, ICONS } from "../kit/dom.js";
import { text } from "../lib/i18n.js";

/**
 * @param {HTMLElement} row
 * @param {number} index of the row
 * @param {string} name for people
 * @param {import("../kit/virtual.js").VirtualList} list which keeps its lines while one is dragged
 * @param {(from: number, to: number, byKey: boolean) => void} onMove
 */
export function gripButton(row, index, name, list, onMove) {
    const grip = element("button", {
        class: "loracore-grip", type: "button", "data-control": "grip", "aria-label": text("Move {name}", { name }),
        title: text("Drag to move, or use the arrow keys"),
    }, icon(ICONS.grip));
    const siblings = () => [...(row.parentElement?.children ?? [])];
    const dragged = () => row.classList.contains("is-dragged");
    let first = 0; // index of the first line that is in the page
    const drop = () => {
        if (!dragged()) return;
        row.classList.remove("is-dragged");
        list.frozen = false;
        onMove(index, first + siblings().indexOf(row), false);
    };
    grip.addEventListener("keydown", (event) => {
        const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        onMove(index, index + step, true);
    });
    grip.addEventListener("pointerdown", (down) => {
        if (down.button !== 0) return;
        grip.setPointerCapture(down.pointerId);
        row.classList.add("is-dragged");
        list.frozen = true;
        first = Math.min(...list.shown.keys());
    });
    grip.addEventListener("pointermove", (event) => {
        if (!dragged()) return;
        const over = siblings().find((other) => {
            const box = other.getBoundingClientRect();
            return other !== row && event.clientY > box.top && event.clientY < box.bottom;
        });
        if (!over) return;
        // the other row moves, because a moved element loses the pointer
        if (row.compareDocumentPosition(over) & Node.DOCUMENT_POSITION_PRECEDING) row.after(over);
        else row.before(over);
    });
    grip.addEventListener("pointerup", drop);
    grip.addEventListener("pointercancel", drop);
    return grip;
}
