import assert from "node:assert/strict";
import { test } from "node:test";
import { clampStrength, formatStrength, parseStrength } from "../../web/lib/strength.js";

test("typed text becomes a strength on the grid of 0.01, within the host's range", () => {
    assert.equal(parseStrength("0.8"), 0.8);
    assert.equal(parseStrength(" -0,75 "), -0.75);
    assert.equal(parseStrength("\u22121"), -1);
    assert.equal(parseStrength("0.123"), 0.12);
    assert.equal(parseStrength("1e9"), 100);
    assert.equal(parseStrength("-101"), -100);
});

test("what is no number is no strength", () => {
    for (const text of ["", "  ", "abc", "1.2.3", "NaN", "Infinity"]) assert.equal(parseStrength(text), null);
});

test("steps don't collect rounding errors, and there is no negative zero", () => {
    let value = 0;
    for (let step = 0; step < 20; step++) value = clampStrength(value + 0.05);
    assert.equal(value, 1);
    assert.ok(Object.is(clampStrength(-0.001), 0));
});

test("strengths show two decimals", () => assert.equal(formatStrength(0.5), "0.50"));
