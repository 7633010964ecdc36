// @ts-check
/** What the server knows of a LoRA file, asked when it is needed and kept until the lists are refreshed. */

/**
 * @typedef {object} Info
 * @property {string} name
 * @property {number} size
 * @property {string} hash
 * @property {string[]} arches
 * @property {string[]} kinds
 * @property {[number, number] | null} rank
 * @property {string} summary
 * @property {string} [error]
 * @property {{role: "high" | "low" | null, partner: string}} [pair]
 * @property {{groups: import("../lib/blocks.js").Group[], presets: Record<string, string>}} [blocks]
 * @property {[string, string][]} [metadata]
 * @property {{word: string, source?: string, count?: number | null}[]} [words]
 * @property {{tag: string, count: number}[]} [tags]
 * @property {string} [title]
 * @property {string} [base]
 * @property {string} [trainer]
 * @property {string} [author]
 * @property {string} [license]
 * @property {string} [description]
 * @property {string} [dialect]
 * @property {number} [modules]
 * @property {boolean} [has_preview]
 */

export class FileInfo {
    constructor(/** @type {import("./view.js").RowsView} */ editor) {
        this.editor = editor;
        /** @type {Map<string, Info>} */
        this.known = new Map();
        /** @type {Map<string, Promise<any>>} */
        this.asked = new Map();
    }

    forget() {
        this.known.clear();
        this.asked.clear();
    }

    /**
     * Returns what is known of a file, or null where the server does not tell.
     * @param {string} name
     * @param {boolean} [hash] whether its content is read for the hash, which takes time once
     * @returns {Promise<Info | null>}
     */
    async of(name, hash = false) {
        const route = `/lora-core/info?name=${encodeURIComponent(name)}${hash ? "&hash=1" : ""}`;
        if (!this.asked.has(route)) this.asked.set(route, this.editor.page.get(route));
        const info = await this.asked.get(route);
        if (info && !info.error) this.known.set(name, info);
        return info;
    }

    /**
     * Notes hash and size of a newly chosen file in its rows. It is no step of its own in the undo history: the
     * user did nothing.
     */
    async noteHash(/** @type {string} */ name) {
        const info = await this.of(name, true);
        if (!info?.hash) return;
        const { rows } = this.editor.value;
        this.editor.page.quietly(() => {
            for (const row of rows ?? []) {
                if (row.name === name && !row.hash) Object.assign(row, { hash: info.hash, size: info.size });
                if (row.low === name && !row.low_hash) Object.assign(row, { low_hash: info.hash, low_size: info.size });
            }
        });
        this.editor.refresh(); // a partner may have come to light
    }

    /** The pair that a file belongs to, as far as it is known. */
    pairOf(/** @type {string} */ name) {
        const pair = this.known.get(name)?.pair;
        if (!pair?.partner || !pair.role) return null;
        return pair.role === "high" ? { high: name, low: pair.partner } : { high: pair.partner, low: name };
    }
}
