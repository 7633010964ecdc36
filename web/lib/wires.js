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

const MOST_STEPS = 100_000; // along wires: of a graph that is one circle, or larger than any

/** What one question looks up of graphs, each of them read once: they may have changed when the next one is asked. */
export class Links {
    constructor() {
        /** @type {Map<Graph, Map<string, import("../types").GraphLink>>} */
        this.byTarget = new Map();
        /** @type {Map<Graph, Map<string, {node: GraphNode, slot: number}[]>>} */
        this.byOrigin = new Map();
        /** @type {Map<Graph, Map<unknown, GraphNode[]>>} the nodes that stand for a subgraph */
        this.hosts = new Map();
    }

    /**
     * Returns the link to an input. Of a subgraph's node the page's own method tells what comes to an output of it,
     * inside.
     * @param {GraphNode} node
     * @param {number} slot
     * @returns {import("../types").GraphLink | null | undefined}
     */
    into(node, slot) {
        if (!node.isSubgraphNode?.()) return node.getInputLink(slot);
        const { graph } = node;
        if (!graph) return null;
        const links = read(this.byTarget, graph, () => linksByTarget(graph));
        return links.get(`${node.id} ${slot}`);
    }

    /**
     * Returns the inputs of a graph's nodes that are linked to one output.
     * @param {Graph} graph
     * @param {string | number} id
     * @param {number} slot
     */
    from(graph, id, slot) {
        const inputs = read(this.byOrigin, graph, () => {
            /** @type {Map<string, {node: GraphNode, slot: number}[]>} */
            const found = new Map();
            for (const node of graph.nodes) {
                (node.inputs ?? []).forEach((_, input) => {
                    const link = this.into(node, input);
                    if (link) listed(found, `${typeof link.origin_id} ${link.origin_id} ${link.origin_slot}`).push({ node, slot: input });
                });
            }
            return found;
        });
        return inputs.get(`${typeof id} ${id} ${slot}`) ?? [];
    }

    /**
     * Returns the subgraph nodes that a graph may be seen as: the last one entered, or all that hold it.
     * @param {Graph} graph
     * @param {GraphNode[]} path
     * @returns {{node: GraphNode, path: GraphNode[]}[]}
     */
    outside(graph, path) {
        if (path.length) return [{ node: path[path.length - 1], path: path.slice(0, -1) }];
        const root = graph.rootGraph;
        if (!root) return [];
        const hosts = read(this.hosts, root, () => {
            /** @type {Map<unknown, GraphNode[]>} */
            const found = new Map();
            for (const one of [root, ...(root.subgraphs?.values() ?? [])]) {
                for (const node of one.nodes) if (node.subgraph) listed(found, node.subgraph).push(node);
            }
            return found;
        });
        return (hosts.get(graph) ?? []).map((node) => ({ node, path: [] }));
    }
}

/** @returns {Map<string, import("../types").GraphLink>} */
function linksByTarget(/** @type {Graph} */ graph) {
    const found = new Map();
    for (const link of graph.links?.values() ?? []) read(found, `${link.target_id} ${link.target_slot}`, () => link);
    return found;
}

/**
 * @template K, V
 * @param {Map<K, V>} known
 * @param {K} key
 * @param {() => V} make
 * @returns {V}
 */
function read(known, key, make) {
    const found = known.get(key) ?? make();
    known.set(key, found);
    return found;
}

/**
 * @template K, V
 * @param {Map<K, V[]>} groups
 * @param {K} key
 * @returns {V[]}
 */
function listed(groups, key) {
    return read(groups, key, () => []);
}

/**
 * Returns what everything that `next` leads to comes to, in order, without recursion: chains are as long as graphs are.
 * @template T, R
 * @param {T[]} start
 * @param {(item: T, found: R[]) => T[]} next
 * @returns {R[]}
 */
export function followed(start, next) {
    /** @type {R[]} */
    const found = [];
    const waiting = [...start].reverse();
    for (let step = 0; waiting.length && step < MOST_STEPS; step += 1) {
        const more = next(/** @type {T} */ (waiting.pop()), found);
        for (let at = more.length - 1; at >= 0; at -= 1) waiting.push(more[at]);
    }
    return found;
}

/**
 * Returns the node that the server knows by an id such as "3", or "8:1" for node 1 inside subgraph node 8.
 * @param {Graph | null | undefined} root
 * @param {string} id
 * @returns {GraphNode | null}
 */
export function nodeAt(root, id) {
    /** @type {GraphNode | null} */
    let node = null;
    let graph = root;
    for (const part of id.split(":")) {
        node = graph?.getNodeById(/^\d+$/.test(part) ? Number(part) : part) ?? null;
        graph = node?.subgraph;
    }
    return node;
}

