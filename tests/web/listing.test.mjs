import assert from "node:assert/strict";
import { test } from "node:test";
import { linesOf, startsOpen } from "../../web/lib/listing.js";

const NAMES = ["one.safetensors", "styles/ink.safetensors", "styles/oil.safetensors", "styles/old/ink.safetensors"];

test("open folders show their files, closed ones how many they hold", () => {
    assert.deepEqual(linesOf(NAMES, " ", (folder) => folder === "styles/"), [
        { name: "one.safetensors" },
        { folder: "styles/", count: 2, open: true },
        { name: "styles/ink.safetensors" },
        { name: "styles/oil.safetensors" },
        { folder: "styles/old/", count: 1, open: false },
    ]);
});

test("a search shows files of closed folders too, and no folders", () => {
    assert.deepEqual(linesOf(NAMES, "ink", () => false), [
        { name: "styles/ink.safetensors" }, { name: "styles/old/ink.safetensors" },
    ]);
});

test("of many files, only the present one's folder starts open", () => {
    const many = Array.from({ length: 100 }, (_, at) => `f${at}/x.safetensors`);
    assert.ok(startsOpen("styles/", NAMES, ""));
    assert.ok(!startsOpen("f1/", many, "f12/x.safetensors"));
    assert.ok(startsOpen("f12/", many, "f12/x.safetensors"));
    assert.ok(!startsOpen("f12/", many, "f12/deeper/x.safetensors"));
});
