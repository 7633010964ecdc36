import assert from "node:assert/strict";
import { test } from "node:test";
import { isNewer, isStrength, moved, newRow, parseRows, problemOf } from "../../web/lib/rows.js";

const ROW = { on: false, name: "styles/ink.safetensors", strength: 0.8, strength_clip: 0.5, blocks: "", hash: "ab", size: 3 };

test("an object, its JSON text and a bare list give the same rows", () => {
    const value = { v: 1, rows: [ROW] };
    assert.deepEqual(parseRows(value), value);
    assert.deepEqual(parseRows(JSON.stringify(value)), value);
    assert.deepEqual(parseRows([ROW]), value);
});

test("nothing gives no rows", () => {
    for (const nothing of [null, undefined, "", "  ", {}, { v: 1 }]) {
        assert.deepEqual(parseRows(nothing), { v: 1, rows: [] });
    }
});

test("a value that holds no rows is kept, and is no error", () => {
    for (const other of ["not json", 3, true]) assert.deepEqual(parseRows(other), { v: 1, rows: [], unreadable: other });
    assert.deepEqual(parseRows({ v: 1, rows: "ink" }), { v: 1, rows: [], unreadable: "ink" });
    assert.deepEqual(parseRows({ v: 1, rows: { a: 1 } }), { v: 1, rows: [], unreadable: { a: 1 } });
});

test("what stands in a row's place stays there, with the reason", () => {
    const { rows } = parseRows({ v: 1, rows: ["styles\\ink.safetensors", 5, null, [1], { name: 7, strength: 0.5 }] });
    assert.deepEqual(rows[0], newRow("styles/ink.safetensors"));
    assert.deepEqual(rows.map((row) => row.unreadable), [undefined, 5, null, [1], 7]);
    assert.equal(problemOf(rows[0]), "");
    assert.match(problemOf(rows[1]), /not a row: 5/);
    assert.match(problemOf(rows[4]), /not a row: 7/);
    assert.equal(rows[4].strength, 0.5);
});

test("a strength that is none is told, in each of its places", () => {
    const good = [0, -100, 100, "0.5", 1.25];
    const bad = [Number.NaN, 1e999, 101, "much", "", null, [], {}, true];
    for (const value of good) assert.ok(isStrength(value), String(value));
    for (const value of bad) assert.ok(!isStrength(value), String(value));
    assert.equal(problemOf({ ...newRow("a"), strength_clip: null, low_strength: null }), "");
    assert.match(problemOf({ ...newRow("a"), strength: Number.NaN }), /found NaN/);
    assert.match(problemOf({ ...newRow("a"), strength: null }), /found null/);
    assert.match(problemOf({ ...newRow("a"), strength_clip: 1e6 }), /found 1000000/);
    assert.match(problemOf({ ...newRow("a"), low_strength: "x".repeat(999) }), /found "x{50,60}…/);
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
