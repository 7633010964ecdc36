import assert from "node:assert/strict";
import { test } from "node:test";
import { countText } from "../../web/widgets/badge.js";

test("a badge counts the rows that are on, whatever the value is", () => {
    const rows = [{ on: true }, { on: false }, { on: true }];
    assert.equal(countText({ v: 1, rows }), "2 of 3 LoRAs");
    assert.equal(countText({ v: 1, rows: [rows[0], rows[2]] }), "2 LoRAs");
    for (const nothing of [{ v: 1, rows: [] }, {}, null, "text", { rows: "text" }]) assert.equal(countText(nothing), "");
    assert.equal(countText({ rows: [null, { on: true }] }), "1 of 2 LoRAs");
});
