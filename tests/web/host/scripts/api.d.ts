/** What web/ uses of ComfyUI's /scripts/api.js. Everything else of it is there too, without a type. */

interface Api extends EventTarget {
    /** Like fetch, for a route of the server; begins with a slash. */
    fetchApi(route: string, options?: RequestInit): Promise<Response>;
    apiURL(route: string): string;
    addEventListener(type: string, listener: (event: any) => void, options?: AddEventListenerOptions | boolean): void;
    [name: string]: any;
}

export const api: Api;
