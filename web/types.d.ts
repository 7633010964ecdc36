/** Shapes that several files of web/ share. Nothing of this is loaded by the page. */

/** What a node pack registers with ComfyUI; the host calls what it finds. */
export interface Extension {
    name: string;
    [hook: string]: any;
}

declare global {
    /** Set by ComfyUI's page; undefined before it has loaded. */
    var LiteGraph: any;
}
