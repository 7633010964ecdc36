// @ts-check
/**
 * Follows the wires of a graph, seen through reroutes, bypassed nodes and the ends of subgraphs. Links are asked of the
 * nodes, because `input.link` and `output.links` are deprecated in the page's newer versions.
 */

/**
 * @typedef {import("../types").GraphNode} GraphNode
 * @typedef {import("../types").Graph} Graph
 * @typedef {{node: GraphNode, slot: number, path: GraphNode[]}} Place `path`: the subgraph nodes entered on the way
 */

const MUTED = 2;
const BYPASSED = 4;
const SUBGRAPH_INPUT = -10; // the id of a subgraph's own inputs

/**
 * Returns the node that the server knows by an id such as "3", or "8:1" for node 1 inside subgraph node 8.
 * @param {Graph | null | undefined} root
 * @param {string} id
 * @returns {GraphNode | null}
 */
export function nodeAt(root, id) {
    const [first, ...rest] = id.split(":");
    const node = root?.getNodeById(/^\d+$/.test(first) ? Number(first) : first) ?? null;
    return rest.length && node ? nodeAt(node.subgraph, rest.join(":")) : node;
}

/**
 * Returns the outputs that an input is fed from; several only inside a subgraph that is used several times.
 * @param {GraphNode} node
 * @param {number} slot
 * @param {GraphNode[]} path
 * @returns {Place[]}
 */
export function sources(node, slot, path) {
    const link = linkInto(node, slot);
    if (!link || !node.graph) return [];
    if (link.origin_id === SUBGRAPH_INPUT) {
        return outside(node.graph, path).flatMap((end) => sources(end.node, link.origin_slot, end.path));
    }
    return origins(node.graph.getNodeById(link.origin_id), link.origin_slot, path);
}

/**
 * @param {GraphNode | null | undefined} node
 * @param {number} slot of its outputs
 * @param {GraphNode[]} path
 * @returns {Place[]}
 */
function origins(node, slot, path) {
    if (!node || node.mode === MUTED) return [];
    if (node.type === "Reroute") return sources(node, 0, path);
    if (node.mode === BYPASSED) return passed(node, slot).flatMap((input) => sources(node, input, path));
    if (!node.isSubgraphNode?.()) return [{ node, slot, path }];
    const inner = node.subgraph?.outputNode?.slots?.[slot]?.getLinks?.()[0];
    if (!inner) return [];
    if (inner.origin_id === SUBGRAPH_INPUT) return sources(node, inner.origin_slot, path);
    return origins(node.subgraph?.getNodeById(inner.origin_id), inner.origin_slot, [...path, node]);
}

/**
 * Returns the inputs that an output feeds.
 * @param {GraphNode} node
 * @param {number} slot of its outputs
 * @param {GraphNode[]} path
 * @returns {Place[]}
 */
export function targets(node, slot, path) {
    if (!node.graph) return [];
    const inside = linkedTo(node.graph, node.id, slot).flatMap((place) => entered({ ...place, path }));
    const ends = slotsOf(node.graph.outputNode?.slots, (end) =>
        Boolean(end.getLinks?.().some((link) => link.origin_id === node.id && link.origin_slot === slot)));
    const beyond = ends.length ? outside(node.graph, path) : [];
    return [...inside, ...beyond.flatMap((end) => ends.flatMap((at) => targets(end.node, at, end.path)))];
}

/**
 * Returns where a link to this input ends in the end.
 * @param {Place} place
 * @returns {Place[]}
 */
function entered({ node, slot, path }) {
    if (node.mode === MUTED) return [];
    if (node.type === "Reroute") return targets(node, 0, path);
    if (node.mode === BYPASSED) {
        const outputs = slotsOf(node.outputs, (output) => output.type === node.inputs[slot].type);
        return outputs.slice(0, 1).flatMap((output) => targets(node, output, path));
    }
    if (!node.isSubgraphNode?.() || !node.subgraph) return [{ node, slot, path }];
    const inner = [...path, node];
    return linkedTo(node.subgraph, SUBGRAPH_INPUT, slot).flatMap((place) => entered({ ...place, path: inner }));
}

/**
 * Returns the link to an input. Of a subgraph's node the page's own method tells what comes to an output of it, inside.
 * @param {GraphNode} node
 * @param {number} slot
 * @returns {import("../types").GraphLink | null | undefined}
 */
export function linkInto(node, slot) {
    if (!node.isSubgraphNode?.()) return node.getInputLink(slot);
    const links = [...(node.graph?.links?.values() ?? [])];
    return links.find((link) => String(link.target_id) === String(node.id) && link.target_slot === slot);
}

/**
 * Returns the inputs of a graph's nodes that are linked to one output.
 * @param {Graph} graph
 * @param {string | number} id
 * @param {number} slot
 */
function linkedTo(graph, id, slot) {
    return graph.nodes.flatMap((node) => slotsOf(node.inputs, (_, input) => {
        const link = linkInto(node, input);
        return link?.origin_id === id && link.origin_slot === slot;
    }).map((input) => ({ node, slot: input })));
}

/**
 * Returns the subgraph nodes that a graph may be seen as: the last one entered, or all that hold it.
 * @param {Graph} graph
 * @param {GraphNode[]} path
 * @returns {{node: GraphNode, path: GraphNode[]}[]}
 */
function outside(graph, path) {
    if (path.length) return [{ node: path[path.length - 1], path: path.slice(0, -1) }];
    const root = graph.rootGraph;
    const graphs = root ? [root, ...(root.subgraphs?.values() ?? [])] : [];
    const nodes = graphs.flatMap((one) => one.nodes).filter((node) => node.subgraph === graph);
    return nodes.map((node) => ({ node, path: [] }));
}

/** Returns the input that a bypassed node gives on at an output, as the host chooses: the same slot, or the first. */
function passed(/** @type {GraphNode} */ node, /** @type {number} */ slot) {
    const inputs = slotsOf(node.inputs, (input) => input.type === node.outputs[slot]?.type);
    return inputs.includes(slot) ? [slot] : inputs.slice(0, 1);
}

/**
 * Returns what a widget will hold in the prompt; undefined where that is not known before the run.
 * @param {GraphNode} node
 * @param {string} name
 * @param {GraphNode[]} path
 * @returns {unknown}
 */
export function widgetValue(node, name, path) {
    const own = node.widgets?.find((widget) => widget.name === name)?.value;
    const slot = (node.inputs ?? []).findIndex((input) => input.widget?.name === name);
    const link = slot < 0 ? null : linkInto(node, slot);
    if (!link || !node.graph) return own;
    if (link.origin_id !== SUBGRAPH_INPUT) {
        const origin = node.graph.getNodeById(link.origin_id);
        return origin?.type === "PrimitiveNode" ? origin.widgets?.[0]?.value : undefined;
    }
    const values = outside(node.graph, path).map((end) => {
        const input = end.node.inputs[link.origin_slot];
        return input && (input.widget ? widgetValue(end.node, input.widget.name, end.path) ?? own : undefined);
    });
    return values.every((value) => value === values[0]) ? values[0] : undefined;
}

/**
 * @template T
 * @param {T[] | null | undefined} slots
 * @param {(slot: T, index: number) => boolean} fits
 */
export function slotsOf(slots, fits) {
    return (slots ?? []).flatMap((slot, index) => (fits(slot, index) ? [index] : []));
}
