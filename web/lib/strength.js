// @ts-check
/** Strengths as users type and read them. */

export const LOW = -100;
export const HIGH = 100;
const PER_UNIT = 100; // the step is 0.01

/** Returns the nearest strength that the host allows. */
export function clampStrength(/** @type {number} */ value) {
    const rounded = Math.round(Math.max(LOW, Math.min(HIGH, value)) * PER_UNIT) / PER_UNIT;
    return rounded + 0; // -0 would be saved as 0 and then differ
}

/** Returns the strength that `text` means, or null; a comma is as good as a point. */
export function parseStrength(/** @type {string} */ text) {
    const plain = text.trim().replace(",", ".").replace("\u2212", "-");
    const value = plain === "" ? Number.NaN : Number(plain);
    return Number.isFinite(value) ? clampStrength(value) : null;
}

export function formatStrength(/** @type {number} */ value) {
    return Number(value).toFixed(2);
}
