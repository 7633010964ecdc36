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
    target_id?: string | number;
    target_slot?: number;
    type?: unknown;
}

export interface Graph {
    nodes: GraphNode[];
    links?: { values(): Iterable<GraphLink> };
    rootGraph?: Graph;
    subgraphs?: Map<string, Graph>; // of the root graph
    outputNode?: { slots: { getLinks?(): GraphLink[] }[] }; // of a subgraph
    getNodeById(id: string | number): GraphNode | null | undefined;
}

/** What our widgets need of ComfyUI's page; web/host.js has it. */
export interface Page {
    /** Whether the user has something of LoRA Core switched on. */
    isOn(name: import("./settings.js").SettingName): boolean;
    /** Makes one undo step of what changed since the last. */
    captureUndo(): void;
    /** Makes a change that is no undo step of its own. */
    quietly(edit: () => void): void;
    /** Whether the LiteGraph renderer shows the nodes; the other is Nodes 2.0. */
    onCanvas(): boolean;
    /** Zooms the canvas. */
    zoom(event: WheelEvent): void;
    /** The address of one of our routes, for a picture. */
    urlOf(route: string): string;
    /** Asks one of our routes: its answer, or null where this server does not have it or refuses. */
    get(route: string, signal?: AbortSignal): Promise<any>;
    post(route: string, body: any, signal?: AbortSignal): Promise<any>;
    /** Reads the lists of models that nodes offer again, as the user does with the key R. */
    refreshLists(): void;
    /** Calls after each change of the workflow that the page noticed, until the signal is aborted. */
    onGraphChange(listener: () => void, signal: AbortSignal): void;
    /** Calls with the id and the output of each node that has run. */
    onExecuted(listener: (id: string, output: any) => void, signal: AbortSignal): void;
}

declare global {
    /** Set by ComfyUI's page; undefined before it has loaded. */
    var LiteGraph: any;
}
