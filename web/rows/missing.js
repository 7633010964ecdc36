// @ts-check
/**
 * Rows whose file is missing, for ComfyUI's own list of missing models. That list knows combo boxes only whose value
 * is not among their choices, so the node gets one for each such row: never shown, never saved, not in a prompt.
 */

const PREFIX = "LoRA "; // the list of missing models shows the name of the combo box

/** @typedef {{row: import("../lib/rows.js").Row, number: number, name: string}} Missing one file that is not there */

/**
 * Gives the node a combo box for each file in `missing`, and takes away those of files that are there again.
 * @param {any} node
 * @param {Missing[]} missing
 * @param {string[]} names
 * @param {(item: Missing, name: string) => void} onChoose called when the user takes another file in ComfyUI's list
 */
export function listMissing(node, missing, names, onChoose) {
    const wanted = new Map(missing.map((item) => [titleOf(item), item]));
    for (const widget of [...node.widgets].filter((item) => item.loraCoreMissing)) {
        const item = wanted.get(widget.name);
        if (item?.name === widget.value) {
            widget.options.values = names;
            wanted.delete(widget.name);
            continue;
        }
        node.widgets.splice(node.widgets.indexOf(widget), 1);
        // ComfyUI takes a model off its list when the user changes its combo box
        node.onWidgetChanged?.(widget.name, item?.name ?? "", widget.value, widget);
    }
    for (const [title, item] of wanted) add(node, title, item, names, onChoose);
}

/**
 * @param {any} node
 * @param {string} title
 * @param {Missing} item
 * @param {string[]} names
 * @param {(item: Missing, name: string) => void} onChoose
 */
function add(node, title, item, names, onChoose) {
    const choose = (/** @type {unknown} */ name) => typeof name === "string" && name !== item.name && onChoose(item, name);
    const size = [...node.size];
    const options = { values: names, hidden: true, serialize: false, canvasOnly: true, hideInPanel: true };
    const widget = node.addWidget("combo", title, item.name, choose, options);
    widget.hidden = true;
    widget.serialize = false;
    widget.loraCoreMissing = true;
    node.setSize(size); // the node made room for it
}

function titleOf(/** @type {Missing} */ { number, row, name }) {
    return PREFIX + number + (name === row.low ? " low" : "");
}
