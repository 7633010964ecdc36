import assert from "node:assert/strict";
import { test } from "node:test";
import { isNewer, moved, newRow, parseRows } from "../../web/lib/rows.js";

const ROW = { on: false, name: "styles/ink.safetensors", strength: 0.8, strength_clip: 0.5, blocks: "", hash: "ab", size: 3 };

test("an object, its JSON text and a bare list give the same rows", () => {
    const value = { v: 1, rows: [ROW] };
    assert.deepEqual(parseRows(value), value);
    assert.deepEqual(parseRows(JSON.stringify(value)), value);
    assert.deepEqual(parseRows([ROW]), value);
});

test("nothing gives no rows", () => {
    for (const nothing of [null, undefined, "", "not json", 3, {}, { v: 1 }]) {
        assert.deepEqual(parseRows(nothing), { v: 1, rows: [] });
    }
});

test("unknown fields are kept, of the object and of its rows", () => {
    const value = { v: 1, note: "mine", rows: [{ ...ROW, weight_of: { a: [1] } }] };
    assert.deepEqual(parseRows(value), value);
});

test("missing fields get their defaults, and backslashes turn", () => {
    const [row] = parseRows({ v: 1, rows: [{ name: "styles\\ink.safetensors" }] }).rows;
    assert.deepEqual(row, newRow("styles/ink.safetensors"));
});

test("the result shares nothing with the value", () => {
    const value = { v: 1, rows: [{ ...ROW, extra: { a: 1 } }] };
    const parsed = parseRows(value);
    parsed.rows[0].extra.a = 2;
    assert.equal(value.rows[0].extra.a, 1);
});

test("a newer version comes back untouched", () => {
    const value = { v: 2, lists: [1] };
    assert.ok(isNewer(parseRows(value)));
    assert.deepEqual(parseRows(value), value);
    assert.ok(!isNewer(parseRows({ v: 1, rows: [] })));
});

test("moved puts one item elsewhere and leaves the list", () => {
    const list = ["a", "b", "c"];
    assert.deepEqual(moved(list, 0, 2), ["b", "c", "a"]);
    assert.deepEqual(moved(list, 2, 0), ["c", "a", "b"]);
    assert.deepEqual(moved(list, 1, 9), ["a", "c", "b"]);
    assert.deepEqual(list, ["a", "b", "c"]);
});
