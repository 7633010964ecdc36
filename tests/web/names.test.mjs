import assert from "node:assert/strict";
import { test } from "node:test";
import { findName, searchNames, splitName } from "../../web/lib/names.js";

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
