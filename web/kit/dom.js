// @ts-check
/** Small helpers to build DOM; text is always set as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes] a function is a listener, as in `onclick`; false and null are left out
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") made.addEventListener(name.slice(2), value);
        else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : String(value));
    }
    made.append(...children);
    return made;
}

/**
 * @param {string} tag of SVG
 * @param {Record<string, string | number>} attributes
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes, ...children) {
    const made = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    made.append(...children);
    return made;
}

/**
 * @param {string} path in a box of 16 by 16
 * @returns {SVGElement}
 */
export function icon(path) {
    return svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: path }));
}

export const ICONS = {
    plus: "M8 3v10M3 8h10",
    cross: "M4 4l8 8M12 4l-8 8",
    grip: "M6 4v.01M10 4v.01M6 8v.01M10 8v.01M6 12v.01M10 12v.01",
    down: "M5 6.5l3 3 3-3",
    right: "M6.5 5l3 3-3 3",
    more: "M8 3.5v.01M8 8v.01M8 12.5v.01",
    minus: "M4 8h8",
    link: "M6.5 9.5l3-3M5.5 7.5l-1.8 1.8a2.1 2.1 0 0 0 3 3l1.8-1.8M10.5 8.5l1.8-1.8a2.1 2.1 0 0 0-3-3L7.5 5.5",
    search: "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9M10.4 10.4L14 14",
    copy: "M6 6h7.5v7.5H6zM10 6V2.5H2.5V10H6",
    warning: "M8 2.5L14.5 13.5h-13zM8 6.5v3.2M8 11.6v.01",
};
