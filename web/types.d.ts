/** Shapes that several files of web/ share. Nothing of this is loaded by the page. */

/** What a node pack registers with ComfyUI; the host calls what it finds. */
export interface Extension {
    name: string;
    [hook: string]: any;
}

/** What web/lib uses of LiteGraph's nodes and graphs; the same members are there in all versions that we support. */
export interface GraphNode {
    id: string | number;
    type: string;
    comfyClass?: string;
    mode?: number; // 2: muted, 4: bypassed
    graph?: Graph | null;
    subgraph?: Graph; // of a subgraph node
    inputs: { name: string; type: unknown; widget?: { name: string } }[];
    outputs: { name: string; type: unknown }[];
    widgets?: { name: string; value: unknown }[];
    getInputLink(slot: number): GraphLink | null | undefined;
    isSubgraphNode?(): boolean;
}

export interface GraphLink {
    origin_id: string | number;
    origin_slot: number;
    type?: unknown;
}

export interface Graph {
    nodes: GraphNode[];
    rootGraph?: Graph;
    subgraphs?: Map<string, Graph>; // of the root graph
    outputNode?: { slots: { getLinks?(): GraphLink[] }[] }; // of a subgraph
    getNodeById(id: string | number): GraphNode | null | undefined;
}

declare global {
    /** Set by ComfyUI's page; undefined before it has loaded. */
    var LiteGraph: any;
}
