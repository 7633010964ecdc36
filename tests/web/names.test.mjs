import assert from "node:assert/strict";
import { test } from "node:test";
import { searchNames, splitName } from "../../web/lib/names.js";

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
