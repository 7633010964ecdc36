// @ts-check
/** The small picture of a LoRA file, where there is one beside it. */

import { element } from "../kit/dom.js";

/** @type {Set<string>} names of files that have no picture; emptied when the lists are refreshed */
const without = new Set();

/** Forgets which files have no picture: the user may have put one there. */
export function forgetPictures() {
    without.clear();
}

/**
 * Returns the place of a picture, which fills when it is in sight and stays empty where there is none.
 * @param {string} name of a file that is there
 * @param {import("../types.js").Page} page
 * @param {{onload?: () => void, wait?: number}} [options] `wait` in milliseconds, for lines that scroll by
 */
export function thumb(name, page, { onload, wait = 0 } = {}) {
    const place = element("span", { class: "loracore-thumb", "aria-hidden": "true" });
    if (!name || without.has(name) || !page.isOn("previews")) return place;
    const fill = () => {
        if (wait && !place.isConnected) return;
        const picture = element("img", { alt: "", decoding: "async", draggable: "false", src: page.urlOf(`/lora-core/preview?name=${encodeURIComponent(name)}`) });
        picture.addEventListener("load", () => {
            place.classList.add("is-filled");
            onload?.();
        });
        picture.addEventListener("error", () => {
            without.add(name);
            picture.remove();
        });
        place.append(picture);
    };
    if (wait) setTimeout(fill, wait);
    else fill();
    return place;
}
