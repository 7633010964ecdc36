// @ts-check
/** How much of a change each rank keeps: the curve of all layers together, of an Extract or Resize report. */

/**
 * @typedef {{norm: number, energy: number, rank: number | null, curve?: [number, number][]}} Layer
 * @typedef {{rank: number, share: number}} Point
 */

/**
 * Returns the share of the whole squared change that each rank would keep, layers weighted by their squared norms.
 * A layer keeps at a rank what the next lower rank that its own curve tells keeps.
 * @param {Layer[]} layers
 * @returns {Point[]} by rank; none if no layer tells a curve
 */
export function energyCurve(layers) {
    const told = layers.filter((layer) => layer.curve?.length);
    const whole = told.reduce((sum, layer) => sum + layer.norm ** 2, 0);
    if (!whole) return [];
    const ranks = [...new Set(told.flatMap((layer) => (layer.curve ?? []).map(([rank]) => rank)))].sort((a, b) => a - b);
    return ranks.map((rank) => ({
        rank,
        share: Math.min(1, told.reduce((sum, layer) => sum + shareAt(layer, rank) * layer.norm ** 2, 0) / whole),
    }));
}

/** Returns the share of the squared change that the file keeps, and its lowest and highest rank; null without layers. */
export function kept(/** @type {Layer[]} */ layers) {
    const whole = layers.reduce((sum, layer) => sum + layer.norm ** 2, 0);
    const ranks = layers.flatMap((layer) => (layer.rank == null ? [] : [layer.rank]));
    if (!whole || !ranks.length) return null;
    const energy = layers.reduce((sum, layer) => sum + layer.energy * layer.norm ** 2, 0) / whole;
    return { energy, low: Math.min(...ranks), high: Math.max(...ranks) };
}

function shareAt(/** @type {Layer} */ layer, /** @type {number} */ rank) {
    let share = 0;
    for (const [at, value] of layer.curve ?? []) if (at <= rank) share = value;
    return share;
}
