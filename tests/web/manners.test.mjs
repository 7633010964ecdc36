import assert from "node:assert/strict";
import { test } from "node:test";
import { COMMENT, sources } from "./texts.mjs";

/** What no source of the page may do, and why. */
const FORBIDDEN = {
    "patches a prototype": /\.prototype\b|__proto__|setPrototypeOf/,
    "draws on the canvas": /onDraw(Foreground|Background)|\baddCustomWidget\b|\.draw\s*=|getContext\(/,
    "makes markup of text": /innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser/,
    "runs text as code": /\beval\(|new Function\(|javascript:/,
    "reaches for the network by itself": /\bXMLHttpRequest\b|\bWebSocket\b|sendBeacon|EventSource|(?<![\w.])fetch\(|https?:\/\/(?!www\.w3\.org\/2000\/svg)/,
    "leaves something on the window": /\b(window|globalThis)\.\w+\s*=[^=]/,
    "reads what the newest front end deprecates": /\binputs?\b[^;\n]{0,30}\.link\b/,
    "imports what the host is about to remove": /from\s+"[^"]*(scripts\/(ui|widgets|domWidget|utils)|extensions\/core)/,
};
const HOST = /from\s+"[^"]*\/scripts\/(app|api)\.js"/;
const HOST_FILES = ["loracore.js", "host.js"];

function wrongs(source) {
    const code = source.replace(COMMENT, "");
    return Object.entries(FORBIDDEN).filter(([, pattern]) => pattern.test(code)).map(([what]) => what);
}

test("every rule finds what it forbids", () => {
    const bad = [
        "LGraphCanvas.prototype.x = 1", "node.onDrawForeground = f", "a.innerHTML = b", "eval(x)", "fetch('/x')", "window.x = 1",
        "node.inputs[0]?.link",
        'import { $el } from "../../scripts/ui.js"',
    ];
    assert.deepEqual(bad.flatMap(wrongs), Object.keys(FORBIDDEN));
    assert.deepEqual(wrongs('api.fetchApi("/lora-core/info"); if (globalThis.x === 1) a.textContent = b'), []);
});

for (const [name, source] of Object.entries(sources())) {
    test(`${name} keeps the rules of the page`, () => {
        assert.deepEqual(wrongs(source), []);
        if (!HOST_FILES.includes(name)) assert.doesNotMatch(source, HOST, "only the entry may import the host");
    });
}

test("ids that the host knows begin with our name", () => {
    const found = Object.entries(sources()).flatMap(([name, source]) => {
        const ids = [...source.matchAll(/registerExtension\(\{\s*name:\s*"([^"]+)"|\bid:\s*"([^"]+)"/g)];
        return ids.map((match) => [name, match[1] ?? match[2]]);
    });
    assert.ok(found.length > 0);
    for (const [name, id] of found) assert.match(id, /^(loracore[.\-]|LoraCore)/, name);
});
