// @ts-check
/** The time left of a task that tells how much of it is done. */

import { text } from "./i18n.js";

const LEAST_SECONDS = 1; // before that nobody knows the rate
const KEPT = 20; // steps that the rate is taken from, so that it follows a disk that slows down

/** Takes steps as they come and tells the seconds left, null while that is not known. */
export class TimeLeft {
    constructor() {
        /** @type {{at: number, share: number}[]} */
        this.steps = [];
    }

    /**
     * @param {number} share done, 0 to 1
     * @param {number} at in seconds of any clock
     * @returns {number | null}
     */
    step(share, at) {
        if (this.steps.length && share < this.steps[this.steps.length - 1].share) this.steps = []; // begun anew
        this.steps.push({ at, share });
        if (this.steps.length > KEPT) this.steps.splice(1, 1); // the first stays, the others move on
        const [first] = this.steps;
        const recent = this.steps[Math.max(0, this.steps.length - KEPT / 2)];
        const from = at - recent.at >= LEAST_SECONDS ? recent : first;
        const seconds = at - from.at;
        if (seconds < LEAST_SECONDS || share <= from.share) return null;
        return ((1 - share) * seconds) / (share - from.share);
    }
}

/** Returns a span of time as people say it. */
export function spanText(/** @type {number} */ seconds) {
    const whole = Math.max(1, Math.round(seconds));
    if (whole < 60) return text("{n} s left", { n: whole });
    if (whole < 3600) return text("{n} min left", { n: Math.round(whole / 60) });
    return text("{h} h {m} min left", { h: Math.floor(whole / 3600), m: Math.round((whole % 3600) / 60) });
}
