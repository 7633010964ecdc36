// @ts-check
/** `properties.models` of a node: the model files that its workflow needs, as ComfyUI's own nodes name them. */

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string} directory
 * @property {string} [url]
 * @property {string} [hash]
 * @property {string} [hash_type]
 */

/**
 * Returns the models of these rows, each once. What `known` says of a file, such as an address to download it from,
 * is kept.
 * @param {import("./rows.js").Row[]} rows
 * @param {unknown} known the present list
 * @returns {Model[]}
 */
export function modelsOf(rows, known) {
    const named = Array.isArray(known) ? known.filter((model) => typeof model?.name === "string") : [];
    const before = new Map(named.reverse().map((model) => [model.name, model])); // of two the first
    const names = rows.flatMap((row) => [row.name, row.low ?? ""]).filter(Boolean);
    return [...new Set(names)].map((name) => ({ ...before.get(name), name, directory: "loras" }));
}
