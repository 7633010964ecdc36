// @ts-check
/** What must not be replaced while the user is at it: a press that is not yet a click, a drag, a number half typed. */

const TYPED = "typed"; // data attribute of a field whose text is not taken yet

/** Marks a field as typed in, or as taken. */
export function markTyped(/** @type {HTMLInputElement} */ input, typed = true) {
    if (typed) input.dataset[TYPED] = "";
    else delete input.dataset[TYPED];
}

export class Hands {
    constructor(/** @type {HTMLElement} */ root) {
        this.root = root;
        this.pressed = false;
        /** @type {(() => void) | null} */
        this.waiting = null;
        root.addEventListener("pointerdown", () => this.press(), true);
        root.addEventListener("focusout", () => setTimeout(() => this.flush()));
    }

    get busy() {
        return this.pressed || this.root.querySelector(`[data-${TYPED}]`) !== null;
    }

    press() {
        this.pressed = true;
        const ended = new AbortController();
        const end = () => {
            ended.abort();
            // the click comes after the release, and must find the control that was pressed
            setTimeout(() => { this.pressed = false; this.flush(); });
        };
        for (const event of ["pointerup", "pointercancel"]) window.addEventListener(event, end, { signal: ended.signal, capture: true });
    }

    /** Does this now, or as soon as the user's hands are off; of several that wait, the last is done. */
    whenOff(/** @type {() => void} */ task) {
        this.waiting = task;
        this.flush();
    }

    flush() {
        const task = this.waiting;
        if (!task || this.busy) return;
        this.waiting = null;
        task();
    }
}