/** @typedef {Place & {isOutput: boolean}} Step an input or an output on the way */

/**
 * Returns the outputs that an input is fed from; several only inside a subgraph that is used several times.
 * @param {GraphNode} node
 * @param {number} slot
 * @param {GraphNode[]} path
 * @param {Links} links
 * @returns {Place[]}
 */
export function sources(node, slot, path, links = new Links()) {
    return followed([input(node, slot, path)], (step, found) => (step.isOutput ? origins(step, found) : feeding(step, links)));
}

const input = (/** @type {GraphNode} */ node, /** @type {number} */ slot, /** @type {GraphNode[]} */ path) => ({ node, slot, path, isOutput: false });
const output = (/** @type {GraphNode | null | undefined} */ node, /** @type {number} */ slot, /** @type {GraphNode[]} */ path) =>
    (node ? [{ node, slot, path, isOutput: true }] : []);

/** @param {Step} step @param {Links} links @returns {Step[]} */
function feeding({ node, slot, path }, links) {
    const link = links.into(node, slot);
    if (!link || !node.graph) return [];
    if (link.origin_id === SUBGRAPH_INPUT) {
        return links.outside(node.graph, path).map((end) => input(end.node, link.origin_slot, end.path));
    }
    return output(node.graph.getNodeById(link.origin_id), link.origin_slot, path);
}

/** @param {Step} step @param {Place[]} found @returns {Step[]} */
function origins({ node, slot, path }, found) {
    if (node.mode === MUTED) return [];
    if (node.type === "Reroute") return [input(node, 0, path)];
    if (node.mode === BYPASSED) return passed(node, slot).map((at) => input(node, at, path));
    if (!node.isSubgraphNode?.()) {
        found.push({ node, slot, path });
        return [];
    }
    const inner = node.subgraph?.outputNode?.slots?.[slot]?.getLinks?.()[0];
    if (!inner) return [];
    if (inner.origin_id === SUBGRAPH_INPUT) return [input(node, inner.origin_slot, path)];
    return output(node.subgraph?.getNodeById(inner.origin_id), inner.origin_slot, [...path, node]);
}

/**
 * Returns the inputs that an output feeds.
 * @param {GraphNode} node
 * @param {number} slot of its outputs
 * @param {GraphNode[]} path
 * @param {Links} links
 * @returns {Place[]}
 */
export function targets(node, slot, path, links = new Links()) {
    return followed(output(node, slot, path), (step, found) => (step.isOutput ? fed(step, links) : entered(step, found, links)));
}

/** @param {Step} step @param {Links} links @returns {Step[]} */
function fed({ node, slot, path }, links) {
    if (!node.graph) return [];
    const inside = links.from(node.graph, node.id, slot).map((place) => input(place.node, place.slot, path));
    const ends = slotsOf(node.graph.outputNode?.slots, (end) =>
        Boolean(end.getLinks?.().some((link) => link.origin_id === node.id && link.origin_slot === slot)));
    const beyond = ends.length ? links.outside(node.graph, path) : [];
    return [...inside, ...beyond.flatMap((end) => ends.flatMap((at) => output(end.node, at, end.path)))];
}

/**
 * Returns where a link to an input leads on.
 * @param {Step} step
 * @param {Place[]} found
 * @param {Links} links
 * @returns {Step[]}
 */
function entered({ node, slot, path }, found, links) {
    if (node.mode === MUTED) return [];
    if (node.type === "Reroute") return output(node, 0, path);
    if (node.mode === BYPASSED) {
        const outputs = slotsOf(node.outputs, (one) => one.type === node.inputs[slot].type);
        return outputs.slice(0, 1).flatMap((at) => output(node, at, path));
    }
    if (!node.isSubgraphNode?.() || !node.subgraph) {
        found.push({ node, slot, path });
        return [];
    }
    const inner = [...path, node];
    return links.from(node.subgraph, SUBGRAPH_INPUT, slot).map((place) => input(place.node, place.slot, inner));
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
 * @param {Links} links
 * @returns {unknown}
 */
export function widgetValue(node, name, path, links = new Links()) {
    const own = node.widgets?.find((widget) => widget.name === name)?.value;
    const slot = (node.inputs ?? []).findIndex((input) => input.widget?.name === name);
    const link = slot < 0 ? null : links.into(node, slot);
    if (!link || !node.graph) return own;
    if (link.origin_id !== SUBGRAPH_INPUT) {
        const origin = node.graph.getNodeById(link.origin_id);
        return origin?.type === "PrimitiveNode" ? origin.widgets?.[0]?.value : undefined;
    }
    const values = links.outside(node.graph, path).map((end) => {
        const input = end.node.inputs[link.origin_slot];
        return input && (input.widget ? widgetValue(end.node, input.widget.name, end.path, links) ?? own : undefined);
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
