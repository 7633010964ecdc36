// @ts-check
/** A list of lines of one height, of which only those in sight are in the page. */

import { element } from "./dom.js";

const BEYOND = 6; // lines above and below those in sight, so that Tab finds the next one

export class VirtualList {
    /**
     * @param {HTMLElement} root what scrolls
     * @param {number} height of a line, in pixels
     * @param {(index: number) => HTMLElement} make
     */
    constructor(root, height, make) {
        this.root = root;
        this.height = height;
        this.make = make;
        this.count = 0;
        this.view = 0; // height of what is in sight, where it is known before the page has laid it out
        this.frozen = false;
        this.inner = element("div", { role: "none", class: "loracore-lines" });
        /** @type {Map<number, HTMLElement>} */
        this.shown = new Map();
        root.append(this.inner);
        root.addEventListener("scroll", () => this.draw());
    }

    /** Shows another list, or the same with other content; the place where it was scrolled to stays. */
    fill(/** @type {number} */ count, view = 0) {
        this.count = count;
        this.view = view;
        this.shown.clear();
        this.inner.replaceChildren();
        this.inner.style.height = `${count * this.height}px`;
        this.draw();
    }

    draw() {
        if (this.frozen) return;
        const view = this.view || this.root.clientHeight;
        const top = Math.max(0, Math.min(this.root.scrollTop, this.count * this.height - view));
        const first = Math.max(0, Math.floor(top / this.height) - BEYOND);
        const last = Math.min(this.count, Math.ceil((top + view) / this.height) + BEYOND);
        for (const [index, line] of this.shown) if (index < first || index >= last) this.drop(index, line);
        /** @type {HTMLElement | null} */
        let before = null;
        for (let index = last - 1; index >= first; index--) {
            const line = this.shown.get(index) ?? this.make(index);
            if (!this.shown.has(index)) this.inner.insertBefore(line, before);
            this.shown.set(index, line);
            before = line;
        }
        this.inner.style.paddingTop = `${first * this.height}px`;
    }

    /** @param {number} index @param {HTMLElement} line */
    drop(index, line) {
        // or the keyboard would go to the page's own shortcuts, Delete among them
        if (line.contains(document.activeElement)) this.root.focus({ preventScroll: true });
        line.remove();
        this.shown.delete(index);
    }

    /** Brings a line into sight, and returns it. */
    reveal(/** @type {number} */ index) {
        const view = this.view || this.root.clientHeight;
        const top = index * this.height;
        if (top < this.root.scrollTop) this.root.scrollTop = top;
        else if (top + this.height > this.root.scrollTop + view) this.root.scrollTop = top + this.height - view;
        this.draw();
        return this.shown.get(index) ?? null;
    }
}
