import assert from "node:assert/strict";
import { test } from "node:test";
import { findName, foldersOf, searchNames, splitName } from "../../web/lib/names.js";

test("a name splits into folder and stem", () => {
    assert.deepEqual(splitName("styles/old/ink v1.5.safetensors"), { folder: "styles/old/", stem: "ink v1.5" });
    assert.deepEqual(splitName("ink"), { folder: "", stem: "ink" });
    assert.deepEqual(splitName(".hidden"), { folder: "", stem: ".hidden" });
});

test("search finds all words in any order and case, own names first", () => {
    const names = ["ink/one.safetensors", "styles/ink.safetensors", "styles/oil.safetensors"];
    assert.deepEqual(searchNames(names, ""), names);
    assert.deepEqual(searchNames(names, "INK"), ["styles/ink.safetensors", "ink/one.safetensors"]);
    assert.deepEqual(searchNames(names, "oil sty"), ["styles/oil.safetensors"]);
    assert.deepEqual(searchNames(names, "x"), []);
});

test("a saved name finds its file after a move or a change of case, but never one of several", () => {
    const names = ["a/Ink.safetensors", "b/oil.safetensors", "c/oil.safetensors"];
    assert.equal(findName("a/Ink.safetensors", names), "a/Ink.safetensors");
    assert.equal(findName("A/ink.safetensors", names), "a/Ink.safetensors");
    assert.equal(findName("old/place/ink.safetensors", names), "a/Ink.safetensors");
    assert.equal(findName("oil.safetensors", names), null);
    assert.equal(findName("c/OIL.safetensors", names), "c/oil.safetensors");
    assert.equal(findName("gone.safetensors", names), null);
    assert.equal(findName("", names), null);
});

test("folders come by name, the loras folder itself first", () => {
    const names = ["b/x/two.safetensors", "one.safetensors", "B/a.safetensors", "a/c.safetensors", "b/x/three.safetensors"];
    assert.deepEqual(foldersOf(names), [
        { folder: "", names: ["one.safetensors"] },
        { folder: "a/", names: ["a/c.safetensors"] },
        { folder: "B/", names: ["B/a.safetensors"] },
        { folder: "b/x/", names: ["b/x/two.safetensors", "b/x/three.safetensors"] },
    ]);
});

test("searching and finding in 20,000 names stays far below a frame of patience", () => {
    const names = Array.from({ length: 20_000 }, (_, at) => `folder ${at % 100}/lora number ${at}.safetensors`);
    const start = performance.now();
    assert.equal(searchNames(names, "number 1999 folder").length, 12);
    for (let at = 0; at < 1000; at++) {
        assert.equal(findName(`elsewhere/LoRA number ${at * 7}.safetensors`, names), names[at * 7]);
        assert.equal(findName(`gone ${at}.safetensors`, names), null);
    }
    assert.ok(performance.now() - start < 3000);
});
