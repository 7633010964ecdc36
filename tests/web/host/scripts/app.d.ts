/** What web/ uses of ComfyUI's /scripts/app.js. Everything else of it is there too, without a type. */

import type { Extension } from "../../../../web/types";

interface App {
    registerExtension(extension: Extension): void;
    graph: any;
    canvas: any;
    extensionManager: any;
    nodeOutputs: Record<string, any>;
    [name: string]: any;
}

export const app: App;
